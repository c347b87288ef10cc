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
Given theta_u the others' votes are taken as independent. Who always agree are one of them, but
short of that shared errors make theta_u look surer than it is, and intervals too narrow.
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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[Any]
SPECIAL: Any = special
LINALG: Any = np.linalg

# Standard normal nodes, fine enough for the posterior of some hundred votes.
NODES = np.linspace(-4.5, 4.5, 31)
NODE_WEIGHTS = -(NODES**2) / 2 - np.log(np.exp(-(NODES**2) / 2).sum())
# Spread of the weak priors on standardised effects, and on the logarithm of t.
WIDE, WIDE_LOG = 10.0, 2.0
# Newton's steps: how many, how long at most, and how short the last is.
STEPS, LONGEST, TOLERANCE, SMALL = 100, 3.0, 1e-8, 1e-12
BLOCK = 1 << 12


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


@dataclass(frozen=True)
class Pull:
    """A log-likelihood at some parameters, each row's score, and how each row's score bends.

    The first parameter goes with a column that theta moves, the others with `design`; of a row
    with design d the second derivatives are `bend`: [0], [1] d, and [2] d d'.
    """

    likelihood: float
    score: Floats
    bend: Floats
    design: Floats

    def information(self, group: NDArray[np.int64], n_groups: int) -> Floats:
        """Minus the second derivatives of each group: (groups, parameters, parameters)."""
        size = 1 + self.design.shape[1]
        made = np.zeros((n_groups, size, size))
        for i in range(size):
            for j in range(i, size):
                by = self.bend[:, (i > 0) + (j > 0)]
                for at in (i, j):
                    by = by * self.design[:, at - 1] if at else by
                made[:, i, j] = made[:, j, i] = -np.bincount(group, by, n_groups)
        return made


def fit_effects(seen: Seen) -> Effects:
    """The effects of the traits on the votes."""
    # Traits of any scale are one to the priors.
    scale = np.sqrt((seen.x**2).mean(0))
    scale = np.where(scale > 1e-12, scale, 1.0)
    seen = replace(seen, x=seen.x / scale)
    n_groups = int(seen.group.max()) + 1
    known = seen[seen.first & (seen.n > 0)]
    others = seen.verdict is None and len(known.y) > 0
    differs = np.array([len(np.unique(seen.group[x != 0])) for x in seen.x.T], dtype=np.int64)
    n_traits = len(differs)
    moves = [others or seen.verdict is not None, bool(np.any(seen.place)), *(differs > 0)]
    active = np.flatnonzero(moves)
    if not len(active):
        nothing = np.full(n_traits, np.nan)
        return Effects(nothing, nothing, differs, False)
    inner: Floats = 1 / np.array([WIDE_LOG, *[WIDE] * n_traits]) ** 2
    spread: Floats | None = None
    if others:
        everything = np.arange(n_traits + 1)
        spread = _maximum(lambda by: _first_step(known, by), everything, inner)
    prior = np.full(n_traits + 2, WIDE**-2)
    found = _maximum(lambda b: _second_step(seen, b, spread), active, prior)
    end = _second_step(seen, found, spread)
    influence = _by_group(end.score[:, active], seen.group, n_groups)
    if spread is not None:
        before = _first_step(known, spread)
        inside = before.information(np.zeros(len(known.y), np.int64), 1)[0]
        crossed = _crossed(seen, found, spread)[active]
        by_spread: Floats = LINALG.solve(np.diag(inner) + inside, crossed.T)
        influence = influence + _by_group(before.score, known.group, n_groups) @ by_spread
    information = end.information(seen.group, n_groups)[:, active][:, :, active]
    influence = _left_out(influence, information, prior[active])
    value, error = (np.full(n_traits + 2, np.nan) for _ in range(2))
    value[active] = found[active]
    error[active] = np.sqrt((influence**2).sum(0) * (n_groups - 1) / n_groups)
    left = _left(seen, found, spread)
    error[2:][(differs < 2) | (left < 0.01)] = np.nan
    return Effects(value[2:] / scale, error[2:] / scale, differs, left < 0.01)


def _maximum(pull: Callable[[Floats], Pull], active: NDArray[np.int64], prior: Floats) -> Floats:
    """Where likelihood and prior are greatest, by Newton's steps; inactive parameters are 0."""
    at = np.zeros(len(prior))
    now = pull(at)
    for _ in range(STEPS):
        toward = (now.score.sum(0) - prior * at)[active]
        inside = now.information(np.zeros(len(now.score), np.int64), 1)[0]
        inside = (np.diag(prior) + inside)[np.ix_(active, active)]
        size, axes = np.linalg.eigh(inside)
        # Where it curves the wrong way it is climbed all the same.
        along = (axes.T @ toward) / np.maximum(np.abs(size), prior.min())
        step = np.zeros(len(prior))
        step[active] = axes @ along
        step *= min(1.0, LONGEST / max(np.abs(step).max(), 1e-300))
        height = _height(now, at, prior)
        further = pull(at + step)
        while _height(further, at + step, prior) < height - SMALL * (1 + abs(height)):
            step = step / 2
            further = pull(at + step)
        at, now = at + step, further
        if np.abs(step).max() < TOLERANCE:
            break
    return at


def _height(now: Pull, at: Floats, prior: Floats) -> float:
    return now.likelihood - float((prior * at**2).sum()) / 2


def _left_out(score: Floats, information: Floats, prior: Floats) -> Floats:
    """How far the maximum moves when each group is left out, to first order: (groups, K)."""
    rest = np.diag(prior) + information.sum(0) - information
    size, axes = np.linalg.eigh(rest)
    # The prior stays, and what curves the wrong way is noise.
    along = np.einsum("gji,gj->gi", axes, score) / np.maximum(size, prior.min())
    return np.einsum("gij,gj->gi", axes, along)


