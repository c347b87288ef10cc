"""How often a label is the wrong way round, before anything is trained on it.

The model is random flips: an observed label is the true one with probability 1 - e, whatever the
pair, e < 1/2. Three ways to see e, each where its own assumption holds:

- **repeats**: two labels of one pair, flipped independently, agree with probability
  A = (1 - e)^2 + e^2, so e = (1 - sqrt(2 A - 1)) / 2. (Not 1 - A.) Labels that share their errors,
  as those of one judge asked twice do, show too little: the estimate is then of what is not shared.
- **gold**: the share of labels that differ from labels known to be right.
- **margins**: if the true label follows sigmoid(u . d) of some evidence d about the pair, an
  observed one follows (1 - e) sigmoid(u . d) + e sigmoid(-u . d); see `_margins`.

Source: Chowdhury, Kini, Natarajan (2024), Provably Robust DPO: Aligning Language Models with Noisy
Feedback, for the model and what a rate is for; the three estimates are own. Wilson (1927) for
intervals of shares.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.aggregate._annotators import is_by, votes_by
from prefdata.aggregate._criteria import weigh
from prefdata.errors import RecipeError, nearest
from prefdata.estimate._margins import Rate, fit_margins
from prefdata.measure._wilson import wilson
from prefdata.tables import SIDES, Measures, Pairs, Prompts, Scores, Votes, with_sides

SCOPE = "all"

Floats = NDArray[np.floating[Any]]

UNIDENTIFIED_REPEATS = "not identifiable: repeated labels agree no more than by chance"


def flip_rate(
    votes: Votes | None = None,
    prompts: Prompts | None = None,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    gold: str | None = None,
    margins: Sequence[str] = (),
    criteria: Sequence[str] | None = None,
) -> Measures:
    """Measure `flip_rate` in [0, 1/2) by every way that the tables allow.

    Subjects, each with its 95 % interval in `low` and `high` and the number of pairs as `n`:

    - `repeats: <annotator>`: scored votes of one annotator on the same two completions, criterion
      and order of showing, in several draws.
    - `repeats: <kind>:*`: votes of different annotators of one kind (`human`, `llm`, ...). Valid
      for people who vote on their own; judges share errors, so theirs is a lower bound.
    - `gold: <annotator>` and, with a table of pairs, `gold: pairs`: against the majority of gold.
    - `margins`: the labels of `pairs` against their scores.

    Ties and unscored votes are left out. Intervals are Wilson's, at the number of independent
    votes that the spread over prompt groups leaves (repeats, gold), or those of the profile
    likelihood (margins). Where a rate cannot be told from the data the value is null, with why in
    `note`; the interval still says what is ruled out. With a `label_smoothing` or robust loss,
    give it the value.

    Options:
    - `gold`: an annotator whose votes are right, or a kind of them as `human:*`.
    - `margins`: scores of pairs, higher where the chosen side is better, that were not fitted to
      these labels (or out of fold).
    - `criteria`: the criteria that count; default all.

    Raises `RecipeError` for a criterion, annotator or score that is not there.
    """
    made: list[tuple[str, Rate]] = []
    home = _home(prompts)
    if votes is not None:
        hard = _hard(votes, criteria)
        made += [*_of_repeats(hard, home), *_of_kinds(hard, home)]
        if gold is not None:
            made += _against_gold(hard, pairs, gold, home)
    elif gold is not None:
        raise RecipeError("estimate.flip_rate: gold is given, but there are no votes")
    if margins:
        if pairs is None or scores is None:
            raise RecipeError("estimate.flip_rate: margins need the tables pairs and scores")
        made.append(("margins", fit_margins(_evidence(pairs, scores, margins)).rate))
    return measures("flip_rate", made)


def measures(measure: str, rates: Iterable[tuple[str, Rate]]) -> Measures:
    """Rates as rows of `measures`."""
    rows = [
        {
            "measure": measure,
            "subject": subject,
            "value": rate.value if rate.is_identified else None,
            "n": rate.n,
            "low": rate.low,
            "high": rate.high,
            "note": rate.note or None,
        }
        for subject, rate in rates
    ]
    dtypes = tables.schema("measures").dtypes
    return Measures(pl.DataFrame(rows, schema=dtypes).sort("measure", "subject"))


def fit_repeats(n_a: Floats, n_b: Floats, groups: NDArray[np.int64]) -> Rate:
    """The rate from units with `n_a` labels for a and `n_b` for b, n_a + n_b >= 2 each.

    A unit of m labels counts as m / 2 comparisons of two. `groups` number what units belong
    together.
    """
    m = n_a + n_b
    agree = (n_a * (n_a - 1) + n_b * (n_b - 1)) / (2 * (m - 1))
    share, low, high = _share(agree, m / 2, groups)
    n = len(m)
    if not n:
        return Rate(np.nan, 0.0, 0.5, 0, "no pair has two labels")
    bounds = [float(_flips(each)) for each in (high, low)]
    if low <= 0.5:
        return Rate(np.nan, bounds[0], 0.5, n, UNIDENTIFIED_REPEATS)
    return Rate(float(_flips(share)), bounds[0], bounds[1], n, "")


def _flips(agreement: float) -> float:
    return (1 - np.sqrt(np.clip(2 * agreement - 1, 0, 1))) / 2


def fit_share(wrong: Floats, groups: NDArray[np.int64]) -> Rate:
    """The rate as the mean of `wrong` in [0, 1] over units."""
    if not len(wrong):
        return Rate(np.nan, 0.0, 1.0, 0, "no pair has a gold label")
    share, low, high = _share(wrong, np.ones(len(wrong)), groups)
    note = "above 1/2: more often wrong than right" if low > 0.5 else ""
    return Rate(share, low, high, len(wrong), note)


def _share(hits: Floats, of: Floats, groups: NDArray[np.int64]) -> tuple[float, float, float]:
    """sum(hits) / sum(of) with Wilson's interval at the effective number of independent trials."""
    if not len(of):
        return np.nan, 0.0, 1.0
    total = of.sum()
    share = float(hits.sum() / total)
    residual = np.bincount(groups, hits - share * of)
    n = len(residual)
    spread = float((residual**2).sum()) / total**2 * n / max(n - 1, 1)
    effective = min(share * (1 - share) / spread, total) if spread > 0 else float(min(n, total))
    low, high = wilson(share, float(effective))
    return share, max(0.0, low), min(1.0, high)


