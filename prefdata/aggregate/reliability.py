"""One model of all annotators: how strong completions are, and how much each vote says about it.

    logit P(u prefers a to b) = alpha_u (theta_a - theta_b)
        + beta_u first + gamma_u length + phi_u own + kappa s_ab + tau t_uab

u is an annotator on a criterion, alpha its discrimination; first is 1 where a was shown first and
-1 where b was, length the log-ratio of the lengths of a and b, own 1 where a comes from a model of
the annotator's family and b does not, -1 in the converse case. Strengths theta, and the effects,
are normal around 0 and alpha around 1, all with variance 1: no prior was tuned on data.

A vote counts what the likelihood says, and nothing is counted twice. The coefficients are those of
highest density once theta, s and t are summed out (Bock and Aitkin, 1981). What annotators share
besides the truth is in the model:

- s, standard normal, is an error on the pair that all share, t one that an annotator repeats when
  it votes on the pair again; kappa and tau are their sizes. All have them to the same extent, so
  that who repeats itself more, and more than others do, is taken to see more of the truth: one who
  contradicts itself has a small alpha. They are in the model where three or more annotators voted
  repeatedly on pairs, in other orders or draws, and only if Schwarz's criterion is for them.
- Annotators of one group, and copies, whose votes correlate nearly perfectly, share one vote.
- What is left shows in residuals: their correlation rho gives each pair a design effect,
  1 + (n - 1) rho for n equal annotators, by which its votes are divided before P is stated.

Known limits. Of one annotator that voted once on each pair nothing can be learnt: its alpha stays
1. Of one or two the error that they repeat cannot be told from the truth, and P is too sure by it.
Where most annotators share an error and none sees more than it, the error is taken for the truth;
gold votes mend that.

Source: Birnbaum 1968 for the model of two parameters; Raykar et al. 2010, "Learning From Crowds";
Chen et al. 2013, "Pairwise Ranking Aggregation in a Crowdsourced Setting", for alpha; Bock and
Aitkin 1981, "Marginal maximum likelihood estimation of item parameters"; Minka 2001, "Expectation
propagation"; Schwarz 1978, "Estimating the dimension of a model"; Kish 1965, "Survey Sampling".
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from prefdata import tables
from prefdata.aggregate._copies import ALIKE, alike
from prefdata.aggregate._criteria import weigh
from prefdata.aggregate._graph import numbers
from prefdata.aggregate._reliability_grid import Evidence, Floats, Ints
from prefdata.aggregate._reliability_model import (
    GOLD_VOTES,
    Fit,
    fit_reliability,
    probability,
    strengths_of,
    tempered,
)
from prefdata.aggregate._reliability_shared import (
    first_guess,
    repeatability,
    shared_error,
)
from prefdata.aggregate._tally import coded, preferences, with_prompts
from prefdata.errors import RecipeError, nearest
from prefdata.judge.family import first_named, with_families
from prefdata.measure._texts import log_length
from prefdata.tables import SIDES, Completions, Measures, Samples, Scores, Strengths, Votes

# An annotator's reliability is estimated from its votes on all prompts.
SCOPE = "all"

SPARSE: Any = sparse
GRAPHS: Any = csgraph

EFFECTS = ["position_effect", "length_effect", "self_family_effect"]


def reliability(
    votes: Votes,
    completions: Completions | None = None,
    samples: Samples | None = None,
    *,
    gold: str | None = None,
    groups: Mapping[str, str] | None = None,
    copies: float = ALIKE,
    families: Mapping[str, str] | None = None,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    max_iterations: int = 500,
    estimator: str = "reliability",
) -> tuple[Strengths, Scores, Measures]:
    """Estimate strengths of completions and the reliability of annotators from all votes together.

    A tie is half a vote each way. Unscored votes (abstentions, replies without a verdict, failures)
    are left out. Completions that no votes connect are estimated apart, each component around 0;
    one that always wins has a finite strength, by the prior.

    - `strengths`: theta on the log scale of an annotator of discrimination 1, of mean 0 over the
      completions that votes connect, and its posterior standard deviation (null where more than
      2,000 are connected).
    - `scores` of pairs: `preference`, P(the smaller completion_id is the stronger), in [0, 1]; its
      stderr is what not knowing the discriminations exactly adds, and no more.
    - `scores` of annotators, under the model "<estimator>:<criterion>": `discrimination` (near 0
      guesses, below 0 votes against the others), `position_effect` (log-odds for the first shown),
      `length_effect` (log-odds per factor e of length), `self_family_effect` (log-odds for the
      own family), each with its standard error and only where votes could show it. What length is
      worth to all alike is taken for quality, as only gold could tell the two apart: without gold
      the effect is what an annotator has beyond the others;
      `repeatability` in [0, 1], the correlation of its own votes on a pair, its liking of the first
      place removed, where it voted repeatedly; `copies`, how many annotators share its vote.
    - `measures` of subject "all": `pair_error` kappa and `own_error` tau, in log-odds, 0 where they
      are not in the model; `shared_error` rho in [0, 1]; and `design_effect`, the mean by which the
      votes of a pair were divided, at least 1.

    The length effect needs `completions`, the self-family effect `samples`.

    Options:
    - `gold`: the annotators whose votes are the truth, one or a pattern as "human:gold*"; they
      anchor the strengths and are not estimated.
    - `groups`: the group of annotators by a pattern on the name, as {"llm:gpt-4/*" = "gpt-4"}; the
      first that fits counts. The votes of a group on a pair, by one criterion, count as one.
    - `copies`: annotators whose votes on at least 20 common pairs correlate at least so highly are
      a group too; above 0; above 1 never. 0.98 is one other verdict in a hundred. Good judges
      agree as well: lowering it takes from those who are right together.
    - `families`: the family of annotators and generators by a pattern on the name, "" for none;
      then the `family` of the recipe's models counts, then `families.toml` of the judges.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `max_iterations`: steps before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`.

    Raises `ConvergenceError`; `RecipeError` for gold annotators or a criterion without votes, or an
    option out of range; `TableError` where the prompt of a completion cannot be found.

    Source: Raykar et al. (2010), Learning From Crowds; Chen et al. (2013), Pairwise Ranking
    Aggregation in a Crowdsourced Setting.
    """
    if not copies > 0:
        raise RecipeError(f"aggregate.reliability: copies is {copies}; give a number above 0")
    rows = weigh(votes, criteria, weights).filter(pl.col("preference").is_not_null())
    unit = ["annotator", "criterion"]
    unit_names = rows.select(unit).unique().sort(unit)
    rows = rows.join(unit_names.with_row_index("unit"), on=unit)
    rows = coded(rows, *SIDES).sort(*SIDES, "unit", "draw", "a_first")
    rows = rows.with_columns(pl.col(SIDES).cast(pl.String), pair=pl.struct(SIDES).rle_id())
    pairs = rows.select(SIDES).filter(rows["pair"].is_first_distinct())
    ids = pl.concat([pairs[side] for side in SIDES]).unique().sort()
    is_gold = _gold(unit_names["annotator"], gold)
    pair_one, pair_other = (numbers(pairs[side], ids) for side in SIDES)
    seen = Evidence(
        pair_one=pair_one,
        pair_other=pair_other,
        n_items=len(ids),
        pair=rows["pair"].cast(pl.Int64).to_numpy(),
        unit=rows["unit"].cast(pl.Int64).to_numpy(),
        n_units=unit_names.height,
        y=rows["preference"].to_numpy(),
        effects=_effects(rows, completions, samples, families),
        weight=rows["weight"].to_numpy(),
        gold=is_gold,
        start=np.ones(unit_names.height),
        prior=np.ones(unit_names.height),
    )
    repeat = repeatability(seen)
    shared, sharing = _sharing(seen, unit_names, groups, copies)
    made = _weighed(seen, shared, first_guess(seen, repeat))
    fit = fit_reliability(made, max_iterations=max_iterations)
    rho, effect = shared_error(made, fit)
    lighter, final = tempered(made, fit, effect)
    value, error = probability(lighter, final)
    strength, variance = strengths_of(final)
    strengths = pl.DataFrame(
        {"completion_id": ids, "strength": strength, "stderr": np.sqrt(variance)},
        schema_overrides={"completion_id": pl.String},
    )
    scores = pl.concat(
        [
            preferences(pairs.with_columns(value=value, stderr=error), estimator),
            _of_annotators(unit_names, seen, fit, repeat, sharing, estimator),
        ]
    )
    return (
        with_prompts(strengths, votes, completions, estimator),
        Scores(scores),
        _measures(fit, rho, effect, len(rows)),
    )


def _gold(annotators: pl.Series, pattern: str | None) -> NDArray[np.bool_]:
    names = annotators.to_list()
    found = [pattern is not None and fnmatchcase(name, pattern) for name in names]
    if pattern is not None and names and not any(found):
        raise RecipeError(
            f"aggregate.reliability: no votes of gold = {pattern!r}; {nearest(pattern, names)}"
        )
    return np.array(found, dtype=bool)


def _effects(
    rows: pl.DataFrame,
    completions: Completions | None,
    samples: Samples | None,
    families: Mapping[str, str] | None,
) -> Floats:
    """What may move a vote besides the difference: (votes, 3), positive in favour of a."""
    first = pl.col("a_first").cast(pl.Float64) * 2 - 1
    place = rows.select(first.fill_null(0.0)).to_series().to_numpy()
    columns: list[Floats] = [place, np.zeros(rows.height), np.zeros(rows.height)]
    if completions is not None:
        known = log_length(completions)
        a, b = (_looked_up(rows[side], known).fill_null(0.0).to_numpy() for side in SIDES)
        columns[1] = a - b
    if samples is not None:
        columns[2] = _own_family(rows, samples, families)
    return np.stack(columns, 1)


def _looked_up(ids: pl.Series, known: pl.DataFrame) -> pl.Series:
    names = ids.rename("completion_id").to_frame()
    return names.join(known, on="completion_id", how="left", maintain_order="left").to_series(1)


def _own_family(rows: pl.DataFrame, samples: Samples, families: Mapping[str, str] | None) -> Floats:
    known = with_families(rows, samples, families)
    a, b = ((known[side] == known["family"]).fill_null(False) for side in ("family_a", "family_b"))
    return a.cast(pl.Float64).to_numpy() - b.cast(pl.Float64).to_numpy()


def _sharing(
    seen: Evidence, units: pl.DataFrame, groups: Mapping[str, str] | None, copies: float
) -> tuple[Floats, Ints]:
    """The share of a vote that each vote keeps, and how many units are in each unit's group."""
    given = [
        (first_named(annotator, groups or {}), criterion)
        for annotator, criterion in units.select("annotator", "criterion").iter_rows()
    ]
    same = {group: place for place, group in enumerate(given)}
    links = [(place, same[group]) for place, group in enumerate(given) if group[0] is not None]
    i, j = np.array(links, dtype=np.int64).reshape(-1, 2).T
    k, m = _copies(seen, units["annotator"].to_list(), copies)
    n = seen.n_units
    edges = SPARSE.coo_array((np.ones(len(i) + len(k)), (np.r_[i, k], np.r_[j, m])), shape=(n, n))
    _, group = GRAPHS.connected_components(edges, directed=False)
    group = group.astype(np.int64)
    # Of those of a group that voted on this pair, each has an equal part.
    at = seen.pair[seen.cells] * n + group[seen.unit[seen.cells]]
    _, place, count = np.unique(at, return_inverse=True, return_counts=True)
    present = np.repeat(count[place], seen.cell_sizes)
    return 1 / present, np.bincount(group, minlength=n)[group]


