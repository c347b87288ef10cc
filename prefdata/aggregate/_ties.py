"""Bradley-Terry with a parameter for ties: one optimum over all strengths and that parameter.

A model says how probable better, tie and worse are at a difference of strengths; the log
likelihood is concave in strengths and parameter together, so Newton steps, shortened until it
rises, reach its top.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from scipy.special import expit, log_expit

from prefdata.aggregate import _graph
from prefdata.aggregate._conjugate import solved
from prefdata.aggregate._criteria import weigh
from prefdata.aggregate._graph import Floats, Incidence, Ints
from prefdata.aggregate._tally import about, preferences, with_prompts
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Completions, Scores, Strengths, Votes, pair_ids

# This module comes without types.
SPARSE: Any = sparse


@dataclass(frozen=True)
class Counts:
    """Votes on each two items: `wins` of `one`, `ties` and `losses`; any may be a fraction."""

    one: Ints
    other: Ints
    wins: Floats
    ties: Floats
    losses: Floats


@dataclass(frozen=True)
class Slopes:
    """The log likelihood of each comparison, and its derivatives by difference and parameter."""

    value: Floats
    by_difference: Floats
    by_parameter: Floats
    curvature: Floats
    mixed: Floats
    of_parameter: Floats


# (difference, parameter, wins, ties, losses) -> Slopes; `curvature`, `mixed` and `of_parameter` are
# the second derivatives with their sign turned.
Law = Callable[[Floats, float, Floats, Floats, Floats], Slopes]


@dataclass(frozen=True)
class Fit:
    """Strengths of mean 0 in each component, and the parameter for ties.

    `anchor` is the strength of the opponent that the prior stands for. `residual` is the largest
    part of the gradient, in votes.
    """

    strengths: Floats
    anchor: Floats
    component: Ints
    parameter: float
    residual: float
    iterations: int


class _World:
    """Counts with the prior: its votes against strength 0, and those on two of equal strength."""

    def __init__(self, counts: Counts, n_items: int, prior: float, law: Law) -> None:
        self.counts, self.n, self.prior, self.law = counts, n_items, prior, law
        self.order = _graph.sorting(counts.one, n_items)
        self.graph = Incidence(counts.one[self.order], counts.other[self.order], n_items)

    def slopes(self, x: Floats) -> Slopes:
        """Of each comparison, and last of the prior's votes: as many ties as decisions."""
        c, theta = self.counts, x[:-1]
        apart = np.append(theta[c.one] - theta[c.other], 0.0)
        half = self.prior / 2
        columns = (
            np.append(c.wins, half),
            np.append(c.ties, self.prior),
            np.append(c.losses, half),
        )
        return self.law(apart, float(x[-1]), *columns)

    def density(self, x: Floats) -> float:
        against = log_expit(x[:-1]) + log_expit(-x[:-1])
        return float(self.slopes(x).value.sum() + self.prior * against.sum())

    def gradient(self, x: Floats, s: Slopes) -> Floats:
        c, of_pair = self.counts, s.by_difference[:-1]
        of_votes = np.bincount(c.one, of_pair, self.n) - np.bincount(c.other, of_pair, self.n)
        of_items = of_votes - self.prior * np.tanh(x[:-1] / 2)
        return np.append(of_items, s.by_parameter.sum())

    def newton(self, x: Floats, s: Slopes, gradient: Floats) -> Floats:
        """The Newton step, by conjugate gradients over strengths and parameter together."""
        c, each = self.counts, s.curvature[:-1]
        of_items, diagonal = self.graph.laplacian(each[self.order], self.of_prior(x))
        mixed = s.mixed[:-1]
        border = np.bincount(c.one, mixed, self.n) - np.bincount(c.other, mixed, self.n)
        corner = max(float(s.of_parameter.sum()), 1e-300)

        def times(v: Floats) -> Floats:
            items = of_items(v[:-1]) + border * v[-1]
            return np.append(items, border @ v[:-1] + corner * v[-1])

        diagonal = np.append(np.maximum(diagonal, 1e-300), corner)
        if self.prior == 0:
            gradient = np.append(gradient[:-1] - gradient[:-1].mean(), gradient[-1])
        return solved(times, gradient, diagonal)

    def of_prior(self, x: Floats) -> Floats:
        return 2 * self.prior * expit(x[:-1]) * expit(-x[:-1])


def fit(
    counts: Counts,
    law: Law,
    start: float,
    *,
    n_items: int,
    prior: float,
    tolerance: float,
    max_iterations: int,
    where: str,
) -> Fit:
    """Maximise the likelihood, the parameter starting at `start`.

    Done when neither a difference nor the parameter moves by more than `tolerance`. Raises
    `ConvergenceError` after `max_iterations` steps, and with prior 0 where there is no finite
    optimum: some items of a component never lose or tie with the others, or no vote is a tie, or
    every vote is.
    """
    component = _graph.components(counts.one, counts.other, n_items)
    if prior == 0:
        _check_optimum(counts, component, where)
    if not n_items:
        return Fit(np.zeros(0), np.zeros(0), component, start, 0.0, 0)
    world = _World(counts, n_items, prior, law)
    x = np.append(np.zeros(n_items), start)
    density = world.density(x)
    for iteration in range(1, max_iterations + 1):
        s = world.slopes(x)
        gradient = world.gradient(x, s)
        step = world.newton(x, s, gradient)
        reach = float(np.abs(step).max())
        length = 1.0
        while True:
            there = x + length * step
            reached = world.density(there)
            # Near the top a rise is below what a sum of so many numbers can show.
            if reached >= density - 1e-12 * abs(density) or reach * length <= tolerance:
                break
            length /= 2
        x, density = there, reached
        if reach <= tolerance:
            residual = float(np.abs(world.gradient(x, world.slopes(x))).max())
            strengths, mean = _graph.centred(x[:-1], component)
            return Fit(strengths, -mean, component, float(x[-1]), residual, iteration)
    residual = float(np.abs(world.gradient(x, world.slopes(x))).max())
    raise ConvergenceError(
        f"{where} did not converge: residual {residual:.3g} votes after {max_iterations} "
        "iterations; allow more iterations or give a larger prior"
    )