def _home(prompts: Prompts | None) -> pl.DataFrame:
    """The group of each prompt."""
    if prompts is None:
        return pl.DataFrame(schema={"prompt_id": pl.String, "group": pl.String})
    return prompts.select("prompt_id", group=pl.coalesce("group", "prompt_id"))


def _hard(votes: Votes, criteria: Sequence[str] | None) -> pl.DataFrame:
    """Votes for one side or the other, with `for_a` 1 or 0."""
    scored = weigh(votes, criteria, None).filter(
        pl.col("preference").is_not_null() & (pl.col("preference") != 0.5)
    )
    return scored.with_columns(for_a=(pl.col("preference") > 0.5).cast(pl.Float64))


def _numbered(frame: pl.DataFrame, home: pl.DataFrame) -> NDArray[np.int64]:
    """The prompt groups of rows as numbers; a pair of no prompt is a group of its own."""
    own = pl.concat_str(*SIDES)
    known = frame.join(home, on="prompt_id", how="left", maintain_order="left")
    named = known.select(pl.coalesce("group", "prompt_id", own).rank("dense"))
    return named.to_series().to_numpy().astype(np.int64) - 1


def _counted(votes: pl.DataFrame, *unit: str) -> pl.DataFrame:
    counted = votes.group_by(*SIDES, "prompt_id", "criterion", *unit).agg(
        n_a=pl.col("for_a").sum(), m=pl.len().cast(pl.Float64)
    )
    return counted.filter(pl.col("m") >= 2).sort(*SIDES, "criterion", *unit)


