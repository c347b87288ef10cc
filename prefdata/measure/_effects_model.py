"""What moves an annotator's votes besides what the others think of the two completions.

Of annotator j and comparison u with differences x_u of traits (a less b),

    P(j prefers a) = sigmoid(a_j theta_u + c_j z + b_j . x_u),   z = 1 if a was shown first, else -1

and theta_u is what the k of n others who prefer a say about the sides. Few votes are a noisy
statement: taken as they are they leave some of the quality to whatever goes along with it, as
length often does. So theta_u has the distribution that a logistic model with a random effect gives
it after the others' votes,

    theta_u ~ Normal(g . x_u, t^2),   k ~ Binomial(n, sigmoid(theta_u)),

with g and t at the maximum of their likelihood, and a, c, b maximise the likelihood of j's votes
averaged over it. What the others have in common counts as quality: b is the effect beyond theirs.
Where gold is given, theta_u is gold's verdict (1, 0 or -1).

With s_g the score and H_g the information of group g of G groups of prompts, H that of all, and C
the derivative of the score by the first step's parameters, whose score and information are r_g and
A, leaving a group out moves the effects by i_g, and the errors are the jackknife's:

    (G - 1) / G  sum_g i_g i_g',   i_g = (H - H_g)^-1 (s_g + C A^-1 r_g)

Where a trait differs in few groups these fit it too well, and only what is left without each says
how far it is known. The interval has Student's quantile for as many groups as the trait differs in.

Source: Carroll et al. 2006, "Measurement Error in Nonlinear Models" (a covariate known by noisy
repeats); Murphy and Topel 1985 (errors after a first step); Liang and Zeger 1986 (groups);
MacKinnon, Nielsen, Webb 2023, "Cluster-robust inference" (leaving out one of few).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[Any]
# The log-likelihood at some parameters, and each row's score.
Scored = Callable[[Floats], tuple[float, Floats]]
SPECIAL: Any = special
OPTIMIZE: Any = optimize

# Standard normal nodes, fine enough for the posterior of some hundred votes.
NODES = np.linspace(-4.5, 4.5, 31)
NODE_WEIGHTS = -(NODES**2) / 2 - np.log(np.exp(-(NODES**2) / 2).sum())
# Spread of the weak priors on standardised effects, and on the logarithm of t.
WIDE, WIDE_LOG = 10.0, 2.0
BLOCK = 1 << 16


@dataclass(frozen=True)
class Seen:
    """An annotator's votes: preference, traits (rows, K), place, others' k of n, and group.

    `first` marks one row of each comparison; `verdict` is gold's, or None.
    """

    y: Floats
    x: Floats
    place: Floats
    k: Floats
    n: Floats
    group: NDArray[np.int64]
    first: NDArray[np.bool_]
    verdict: Floats | None = None

    def __getitem__(self, at: Any) -> "Seen":
        columns: tuple[Any, ...]
        columns = (self.y, self.x, self.place, self.k, self.n, self.group, self.first)
        y, x, place, k, n, group, first = (column[at] for column in columns)
        return Seen(
            y,
            x,
            place,
            k,
            n,
            group,
            first,
            verdict=None if self.verdict is None else self.verdict[at],
        )

    def blocks(self) -> Iterator[tuple[slice, "Seen"]]:
        for start in range(0, len(self.y), BLOCK):
            at = slice(start, start + BLOCK)
            yield at, self[at]


@dataclass(frozen=True)
class Effects:
    """The traits' effects and their errors; NaN where no vote could show them.

    `n_groups` are those in which each trait differs.
    """

    value: Floats
    stderr: Floats
    n_groups: NDArray[np.int64]
    separated: bool


def fit_effects(seen: Seen) -> Effects:
    """The effects of the traits on the votes."""
    # Traits of any scale are one to the priors.
    scale = np.sqrt((seen.x**2).mean(0))
    scale = np.where(scale > 1e-12, scale, 1.0)
    seen = Seen(
        seen.y, seen.x / scale, seen.place, seen.k, seen.n, seen.group, seen.first, seen.verdict
    )
    n_groups = int(seen.group.max()) + 1
    known = seen[seen.first & (seen.n > 0)]
    others = seen.verdict is None and len(known.y) > 0
    n_traits = seen.x.shape[1]
    moved = np.abs(seen.x).max(0) > 1e-12
    active = np.concatenate(
        [[others or seen.verdict is not None], [bool(np.any(seen.place))], moved]
    )

    def first_scores(spread: Floats) -> tuple[float, Floats]:
        return _first_step(known, spread)

    spread, inner = np.zeros(n_traits + 1), 1 / np.r_[np.full(n_traits, WIDE), WIDE_LOG] ** 2
    bread = np.zeros((n_traits + 1, n_traits + 1))
    if others:
        spread, bread = _maximum(first_scores, spread, inner)

    def scores(found: Floats, by: Floats) -> tuple[float, Floats]:
        whole = np.zeros(len(active))
        whole[active] = found
        likelihood, each = _second_step(seen, whole, by if others else None)
        return likelihood, each[:, active]

    differs = np.array([len(np.unique(seen.group[x != 0])) for x in seen.x.T], dtype=np.int64)
    prior = np.full(int(active.sum()), WIDE**-2)
    if not active.any():
        nothing = np.full(n_traits, np.nan)
        return Effects(nothing, nothing, differs, False)
    found, _ = _maximum(lambda b: scores(b, spread), np.zeros(len(prior)), prior)

    def by_group(at: Floats) -> Floats:
        return _by_group(scores(at, spread)[1], seen.group, n_groups)

    influence = by_group(found)
    if others:
        cross = _slope(lambda by: scores(found, by)[1].sum(0), spread)
        before = _by_group(first_scores(spread)[1], known.group, n_groups)
        influence = influence + before @ bread @ cross.T
    information = -_slope(lambda b: by_group(b).ravel(), found).reshape(n_groups, -1, len(prior))
    influence = _left_out(influence, information, prior)
    covariance = influence.T @ influence * (n_groups - 1) / n_groups
    value, error = (np.full(len(active), np.nan) for _ in range(2))
    value[active], error[active] = found, np.sqrt(np.diag(covariance))
    whole = np.where(active, value, 0.0)
    left = _left(seen, whole, spread if others else None)
    error[2:][(differs < 2) | (left < 0.01)] = np.nan
    return Effects(value[2:] / scale, error[2:] / scale, differs, left < 0.01)


def _maximum(scores: Scored, start: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Where likelihood and prior are greatest, and the inverse of their information there."""
    many = max(len(scores(start)[1]), 1)

    def minus(at: Floats) -> tuple[float, Floats]:
        likelihood, each = scores(at)
        penalty = float((prior * at**2).sum()) / 2
        return (penalty - likelihood) / many, (prior * at - each.sum(0)) / many

    at: Floats = OPTIMIZE.minimize(minus, start, jac=True, method="BFGS", options={"gtol": 1e-6}).x
    information = np.diag(prior) - _slope(lambda b: scores(b)[1].sum(0), at)
    inverse = np.linalg.pinv((information + information.T) / 2, hermitian=True)
    step = inverse @ (scores(at)[1].sum(0) - prior * at)
    if np.abs(step).max(initial=0) < 1e-2:
        at = at + step
    return at, inverse


