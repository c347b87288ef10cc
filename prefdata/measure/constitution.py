"""Does a constitution explain the labels, or does the search that found it explain any labels?

It may be from any search (`explain.icai`, `explain.critiq`) or imported with its votes.

*Reconstruction* is how often an annotator prefers the chosen completion, on the pairs that the
search looked at and on those it did not see (a score such as `icai_held_out`). With the votes of
`annotate.constitution`, with and without rules, and of anybody else, they stand side by side.

*The null*: the best of many candidates agrees with any labels. With c_up in {1, 0, -1} what
candidate p says of comparison u, and labels y_u in {1, -1}, the search takes the K candidates with
the highest sum_u y_u c_up, of those that pass its filter, and the constitution predicts the sign of
the sum of their c_up. Its agreement with y (a tie is one half) is compared with that of the same
search on labels that are turned at random, all of a prompt group together:

    p = (1 + number of draws that agree at least as well) / (1 + number of draws)

*Each principle* is tested where it was not chosen: on held-out pairs, by a one-sided sign test over
prompt groups of it being more often for than against; q is p after the procedure of Benjamini and
Hochberg over all kept principles.

Source: Findeis et al. 2024, "Inverse Constitutional AI" (reconstruction); Ojala and Garriga 2010,
"Permutation tests for studying classifier performance"; Benjamini and Hochberg 1995.
"""

from typing import Any

import numpy as np
import polars as pl
from scipy import special, stats

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.explain._labelled import Apart, labels
from prefdata.explain._tally import Combine
from prefdata.measure._means import means
from prefdata.measure._principles import against_null, principle_cells
from prefdata.tables import SIDES, Measures, Pairs, Principles, Prompts, Scores, Votes

SCOPE = "all"

SPECIAL: Any = special
STATS: Any = stats
# How the scores end that mark the pairs that a search did not see.
HELD_OUT = "_held_out"


def constitution(
    pairs: Pairs,
    votes: Votes,
    principles: Principles,
    prompts: Prompts,
    scores: Scores | None = None,
    *,
    held_out: str | None = None,
    apart: Apart = "group",
    min_relevance: float = 0.1,
    combine: Combine = "unanimous",
    draws: int = 1000,
    seed: int = 0,
) -> Measures:
    """Rows of measures, in [0, 1]:

    - `reconstruction_train`, `reconstruction_held_out`: the mean over comparisons of the share of
      an annotator's votes that prefer the chosen one; subject: every annotator but principles.
    - `principle_accuracy_held_out`: for / (for + against) of a kept principle on held-out pairs,
      with `principle_p` and `principle_q`; subject: the principle's annotator.
    - `constitution_agreement`, `constitution_null` (the 95th percentile of the null) and
      `constitution_p`; subject "constitution". A constitution counts only above its null. Where
      votes were stopped early (`error` of `explain.icai`), the null has seen fewer votes of what
      was stopped, so it is a little too low: stop nothing to have it exactly. `n`: the comparisons
      on which principles voted.

    `n` counts comparisons. Without a score that marks pairs as held out all are taken as looked at.

    Options:
    - `held_out`: the score that is 1 for the pairs that the search did not see; null: the one whose
      name ends in "_held_out".
    - `apart`: what is independent of what: "group", the prompt groups; or "comparison", where a few
      prompts have all comparisons.
    - `min_relevance`, `combine`: as in `explain.icai`.
    - `draws`: label permutations; p is never below 1 / (1 + draws).
    - `seed`: of the permutations.
    """
    if draws < 19:
        raise RecipeError(f"measure.constitution: draws = {draws}; p < 0.05 needs at least 19")
    rows = _with_held_out(labels(pairs, prompts), pairs, scores, held_out)
    if apart == "comparison":
        rows = rows.with_columns(group=pl.concat_str(SIDES, separator=" "))
    told = votes.join(rows.select(*SIDES, "group", "a_chosen", "held_out"), on=SIDES)
    by_principle = pl.col("annotator").str.starts_with("principle:")
    search = against_null(
        rows, told.filter(by_principle), principles, min_relevance, combine, draws, seed
    )
    made = [_reconstruction(told.filter(~by_principle)), search, _alone(told, principles, combine)]
    return tables.typed(Measures, pl.concat(made, how="diagonal"))