def _check_optimum(counts: Counts, component: Ints, where: str) -> None:
    wins, losses = counts.wins + counts.ties, counts.losses + counts.ties
    found = _graph.one_sided(counts.one, counts.other, wins, losses, component)
    problem = ""
    if found is not None:
        problem = f"some items never lose or tie, first in the component of items {found[2]}"
    elif len(counts.one) and not counts.ties.any():
        problem = "no vote is a tie"
    elif len(counts.one) and not (counts.wins.any() or counts.losses.any()):
        problem = "every vote is a tie"
    if problem:
        raise ConvergenceError(
            f"{where} with prior 0 has no finite optimum: {problem}; residual inf after 0 "
            "iterations; give a prior above 0"
        )


def standard_errors(
    found: Fit, counts: Counts, law: Law, *, prior: float
) -> tuple[Floats, Floats, float]:
    """Errors of strengths, of differences one - other, and of the parameter."""
    world = _World(counts, len(found.strengths), prior, law)
    x = np.append(found.strengths - found.anchor, found.parameter)
    s = world.slopes(x)
    shared = SPARSE.csr_array(s.mixed[:-1, None]), np.array([[s.of_parameter.sum()]])
    of_item, of_difference, of_parameter = _graph.standard_errors(
        found.component, counts.one, counts.other, s.curvature[:-1], world.of_prior(x), shared
    )
    return of_item, of_difference, float(of_parameter[0])


def aggregated(
    votes: Votes,
    completions: Completions | None,
    fit_model: Callable[..., Fit],
    law: Law,
    *,
    named: str,
    prior: float,
    criteria: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    max_iterations: int,
    estimator: str,
) -> tuple[Strengths, Scores]:
    """The stage of a model of this `law`; its parameter is the logarithm of what is `named`."""
    where = f"aggregate.{estimator}"
    if not 0 <= prior < float("inf"):
        raise RecipeError(f"{where}: prior is {prior}; give 0 or a number above")
    pairs = _tally(votes, criteria, weights)
    ids = pl.concat([pairs["completion_a"], pairs["completion_b"]]).unique().sort()
    one, other = (_graph.numbers(pairs[side], ids) for side in ("completion_a", "completion_b"))
    counts = Counts(one, other, *(pairs[name].to_numpy() for name in ("wins", "ties", "losses")))
    found = fit_model(
        counts, n_items=len(ids), prior=prior, max_iterations=max_iterations, where=where
    )
    of_item, of_difference, of_parameter = standard_errors(found, counts, law, prior=prior)
    strengths = pl.DataFrame(
        {"completion_id": ids, "strength": found.strengths, "stderr": of_item},
        schema_overrides={"completion_id": pl.String},
    )
    apart = found.strengths[one] - found.strengths[other]
    better, tie = (
        np.exp(law(apart, found.parameter, *_one_vote(apart, which)).value) for which in (0, 1)
    )
    slope = _share_slope(law, apart, found.parameter)
    scored = pairs.with_columns(value=better + tie / 2, stderr=slope * of_difference)
    pair = pair_ids(pairs["completion_a"], pairs["completion_b"])
    shown = np.exp([found.parameter] if len(ids) else [])
    everyone = about("annotator", [f"rule:{estimator}"] * len(shown), named, shown, estimator)
    everyone = everyone.with_columns(stderr=(pl.col("value") * of_parameter).fill_nan(None))
    ties = about("pair", pair, "tie", tie, estimator)
    return (
        with_prompts(strengths, votes, completions, estimator),
        Scores(pl.concat([preferences(scored, estimator), ties, everyone])),
    )


def _one_vote(apart: Floats, which: int) -> tuple[Floats, Floats, Floats]:
    none, one = np.zeros_like(apart), np.ones_like(apart)
    columns = [one if k == which else none for k in range(3)]
    return columns[0], columns[1], columns[2]


def _share_slope(law: Law, apart: Floats, parameter: float) -> Floats:
    """The derivative of P(better) + P(tie) / 2 by the difference."""
    total = np.zeros_like(apart)
    for which, part in ((0, 1.0), (1, 0.5)):
        s = law(apart, parameter, *_one_vote(apart, which))
        total = total + part * np.exp(s.value) * s.by_difference
    return total


def _tally(
    votes: Votes, criteria: Sequence[str] | None, weights: Mapping[str, float] | None
) -> pl.DataFrame:
    """Wins, ties and losses of a over b; a soft preference is its part of a win and of a loss."""
    preference, weight = pl.col("preference"), pl.col("weight")
    tie = preference == 0.5
    return (
        weigh(votes, criteria, weights)
        .filter(preference.is_not_null())
        .sort("completion_a", "completion_b", "preference", "weight")
        .group_by("completion_a", "completion_b", maintain_order=True)
        .agg(
            wins=(preference * weight).filter(~tie).sum(),
            ties=weight.filter(tie).sum(),
            losses=((1 - preference) * weight).filter(~tie).sum(),
        )
    )