def _by_group(each: Floats, group: NDArray[np.int64], n_groups: int) -> Floats:
    return np.stack([np.bincount(group, c, n_groups) for c in each.T], 1)


def _nodes(seen: Seen, spread: Floats | None) -> tuple[Floats, Floats]:
    """Values of theta and the logarithms of their weights by prior and others' votes.

    `spread` is the logarithm of t, and g.
    """
    if spread is None:
        verdict = np.zeros(len(seen.y)) if seen.verdict is None else seen.verdict
        return verdict[:, None], np.zeros((len(verdict), 1))
    theta = (seen.x @ spread[1:])[:, None] + np.exp(spread[0]) * NODES
    k, n = seen.k[:, None], seen.n[:, None]
    return theta, NODE_WEIGHTS + k * theta + n * SPECIAL.log_expit(-theta)


def _mean(share: Floats, *factors: Floats) -> Floats:
    """The mean of a product over each row's nodes."""
    product = share
    for factor in factors:
        product = product * factor
    return product.sum(1)


def _first_step(seen: Seen, spread: Floats) -> Pull:
    """Of the others' votes, by the logarithm of t, and g."""
    likelihood, wide = 0.0, np.exp(spread[0])
    score, bend = np.empty((len(seen.y), len(spread))), np.empty((len(seen.y), 3))
    for at, some in seen.blocks():
        theta, weight = _nodes(some, spread)
        total = SPECIAL.logsumexp(weight, 1)
        share, p = np.exp(weight - total[:, None]), SPECIAL.expit(theta)
        n, away = some.n[:, None], wide * np.broadcast_to(NODES, theta.shape)
        r = some.k[:, None] - n * p
        h = r**2 - n * p * (1 - p)
        of_r, of_away = _mean(share, r), _mean(share, r, away)
        score[at, 0], score[at, 1:] = of_away, of_r[:, None] * some.x
        # t moves theta along itself, so that its score has a derivative of its own.
        bend[at, 0] = _mean(share, h, away, away) + of_away - of_away**2
        bend[at, 1] = _mean(share, h, away) - of_r * of_away
        bend[at, 2] = _mean(share, h) - of_r**2
        likelihood += float(total.sum())
    return Pull(likelihood, score, bend, seen.x)


def _second_step(seen: Seen, effects: Floats, spread: Floats | None) -> Pull:
    """Of the annotator's votes, by a, c and b."""
    likelihood, design = 0.0, np.column_stack([seen.place, seen.x])
    score, bend = np.empty((len(seen.y), len(effects))), np.empty((len(seen.y), 3))
    for at, some in seen.blocks():
        theta, _, eta, share, gain = _after(some, effects, spread)
        p = SPECIAL.expit(eta)
        r = some.y[:, None] - p
        h = r**2 - p * (1 - p)
        of_r, of_theta = _mean(share, r), _mean(share, r, theta)
        score[at, 0], score[at, 1:] = of_theta, of_r[:, None] * design[at]
        bend[at, 0] = _mean(share, h, theta, theta) - of_theta**2
        bend[at, 1] = _mean(share, h, theta) - of_r * of_theta
        bend[at, 2] = _mean(share, h) - of_r**2
        likelihood += gain
    return Pull(likelihood, score, bend, design)


def _after(
    some: Seen, effects: Floats, spread: Floats | None
) -> tuple[Floats, Floats, Floats, Floats, float]:
    """Nodes, weights, log-odds, the nodes' shares after the votes, and the log-likelihood."""
    theta, weight = _nodes(some, spread)
    eta = effects[0] * theta + (some.place * effects[1] + some.x @ effects[2:])[:, None]
    after = weight + some.y[:, None] * eta + SPECIAL.log_expit(-eta)
    total = SPECIAL.logsumexp(after, 1)
    gain = float((total - SPECIAL.logsumexp(weight, 1)).sum())
    return theta, weight, eta, np.exp(after - total[:, None]), gain


def _crossed(seen: Seen, effects: Floats, spread: Floats) -> Floats:
    """The derivative of the second step's score by the first step's parameters."""
    made, wide = np.zeros((len(effects), len(spread))), np.exp(spread[0])
    for _, some in seen.blocks():
        theta, _, eta, share, _ = _after(some, effects, spread)
        design = np.column_stack([some.place, some.x])
        p, a = SPECIAL.expit(eta), effects[0]
        r, away = some.y[:, None] - p, wide * np.broadcast_to(NODES, theta.shape)
        # What theta does to the weight of its node, and to the row's score there.
        pull = some.k[:, None] - some.n[:, None] * SPECIAL.expit(theta) + a * r
        slope = -a * p * (1 - p)
        for column, by in ((0, away), (slice(1, None), np.ones_like(theta))):
            of_pull = _mean(share, pull, by)
            flat = _mean(share, r * pull + slope, by) - _mean(share, r) * of_pull
            along = _mean(share, theta * (r * pull + slope) + r, by)
            along = along - _mean(share, r, theta) * of_pull
            x = np.ones((len(flat), 1)) if column == 0 else some.x
            moved = np.vstack([along @ x, design.T @ (flat[:, None] * x)])
            made[:, column] += moved[:, 0] if column == 0 else moved
    return made


def _left(seen: Seen, effects: Floats, spread: Floats | None) -> float:
    """How far the votes are from what the effects predict, in the mean."""
    apart = 0.0
    for _, some in seen.blocks():
        _, weight, eta, _, _ = _after(some, effects, spread)
        share = np.exp(weight - SPECIAL.logsumexp(weight, 1)[:, None])
        apart += float(np.abs(some.y - _mean(share, SPECIAL.expit(eta))).sum())
    return apart / len(seen.y)