def _of_repeats(votes: pl.DataFrame, home: pl.DataFrame) -> list[tuple[str, Rate]]:
    made: list[tuple[str, Rate]] = []
    for (annotator,), own in votes.group_by("annotator", maintain_order=True):
        units = _counted(own, "a_first")
        if units.height:
            made.append((f"repeats: {annotator}", _fit_counted(units, home)))
    return made


def _of_kinds(votes: pl.DataFrame, home: pl.DataFrame) -> list[tuple[str, Rate]]:
    """One vote of each annotator on a pair: its majority, where it has one."""
    kind = pl.col("annotator").str.extract(r"^(\w+):")
    each = votes.group_by(*SIDES, "prompt_id", "criterion", "annotator").agg(pl.mean("for_a"))
    each = each.filter(pl.col("for_a") != 0.5).with_columns(
        pl.col("for_a").round(0, mode="half_away_from_zero"), kind=kind
    )
    made: list[tuple[str, Rate]] = []
    for (name,), own in each.sort("kind").group_by("kind", maintain_order=True):
        units = _counted(own)
        if units.height:
            made.append((f"repeats: {name}:*", _fit_counted(units, home)))
    return made


def _fit_counted(units: pl.DataFrame, home: pl.DataFrame) -> Rate:
    n_a = units["n_a"].to_numpy()
    return fit_repeats(n_a, units["m"].to_numpy() - n_a, _numbered(units, home))


def _against_gold(
    votes: pl.DataFrame, pairs: Pairs | None, gold: str, home: pl.DataFrame
) -> list[tuple[str, Rate]]:
    known = votes_by(votes, gold, "estimate.flip_rate")
    truth = known.group_by(*SIDES, "criterion").agg(truth=pl.mean("for_a"))
    truth = truth.filter(pl.col("truth") != 0.5).with_columns(pl.col("truth") > 0.5)
    labelled = votes.filter(~is_by(gold))
    if pairs is not None:
        labelled = pl.concat([labelled, _as_votes(pairs, truth)], how="diagonal")
    met = labelled.join(truth, on=[*SIDES, "criterion"])
    met = met.with_columns(wrong=((pl.col("for_a") == 1) != pl.col("truth")).cast(pl.Float64))
    units = met.group_by("annotator", *SIDES, "prompt_id", "criterion").agg(pl.mean("wrong"))
    made: list[tuple[str, Rate]] = []
    ordered = units.sort("annotator", *SIDES, "criterion")
    for (name,), own in ordered.group_by("annotator", maintain_order=True):
        rate = fit_share(own["wrong"].to_numpy(), _numbered(own, home))
        made.append((f"gold: {name}", rate))
    return made


def _as_votes(pairs: Pairs, truth: pl.DataFrame) -> pl.DataFrame:
    """The pairs as votes of "pairs", on every criterion of gold."""
    sides = with_sides(pairs).select(
        "prompt_id", *SIDES, annotator=pl.lit("pairs"), for_a=pl.col("a_chosen").cast(pl.Float64)
    )
    return sides.join(truth.select(*SIDES, "criterion"), on=SIDES)


def _evidence(pairs: Pairs, scores: Scores, names: Sequence[str]) -> Floats:
    """The scores of each pair that has them all, (pairs, names)."""
    about = scores.filter(pl.col("subject") == "pair")
    known = about["score"].unique().to_list()
    rows = pairs.select("pair_id").sort("pair_id")
    for name in names:
        if known and name not in known:
            raise RecipeError(
                f"estimate.flip_rate: no pair has a score {name!r}; {nearest(name, known)}"
            )
        one = about.filter(pl.col("score") == name).group_by("subject_id").agg(pl.mean("value"))
        rows = rows.join(one.rename({"subject_id": "pair_id", "value": name}), on="pair_id")
    return rows.select(*names).to_numpy()