def _slope(function: Callable[[Floats], Floats], at: Floats, width: float = 1e-4) -> Floats:
    """The derivative of a vector by each parameter: (values, parameters)."""
    columns = [
        (function(at + width * e) - function(at - width * e)) / (2 * width) for e in np.eye(len(at))
    ]
    return np.stack(columns, 1)


def _left_out(score: Floats, information: Floats, prior: Floats) -> Floats:
    """How far the maximum moves when each group is left out, to first order: (groups, K)."""
    whole = np.diag(prior) + information.sum(0)
    rest = whole - information
    size, axes = np.linalg.eigh((rest + np.swapaxes(rest, 1, 2)) / 2)
    # The prior stays, and what curves the wrong way is noise.
    along = np.einsum("gji,gj->gi", axes, score) / np.maximum(size, prior.min())
    return np.einsum("gij,gj->gi", axes, along)


def _by_group(each: Floats, group: NDArray[np.int64], n_groups: int) -> Floats:
    return np.stack([np.bincount(group, c, n_groups) for c in each.T], 1)


def _nodes(seen: Seen, spread: Floats | None) -> tuple[Floats, Floats]:
    """Values of theta and the logarithms of their weights by prior and others' votes."""
    if spread is None:
        verdict = np.zeros(len(seen.y)) if seen.verdict is None else seen.verdict
        return verdict[:, None], np.zeros((len(verdict), 1))
    theta = (seen.x @ spread[:-1])[:, None] + np.exp(spread[-1]) * NODES
    k, n = seen.k[:, None], seen.n[:, None]
    return theta, NODE_WEIGHTS + k * theta + n * SPECIAL.log_expit(-theta)


def _first_step(seen: Seen, spread: Floats) -> tuple[float, Floats]:
    likelihood, each = 0.0, np.empty((len(seen.y), len(spread)))
    for at, some in seen.blocks():
        theta, weight = _nodes(some, spread)
        total = SPECIAL.logsumexp(weight, 1)
        residual = np.exp(weight - total[:, None]) * (
            some.k[:, None] - some.n[:, None] * SPECIAL.expit(theta)
        )
        each[at, :-1] = residual.sum(1)[:, None] * some.x
        each[at, -1] = residual @ NODES * np.exp(spread[-1])
        likelihood += float(total.sum())
    return likelihood, each


def _second_step(seen: Seen, effects: Floats, spread: Floats | None) -> tuple[float, Floats]:
    likelihood, each = 0.0, np.empty((len(seen.y), len(effects)))
    for at, some in seen.blocks():
        theta, weight = _nodes(some, spread)
        design = np.column_stack([some.place, some.x])
        eta = effects[0] * theta + (design @ effects[1:])[:, None]
        y = some.y[:, None]
        after = weight + y * eta + SPECIAL.log_expit(-eta)
        total = SPECIAL.logsumexp(after, 1)
        residual = np.exp(after - total[:, None]) * (y - SPECIAL.expit(eta))
        each[at, 0] = (residual * theta).sum(1)
        each[at, 1:] = residual.sum(1)[:, None] * design
        likelihood += float((total - SPECIAL.logsumexp(weight, 1)).sum())
    return likelihood, each


def _left(seen: Seen, effects: Floats, spread: Floats | None) -> float:
    """How far the votes are from what the effects predict, in the mean."""
    apart = 0.0
    for _, some in seen.blocks():
        theta, weight = _nodes(some, spread)
        eta = effects[0] * theta + (some.place * effects[1] + some.x @ effects[2:])[:, None]
        share = np.exp(weight - SPECIAL.logsumexp(weight, 1)[:, None])
        apart += float(np.abs(some.y - (share * SPECIAL.expit(eta)).sum(1)).sum())
    return apart / len(seen.y)