def _copies(seen: Evidence, names: list[str], least: float) -> tuple[Ints, Ints]:
    """Units that vote alike. Of one annotator's criteria none is a copy of another: they may well
    agree."""
    i, j = alike(seen.pair, seen.unit, 2 * seen.y - 1, least=least)
    person = np.unique(np.array(names), return_inverse=True)[1]
    close = (person[i] != person[j]) & ~seen.gold[i] & ~seen.gold[j]
    return i[close], j[close]


def _weighed(seen: Evidence, shared: Floats, start: Floats) -> Evidence:
    gold = seen.gold[seen.unit]
    weight = seen.weight * np.where(gold, GOLD_VOTES, shared)
    effects = np.where(gold[:, None], 0.0, seen.effects)
    votes = np.bincount(seen.unit, minlength=seen.n_units)
    prior = np.bincount(seen.unit, shared, seen.n_units) / np.maximum(votes, 1)
    return replace(seen, weight=weight, effects=effects, start=start, prior=prior)


def _of_annotators(
    names: pl.DataFrame, seen: Evidence, fit: Fit, repeat: Floats, sharing: Ints, estimator: str
) -> pl.DataFrame:
    base = names.select(
        pl.col("annotator").alias("subject_id"),
        pl.lit("annotator").alias("subject"),
        pl.format("{}:{}", pl.lit(estimator), "criterion").alias("model"),
    )
    nothing = np.full(seen.n_units, np.nan)
    found = fit.state.coefficients
    columns = [("discrimination", found[:, 0], fit.errors[:, 0], ~seen.gold)]
    for place, name in enumerate(EFFECTS):
        moved = np.bincount(seen.unit, np.abs(seen.effects[:, place]), seen.n_units) > 0
        columns.append((name, found[:, place + 1], fit.errors[:, place + 1], moved & ~seen.gold))
    columns.append(("repeatability", repeat, nothing, ~seen.gold & ~np.isnan(repeat)))
    columns.append(("copies", sharing.astype(float), nothing, ~seen.gold))
    made = [
        base.with_columns(
            pl.lit(name).alias("score"),
            pl.Series("value", value),
            pl.Series("stderr", error).fill_nan(None),
            pl.lit(None, pl.String).alias("request_id"),
        ).filter(pl.Series(shown))
        for name, value, error, shown in columns
    ]
    return pl.concat(made).select(*tables.schema("scores").columns)


def _measures(fit: Fit, rho: float, effect: Floats, n: int) -> Measures:
    if not n:
        return Measures(tables.empty("measures"))
    frame = pl.DataFrame(
        {
            "measure": ["pair_error", "own_error", "shared_error", "design_effect"],
            "subject": ["all"] * 4,
            "value": [*fit.state.shared.tolist(), rho, float(effect.mean())],
            "n": [n] * 4,
        }
    )
    return Measures(tables.check("measures", frame, where="aggregate.reliability"))