def _with_held_out(
    rows: pl.DataFrame, pairs: Pairs, scores: Scores | None, score: str | None
) -> pl.DataFrame:
    if scores is None:
        return rows.with_columns(held_out=False)
    there = scores.filter(pl.col("subject") == "pair")["score"].unique().to_list()
    marks = sorted(name for name in there if name.endswith(HELD_OUT))
    if score is None and len(marks) > 1:
        raise RecipeError(
            f"measure.constitution: pairs are held out by {', '.join(marks)}; name one as held_out"
        )
    if score is not None and there and score not in there:
        raise RecipeError(
            f"measure.constitution: no pair has a score {score!r}; {nearest(score, there)}"
        )
    name = score or "".join(marks)
    marked = scores.filter(pl.col("score") == name, pl.col("value") == 1)
    aside = pairs.join(marked, left_on="pair_id", right_on="subject_id", how="semi")
    known = tables.with_sides(aside).select(SIDES).unique().with_columns(held_out=True)
    return rows.join(known, on=SIDES, how="left", maintain_order="left").with_columns(
        pl.col("held_out").fill_null(False)
    )


def _reconstruction(votes: pl.DataFrame) -> pl.DataFrame:
    hit = pl.when("a_chosen").then("preference").otherwise(1 - pl.col("preference"))
    each = (
        votes.drop_nulls("preference")
        .group_by("annotator", "group", "completion_a", "completion_b", "held_out")
        .agg(hit=hit.sort().mean())
        .rename({"annotator": "subject"})
    )
    made = [
        means(each.filter(aside), "hit", f"reconstruction_{name}")
        for name, aside in (("train", ~pl.col("held_out")), ("held_out", pl.col("held_out")))
    ]
    return pl.concat(made)


def _alone(told: pl.DataFrame, principles: Principles, combine: Combine) -> pl.DataFrame:
    """Each kept principle on held-out pairs."""
    ids = principles["principle_id"].to_list()
    own = pl.col("annotator").str.extract("^principle:([^/]+)").is_in(ids)
    votes = told.filter(own, "held_out")
    names = sorted(votes["annotator"].unique())
    rows = votes.select("completion_a", "completion_b", "group").unique().sort(pl.all())
    cells = principle_cells(rows, votes, names, combine)
    decided = pl.DataFrame(
        {"row": np.nonzero(np.abs(cells) == 1)[0], "column": np.nonzero(np.abs(cells) == 1)[1]},
        {"row": pl.Int64, "column": pl.Int64},
    )
    told_by = decided.with_columns(
        subject=pl.Series([names[at] for at in decided["column"]], dtype=pl.String),
        group=rows["group"].gather(decided["row"]),
        hit=pl.Series(cells[decided["row"], decided["column"]] > 0, dtype=pl.Boolean),
    )
    subjects = pl.DataFrame({"subject": names}, {"subject": pl.String})
    hit = told_by.with_columns(pl.col("hit").cast(pl.Float64))
    accuracy = means(hit, "hit", "principle_accuracy_held_out", subjects)
    sign = told_by.group_by("subject", "group").agg(
        way=(2 * pl.col("hit").cast(pl.Int64) - 1).sum().sign()
    )
    counted = sign.group_by("subject").agg(
        agree=(pl.col("way") > 0).sum(), n=(pl.col("way") != 0).sum()
    )
    counted = subjects.join(counted, on="subject", how="left", maintain_order="left")
    counted = counted.with_columns(pl.col("agree", "n").fill_null(0).cast(pl.Int64))
    n, agree = counted["n"].to_numpy(), counted["agree"].to_numpy()
    # P(at least `agree` of n by chance).
    p = np.where(agree > 0, SPECIAL.bdtrc(agree - 1.0, np.maximum(n, 1), 0.5), 1.0)
    q = STATS.false_discovery_control(p)
    tested = [
        counted.select(
            pl.lit(measure).alias("measure"),
            "subject",
            value=pl.Series(value, dtype=pl.Float64),
            note=pl.lit(f"sign test over groups, {len(names)} principles"),
            n="n",
        )
        for measure, value in (("principle_p", p), ("principle_q", q))
    ]
    return pl.concat([accuracy, *tested], how="diagonal")
