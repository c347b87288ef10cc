"""Bradley-Terry where the completion shown first may be worth more to an annotator.

    logit P(u prefers a) = theta_a - theta_b + beta_u z,   z = 1 if a was shown first, -1 if b was

Strengths and effects maximise one concave function: Newton steps over all of them together, by
conjugate gradients, of the length that `fit_bradley_terry` has.

Source: Davidson and Beaver 1977, "On Extending the Bradley-Terry Model to Incorporate Within-Pair
Order Effects", with an effect for each annotator.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from scipy.special import expit

from prefdata.aggregate import _graph
from prefdata.aggregate._conjugate import solved
from prefdata.aggregate._graph import Floats, Ints
from prefdata.aggregate._tally import about
from prefdata.errors import ConvergenceError

# This module comes without types.
SPARSE: Any = sparse


@dataclass(frozen=True)
class Shown:
    """Votes on `one` and `other` by `annotator`: wins and losses of one, by its `place` z."""

    one: Ints
    other: Ints
    annotator: Ints
    place: Floats
    wins: Floats
    losses: Floats


@dataclass(frozen=True)
class PositionFit:
    """Strengths of mean 0 in each component, each annotator's effect, and what they rest on.

    `anchor` is the strength of the opponent that the prior stands for, `residual` the largest part
    of the gradient, in votes.
    """

    strengths: Floats
    anchor: Floats
    component: Ints
    effects: Floats
    residual: float


def fit_positions(
    shown: Shown,
    *,
    n_items: int,
    n_annotators: int,
    prior: float = 0.1,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
) -> PositionFit:
    """Maximise over strengths and effects, each with `prior` votes for 0 from either side.

    Raises `ConvergenceError` after `max_iterations` steps.
    """
    design, x = _design(shown, n_items, n_annotators), np.zeros(n_items + n_annotators)
    component = _graph.components(shown.one, shown.other, n_items)
    for _ in range(max_iterations):
        gradient, each, of_prior = _slopes(shown, design, x, prior)
        step = _newton(design, gradient, each, of_prior)
        reach = max(np.abs(part).max(initial=1e-300) for part in (step, design @ step))
        x += step * (np.log1p(reach) / reach)
        if reach <= tolerance:
            residual = float(np.abs(_slopes(shown, design, x, prior)[0]).max(initial=0.0))
            strengths, mean = _graph.centred(x[:n_items], component)
            return PositionFit(strengths, -mean, component, x[n_items:], residual)
    residual = float(np.abs(_slopes(shown, design, x, prior)[0]).max())
    raise ConvergenceError(
        f"Bradley-Terry with position effects did not converge: residual {residual:.3g} votes "
        f"after {max_iterations} iterations; allow more iterations or give a larger prior"
    )


def _design(shown: Shown, n_items: int, n_annotators: int) -> Any:
    """(votes, items and annotators), sparse: the log-odds of each vote from x."""
    rows = np.arange(len(shown.one))
    of_place = SPARSE.csr_array(
        (shown.place, (rows, shown.annotator)), shape=(len(rows), n_annotators)
    )
    apart = _graph.apart_by_items(shown.one, shown.other, n_items)
    return SPARSE.hstack([apart, of_place], format="csr")


def _slopes(shown: Shown, design: Any, x: Floats, prior: float) -> tuple[Floats, Floats, Floats]:
    """The gradient, and the information of each row and of the prior on each parameter."""
    votes, p = shown.wins + shown.losses, expit(design @ x)
    gradient = design.T @ (shown.wins - votes * p) - prior * np.tanh(x / 2)
    return gradient, votes * p * (1 - p), 2 * prior * expit(x) * expit(-x)


def _newton(design: Any, gradient: Floats, each: Floats, of_prior: Floats) -> Floats:
    squared = design.copy()
    squared.data **= 2
    diagonal = squared.T @ each + of_prior
    turned = design.T.tocsr()

    def times(v: Floats) -> Floats:
        return turned @ (each * (design @ v)) + of_prior * v

    return solved(times, gradient, diagonal)


def standard_errors(
    fit: PositionFit, shown: Shown, *, prior: float
) -> tuple[Floats, Floats, Floats]:
    """Errors of strengths, of the differences one[k] - other[k], and of the effects."""
    n_items, n_annotators = len(fit.strengths), len(fit.effects)
    x = np.concatenate([fit.strengths - fit.anchor, fit.effects])
    design = _design(shown, n_items, n_annotators)
    _, each, of_prior = _slopes(shown, design, x, prior)
    of_place = design[:, n_items:]
    both = (of_place * each[:, None]).tocsr()
    alone = (of_place.T @ both).toarray() + np.diag(of_prior[n_items:])
    return _graph.standard_errors(
        fit.component, shown.one, shown.other, each, of_prior[:n_items], (both, alone)
    )


def shown_of(rows: pl.DataFrame, one: Ints, other: Ints) -> tuple[Shown, list[str]]:
    """Rows of `tally` by annotator and a_first as votes, and the annotators that they number."""
    names = rows["annotator"].unique().sort()
    place = rows.select(pl.col("a_first").cast(pl.Float64).fill_null(0.5) * 2 - 1).to_series()
    annotator = _graph.numbers(rows["annotator"], names)
    sides = rows["wins"].to_numpy(), rows["losses"].to_numpy()
    return Shown(one, other, annotator, place.to_numpy(), *sides), names.to_list()


def scores_of_effects(
    shown: Shown, fit: PositionFit, errors: Floats, names: list[str], estimator: str
) -> pl.DataFrame:
    """Score `position_effect` of the annotators with a vote of known order."""
    there = np.bincount(shown.annotator, np.abs(shown.place), len(names)) > 0
    made = about("annotator", names, "position_effect", fit.effects, estimator)
    return made.with_columns(stderr=pl.Series(errors).fill_nan(None)).filter(pl.Series(there))
