"""A ridge logistic model of labels, fitted on some prompt groups and asked about the others."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, log_expit

from prefdata.estimate._evidence import Evidence, folds

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
OPTIMIZE: Any = optimize

# Precisions of the prior on the coefficients of a block; infinity leaves the block out.
PRECISIONS = (1e5, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 1.0)
# Pairs that models are fitted on: a hundred numbers are not known better from more.
MOST = 200_000


class HeldOut(NamedTuple):
    """`z`: the log-odds that the labelled side is the better one, each by a model of other
    groups; `fold`: the part that each pair was held out in; `precision`: of each column's prior,
    the one with the least loss on what was held out."""

    z: Floats
    fold: Ints
    precision: Floats


def fit_held_out(seen: Evidence, *, n_folds: int, seed: int) -> HeldOut:
    """Log-odds of the labels, each by a model of other groups; see `HeldOut`."""
    fold = folds(seen.groups, n_folds, seed)
    d = seen.x * seen.sign[:, None]
    some = drawn(len(d), seed)
    precision, z = _fit_precision(d[some], seen.block, fold[some], n_folds)
    if len(d) > MOST:
        starts: list[Floats] = [np.zeros(d.shape[1]) for _ in range(n_folds)]
        z = _held_out(d[some], fold[some], precision[seen.block], starts, (d, fold))
    return HeldOut(z, fold, precision[seen.block])


def drawn(n: int, seed: int) -> Any:
    """The rows that are fitted on: all, or `MOST` by lot."""
    if n <= MOST:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(n, MOST, replace=False))


def _fit_precision(d: Floats, of_block: Ints, fold: Ints, n_folds: int) -> tuple[Floats, Floats]:
    """The precision of each block with the least loss on what is held out, and its log-odds."""
    n_blocks = int(of_block.max(initial=-1)) + 1
    precision = np.full(n_blocks, np.inf)
    best, z = len(d) * np.log(2), np.zeros(len(d))

    def attempt(block: int, tried: float, starts: list[Floats]) -> None:
        nonlocal best, z, precision
        candidate = precision.copy()
        candidate[block] = tried
        guess = _held_out(d, fold, candidate[of_block], starts)
        loss = -float(log_expit(guess).sum())
        if loss < best:
            best, z, precision = loss, guess, candidate

    for block in range(n_blocks):
        starts: list[Floats] = [np.zeros(d.shape[1]) for _ in range(n_folds)]
        for tried in PRECISIONS:
            attempt(block, tried, starts)
    for block in np.flatnonzero(np.isfinite(precision)):
        # What was of use alone may be of none beside what came after it.
        attempt(int(block), np.inf, [np.zeros(d.shape[1]) for _ in range(n_folds)])
    return precision, z


def _held_out(
    d: Floats,
    fold: Ints,
    precision: Floats,
    starts: list[Floats],
    about: tuple[Floats, Ints] | None = None,
) -> Floats:
    """The log-odds of rows, by default those that are fitted on, each by a model of other folds."""
    asked, part_of = about or (d, fold)
    z, used = np.zeros(len(asked)), np.isfinite(precision)
    for part in range(len(starts)):
        inside, outside = fold != part, part_of == part
        fitted = fit_ridge(d[np.ix_(inside, used)], precision[used], starts[part][used])
        starts[part][used] = fitted
        z[outside] = asked[np.ix_(outside, used)] @ fitted
    return z


def fit_ridge(d: Floats, precision: Floats, start: Floats, weight: Floats | None = None) -> Floats:
    """Maximise sum weight log sigmoid(d w) - sum precision w^2 / 2 over w.

    There is no intercept: swapping a and b changes the sign of z and nothing else.
    """
    of = np.ones(len(d)) if weight is None else weight

    def loss(w: Floats) -> tuple[float, Floats]:
        z = d @ w
        value = -(of * log_expit(z)).sum() + (precision * w * w).sum() / 2
        return float(value), precision * w - d.T @ (of * expit(-z))

    return OPTIMIZE.minimize(loss, start, jac=True, method="L-BFGS-B").x
