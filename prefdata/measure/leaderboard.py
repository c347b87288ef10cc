"""Generators ranked by the votes on their completions: win rates and Bradley-Terry strengths.

A vote on completions of two generators is a comparison of these. The strengths theta maximise

    sum  w log sigmoid(theta_i - theta_j) + (1 - w) log sigmoid(theta_j - theta_i)

over comparisons, with w the preference for i (a tie is 1/2), and a weak prior. Comparisons on one
prompt, both orders of a judge and several judges are not independent, so the errors are not those
of the likelihood: with H its information and u_g the gradient of group g of G groups of prompts,

    G / (G - 1) H^-1 (sum_g u_g u_g') H^-1

Source: Bradley and Terry 1952; Chiang et al. 2024, "Chatbot Arena" (sandwich errors); Li et al.
2023, AlpacaEval (win rates against a baseline); "The Fellowship of the LLMs" 2024 for ties that
nobody wins.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from prefdata.aggregate._criteria import on_criteria
from prefdata.aggregate._graph import apart_by_items
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.errors import RecipeError
from prefdata.generate._generators import refuse_unknown
from prefdata.measure._means import (
    ALIKE,
    CONNECTED,
    NO_ERROR,
    ONE_GROUP,
    means,
    student,
    unconnected,
    unheard,
    with_groups,
)
from prefdata.tables import Measures, Prompts, Samples, Votes

SCOPE = "all"
SPARSE: Any = sparse

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def leaderboard(
    votes: Votes,
    samples: Samples,
    prompts: Prompts | None = None,
    *,
    baseline: str | None = None,
    ties: Literal["half", "lost", "left_out"] = "half",
    annotators: Sequence[str] | None = None,
    criteria: Sequence[str] | None = None,
    prior: float = 0.1,
) -> Measures:
    """Measure each generator by the votes on its completions; the subject is the generator.

    - `win_rate`: its mean share of its comparisons (with `baseline`, of those against that one), in
      [0, 1].
    - `tie_rate`: the share of these that are ties (a preference of just 1/2), in [0, 1].
    - `generator_strength`: its Bradley-Terry strength by all comparisons, on the log scale, of
      mean 0 over generators that comparisons connect; with `baseline`, above that one's. Here a
      tie is always half a win for each.

    A vote counts once for each two generators of its two completions; those of the same generator,
    and unscored votes, count for nothing. `n` is the number of comparisons of the generator.
    `stderr`, `low` and `high` are over groups of prompts; a strength has none where these are all
    alike, as where every vote is a tie.

    Options:
    - `baseline`: the generator to compare all others with.
    - `ties`: what a tie is in a win rate: "half" a win for each; "lost" for both, so that the rate
      is wins by all comparisons; or "left_out" of it.
    - `annotators`: those whose votes count; default all.
    - `criteria`: the criteria that count; default all.
    - `prior`: wins, and as many losses, of each generator against an opponent of strength 0.

    Of an annotator without votes there is a win rate of null, whose note says so. All is null where
    the baseline is in no comparison. Raises `RecipeError` for a criterion without votes, a baseline
    without samples, and a `prior` below 0.
    """
    if not 0 <= prior < float("inf"):
        raise RecipeError(f"measure.leaderboard: prior is {prior}; give 0 or a number above")
    if baseline is not None:
        refuse_unknown([baseline], samples, where="measure.leaderboard")
    missing = unheard(["win_rate"], votes, annotators or ())
    counted = on_criteria(votes, criteria)
    if annotators is not None:
        counted = counted.filter(pl.col("annotator").is_in(list(annotators)))
    played = _games(with_groups(counted, prompts), samples)
    generators = pl.concat([played["one"], played["other"]]).unique().sort()
    if baseline is not None and baseline not in generators:
        names = ("generator_strength", "win_rate")
        return Measures(
            pl.concat([*(unconnected(name, generators, baseline) for name in names), missing])
        )
    turned = played.rename({"one": "other", "other": "one"}).with_columns(won=1 - pl.col("won"))
    both = pl.concat([played, turned.select(played.columns)]).rename({"one": "subject"})
    if baseline is not None:
        both = both.filter(pl.col("other") == baseline)
    tied = pl.col("won") == 0.5
    rated = both.with_columns(tied=tied.cast(pl.Float64))
    if ties == "lost":
        rated = rated.with_columns(won=pl.when(tied).then(0.0).otherwise("won"))
    elif ties == "left_out":
        rated = rated.with_columns(won=pl.when(~tied).then("won"))
    made = [
        missing,
        means(rated, "won", "win_rate", note=None if ties == "half" else f"ties {ties}"),
        means(rated, "tied", "tie_rate"),
    ]
    if len(generators):
        made.append(_strengths(played, generators, baseline, prior))
    return Measures(pl.concat(made).sort("measure", "subject"))


def _games(votes: pl.DataFrame, samples: Samples) -> pl.DataFrame:
    """Comparisons of generators: `one, other, won, group`, with one before other by name."""
    of = samples.select("completion_id", "generator").unique()
    first = of.rename({"completion_id": "completion_a", "generator": "one"})
    second = of.rename({"completion_id": "completion_b", "generator": "other"})
    played = (
        votes.drop_nulls("preference")
        .select("completion_a", "completion_b", "group", won="preference")
        .join(first, on="completion_a")
        .join(second, on="completion_b")
        .filter(pl.col("one") != pl.col("other"))
    )
    turn = pl.col("one") > pl.col("other")
    return played.select(
        one=pl.min_horizontal("one", "other"),
        other=pl.max_horizontal("one", "other"),
        won=pl.when(turn).then(1 - pl.col("won")).otherwise("won"),
        group="group",
    ).sort("one", "other", "group", "won")


def _strengths(
    played: pl.DataFrame, generators: pl.Series, baseline: str | None, prior: float
) -> pl.DataFrame:
    cells = played.group_by("one", "other", "group", maintain_order=True).agg(
        wins=pl.col("won").sum(), n=pl.len().cast(pl.Float64)
    )
    kind = pl.Enum(generators)
    one, other = (cells[side].cast(kind).to_physical().cast(pl.Int64).to_numpy()
                  for side in ("one", "other"))  # fmt: skip
    group = cells["group"].rank("dense").to_numpy().astype(np.int64) - 1
    at = None if baseline is None else generators.to_list().index(baseline)
    theta, errors, component = fit_clustered(
        one, other, cells["wins"].to_numpy(), cells["n"].to_numpy(), group,
        n_items=len(generators), at=at, prior=prior,
    )  # fmt: skip
    several = int(group.max()) > 0
    t = float(student(pl.Series([group.max() + 1.0]))[0] or 0.0)
    n = pl.concat([played["one"], played["other"]]).value_counts(name="n")
    n = n.rename({n.columns[0]: "subject"})
    own = np.ones(len(theta), bool) if at is None else component == component[at]
    found = pl.DataFrame({"subject": generators, "value": theta, "stderr": errors, "own": own})
    error = pl.when(pl.lit(several) & pl.col("own")).then(pl.col("stderr").fill_nan(None))
    note = f"above {baseline}" if baseline is not None else None
    said = pl.when(pl.col("stderr").is_nan()).then(pl.lit(ALIKE)).otherwise(pl.lit(note))
    said = said if several else pl.lit(ONE_GROUP)
    return found.join(n, on="subject", maintain_order="left").select(
        pl.lit("generator_strength").alias("measure"),
        "subject",
        value=pl.when("own").then("value"),
        stderr=error,
        low=pl.col("value") - t * error,
        high=pl.col("value") + t * error,
        note=pl.when("own").then(said).otherwise(pl.lit(f"{CONNECTED} {baseline}")),
        n=pl.col("n").cast(pl.Int64),
    )


def fit_clustered(
    one: Ints,
    other: Ints,
    wins: Floats,
    n: Floats,
    group: Ints,
    *,
    n_items: int,
    at: int | None = None,
    prior: float = 0.1,
) -> tuple[Floats, Floats, Ints]:
    """Strengths, their errors over groups, and the component of each item.

    Each row has `wins` of item `one` of `n` comparisons with `other` in a group. Strengths are of
    mean 0 in their component, or above item `at`. An error is NaN where the groups, all alike in
    it, do not show it.
    """
    fit = fit_bradley_terry(one, other, wins, n - wins, n_items=n_items, prior=prior)
    theta, apart = fit.strengths, apart_by_items(one, other, n_items)
    p = 1 / (1 + np.exp(-(apart @ theta)))
    away = 1 / (1 + np.exp(-np.abs(theta - fit.anchor)))
    information: Floats = (apart.T @ (apart * (n * p * (1 - p))[:, None])).toarray()
    information[np.diag_indices(n_items)] += 2 * prior * away * (1 - away)
    n_groups = int(group.max()) + 1
    member = SPARSE.csr_array(
        (np.ones(len(one)), (group, np.arange(len(one)))), shape=(n_groups, len(one))
    )
    gradient = member @ (apart * (wins - n * p)[:, None])
    meat: Floats = (gradient.T @ gradient).toarray()
    common: Floats = np.asarray(gradient.sum(0)).ravel()
    bread = np.linalg.pinv(information, hermitian=True) * np.sqrt(n_groups / max(n_groups - 1, 1))
    if at is None:
        same = fit.component[:, None] == fit.component[None, :]
        centre = np.eye(n_items) - same / same.sum(1, keepdims=True)
    else:
        centre = np.eye(n_items)
        centre[:, at] -= 1
    errors = _errors(centre @ bread, meat)
    apart_from_all = _errors(centre @ bread, meat - np.outer(common, common) / n_groups)
    still = apart_from_all < NO_ERROR
    if at is not None:
        still[at] = False  # it is 0 by what is asked
    errors[still] = np.nan
    return theta if at is None else theta - theta[at], errors, fit.component


def _errors(toward: Floats, meat: Floats) -> Floats:
    """The square roots of the diagonal of toward @ meat @ toward.T."""
    return np.sqrt(np.maximum(((toward @ meat) * toward).sum(1), 0))
