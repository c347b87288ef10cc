"""Bradley-Terry strengths from votes: P(i preferred to j) = sigmoid(theta_i - theta_j).

Components of the comparison graph are independent problems. Small ones are solved many at once
as stacks of dense matrices, a large one on its own by conjugate gradients.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse import csgraph
from scipy.sparse import linalg as sparse_linalg
from scipy.special import expit

from prefdata.aggregate._tally import preferences, tally, with_prompts
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Completions, Scores, Strengths, Votes

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

# These modules come without types.
LAPACK: Any = linalg.lapack
GRAPHS: Any = csgraph
SPARSE: Any = sparse
SOLVERS: Any = sparse_linalg

# Up to SMALL items a component is a dense matrix in a stack of at most STACK numbers. Above LARGE
# the inverse of its information would not fit into memory.
SMALL = 64
STACK = 1 << 20
LARGE = 10_000


@dataclass(frozen=True)
class Fit:
    """Fitted strengths of items, of mean 0 within each connected component.

    `anchor` is, for each item, the strength of the opponent that the prior stands for, so that
    the optimum condition reads, with n_ij the votes on i and j and w_i the wins of i,

        w_i + prior = sum_j n_ij sigmoid(theta_i - theta_j) + 2 prior sigmoid(theta_i - anchor_i)

    `residual` is the largest difference of its sides over all items, `iterations` the most Newton
    steps that a component took.
    """

    strengths: Floats
    anchor: Floats
    component: Ints
    residual: float
    iterations: int


@dataclass(frozen=True)
class Block:
    """Components of one size, their items numbered from 0, component after component."""

    items: Ints
    size: int
    rows: Ints
    one: Ints
    other: Ints
    wins: Floats
    losses: Floats

    def only(self, kept: NDArray[np.bool_]) -> "Block":
        """The kept components, renumbered."""
        number = np.cumsum(kept) - 1
        owner = self.one // self.size
        row = kept[owner]
        shift = (number[owner] - owner)[row] * self.size
        return replace(
            self,
            items=self.items.reshape(-1, self.size)[kept].ravel(),
            rows=self.rows[row],
            one=self.one[row] + shift,
            other=self.other[row] + shift,
            wins=self.wins[row],
            losses=self.losses[row],
        )


def fit_bradley_terry(
    one: Ints,
    other: Ints,
    wins: Floats,
    losses: Floats,
    *,
    n_items: int,
    prior: float = 0.1,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
) -> Fit:
    """Maximise the likelihood of `wins[k]` of item `one[k]` over `other[k]` and `losses[k]`.

    Counts may be fractions. Each item also has `prior` wins and `prior` losses against an opponent
    of strength 0, which keeps the strengths of items that always win finite. Newton steps are
    shortened to log(1 + r) / r of their length, r being the largest change of a difference: this
    provably ascends, as the third derivative is at most r times the second (Bach, 2010). A
    component is done when a full step moves no difference by more than `tolerance`.

    Raises `ConvergenceError` after `max_iterations`, and with prior 0 where a finite optimum does
    not exist: some items of a component never lose to the others.
    """
    component = _components(one, other, wins, losses, n_items, prior)
    theta = np.zeros(n_items)
    iterations = 0
    for block in _blocks(component, one, other, wins, losses):
        found, steps = _maximise(block, prior, tolerance, max_iterations)
        theta[block.items] = found
        iterations = max(iterations, steps)
    everything = Block(np.arange(n_items), n_items, one, one, other, wins, losses)
    residual = float(np.abs(_gradient(everything, theta, prior)).max(initial=0.0))
    centre = np.bincount(component, theta) / np.bincount(component)
    return Fit(theta - centre[component], -centre[component], component, residual, iterations)


def standard_errors(
    fit: Fit, one: Ints, other: Ints, wins: Floats, losses: Floats, *, prior: float = 0.1
) -> tuple[Floats, Floats]:
    """Standard errors of the strengths and of the differences one[k] - other[k].

    From the inverse of the observed information (with the prior's) at the optimum, projected on
    strengths of mean 0. NaN in components of more than `LARGE` items.
    """
    of_item, of_difference = np.full(len(fit.strengths), np.nan), np.full(len(one), np.nan)
    for block in _blocks(fit.component, one, other, wins, losses):
        if block.size > LARGE:
            continue
        theta = (fit.strengths - fit.anchor)[block.items]
        inverse = _inverse(_information(block, theta, prior))
        diagonal = np.einsum("cii->ci", inverse)
        mean = inverse.mean(2)
        variance = diagonal - 2 * mean + mean.mean(1, keepdims=True)
        of_item[block.items] = np.sqrt(np.maximum(variance.ravel(), 0))
        cross = inverse[block.one // block.size, block.one % block.size, block.other % block.size]
        apart = diagonal.ravel()[block.one] + diagonal.ravel()[block.other] - 2 * cross
        of_difference[block.rows] = np.sqrt(np.maximum(apart, 0))
    return of_item, of_difference


def _components(
    one: Ints, other: Ints, wins: Floats, losses: Floats, n_items: int, prior: float
) -> Ints:
    """The component of each item; without a prior, each must have an optimum."""

    def groups(left: Ints, right: Ints, connection: str) -> tuple[int, Ints]:
        edges = (np.ones(len(left)), (left, right))
        graph = SPARSE.coo_array(edges, shape=(n_items, n_items))
        return GRAPHS.connected_components(graph, connection=connection)

    n_weak, component = groups(one, other, "weak")
    if prior == 0:
        winner = np.concatenate([one[wins > 0], other[losses > 0]])
        loser = np.concatenate([other[wins > 0], one[losses > 0]])
        n_strong, strong = groups(winner, loser, "strong")
        if n_strong > n_weak:
            parts = np.unique(np.stack([component, strong]), axis=1)[0]
            worst = int(np.flatnonzero(np.bincount(parts) > 1)[0])
            first = np.flatnonzero(component == worst)[:3].tolist()
            raise ConvergenceError(
                f"Bradley-Terry with prior 0 has no finite optimum: {n_strong} groups of items "
                f"never lose to others in {n_weak} components, first with items {first}; "
                "residual inf after 0 iterations; give a prior above 0"
            )
    return component.astype(np.int64)


def _blocks(
    component: Ints, one: Ints, other: Ints, wins: Floats, losses: Floats
) -> Iterator[Block]:
    """The components in blocks of one size, small ones many to a block, a large one alone."""
    size = np.bincount(component)[component] if len(component) else component
    order = np.lexsort((component, size))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    size, rows = size[order], np.argsort(place[one], kind="stable")
    first = place[one[rows]]
    start = 0
    while start < len(order):
        k = int(size[start])
        same = int(np.searchsorted(size, k, side="right")) - start
        many = min(same, k * max(1, STACK // k**2)) if k <= SMALL else k
        low, high = np.searchsorted(first, [start, start + many])
        mine = rows[low:high]
        yield Block(
            order[start : start + many], k, mine,
            place[one[mine]] - start, place[other[mine]] - start, wins[mine], losses[mine],
        )  # fmt: skip
        start += many


def _maximise(
    block: Block, prior: float, tolerance: float, max_iterations: int
) -> tuple[Floats, int]:
    """Strengths of a block's items on the scale where the prior's opponent has 0, and steps."""
    theta = _start(block, prior)
    live, rest = np.arange(len(theta)).reshape(-1, block.size), block
    solve: Callable[[Block, Floats, Floats, float], Floats]
    solve = _solve_stack if block.size <= SMALL else _solve_large
    for iteration in range(1, max_iterations + 1):
        here = theta[live.ravel()]
        gradient = _gradient(rest, here, prior)
        step = solve(rest, here, gradient, prior).reshape(live.shape)
        low, high = step.min(1), step.max(1)
        if prior > 0:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        reach = np.maximum(high - low, 1e-300)
        theta[live] += step * (np.log1p(reach) / reach)[:, None]
        # Where the likelihood is flat to the last bit no step can be told from noise.
        votes = np.bincount(rest.one, rest.wins + rest.losses, minlength=live.size)
        noise = 1e-15 * (votes + prior).reshape(live.shape).max(1)
        kept = (reach > tolerance) & (np.abs(gradient).reshape(live.shape).max(1) > noise)
        if not kept.any():
            return theta, iteration
        if not kept.all():
            live, rest = live[kept], rest.only(kept)
    residual = float(np.abs(_gradient(block, theta, prior)).max())
    raise ConvergenceError(
        f"Bradley-Terry did not converge: residual {residual:.3g} votes after {max_iterations} "
        f"iterations in {len(live)} components, first with items {rest.items[:3].tolist()}; "
        "allow more iterations or give a larger prior"
    )


def _start(block: Block, prior: float) -> Floats:
    """The log odds of each item's share of wins: near the optimum where all meet all."""
    n = len(block.items)
    won = np.bincount(block.one, block.wins, n) + np.bincount(block.other, block.losses, n)
    lost = np.bincount(block.one, block.losses, n) + np.bincount(block.other, block.wins, n)
    odds = (won + prior + 0.5) / (lost + prior + 0.5)
    return np.log(odds) * (block.size - 1) / block.size


def _gradient(block: Block, theta: Floats, prior: float) -> Floats:
    """Observed less expected wins of each item."""
    apart = theta[block.one] - theta[block.other]
    more = block.wins * expit(-apart) - block.losses * expit(apart)
    n = len(theta)
    of_votes = np.bincount(block.one, more, n) - np.bincount(block.other, more, n)
    return of_votes - prior * np.tanh(theta / 2)


def _curvature(block: Block, theta: Floats, prior: float) -> tuple[Floats, Floats]:
    """The information of each comparison, and the diagonal of the information matrix."""
    apart = theta[block.one] - theta[block.other]
    each = (block.wins + block.losses) * expit(apart) * expit(-apart)
    n = len(theta)
    diagonal = np.bincount(block.one, each, n) + np.bincount(block.other, each, n)
    return each, diagonal + 2 * prior * expit(theta) * expit(-theta)


def _information(block: Block, theta: Floats, prior: float) -> Floats:
    """The information matrix of each component; without a prior made regular along the ones.

    What is added there changes neither a step, which is orthogonal to it, nor the centred errors.
    """
    k = block.size
    each, diagonal = _curvature(block, theta, prior)
    cells = block.one * k + block.other % k, block.other * k + block.one % k
    off = np.bincount(np.concatenate(cells), np.concatenate([-each, -each]), len(theta) * k)
    matrix = off.astype(np.float64, copy=False).reshape(-1, k, k)
    np.einsum("cii->ci", matrix)[:] = diagonal.reshape(-1, k)
    if prior == 0:
        matrix += np.maximum(diagonal.reshape(-1, k).mean(1), 1e-300)[:, None, None] / k
    return matrix


def _solve_stack(block: Block, theta: Floats, gradient: Floats, prior: float) -> Floats:
    matrix = _information(block, theta, prior)
    return np.linalg.solve(matrix, gradient.reshape(-1, block.size, 1)).ravel()


def _solve_large(block: Block, theta: Floats, gradient: Floats, prior: float) -> Floats:
    each, diagonal = _curvature(block, theta, prior)
    n = len(theta)

    def times(x: Floats) -> Floats:
        flow = each * (x[block.one] - x[block.other])
        of_votes = np.bincount(block.one, flow, n) - np.bincount(block.other, flow, n)
        return of_votes + of_prior * x

    if prior == 0:
        # What rounding leaves along the ones has no solution, and would be sought for ever.
        gradient = gradient - gradient.mean()
    of_prior = 2 * prior * expit(theta) * expit(-theta)
    matrix = SOLVERS.LinearOperator((n, n), matvec=times, dtype=np.float64)
    scale = SPARSE.diags_array(1 / diagonal)
    return SOLVERS.cg(matrix, gradient, rtol=1e-8, maxiter=20 * n, M=scale)[0]


def _inverse(matrix: Floats) -> Floats:
    if matrix.shape[1] <= SMALL:
        return np.linalg.inv(matrix)
    # LAPACK counts columns first; the transpose of a symmetric matrix spares it a copy.
    factor, failed = LAPACK.dpotrf(matrix[0].T, lower=1, overwrite_a=1)
    if failed:
        return np.full_like(matrix, np.nan)
    lower: Floats = np.tril(LAPACK.dpotri(factor, lower=1, overwrite_c=1)[0])
    return (lower + np.tril(lower, -1).T)[None]


def bradley_terry(
    votes: Votes,
    completions: Completions | None = None,
    *,
    prior: float = 0.1,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    max_iterations: int = 200,
    estimator: str = "bradley_terry",
) -> tuple[Strengths, Scores]:
    """Estimate the strength of each completion on the log scale from all votes that connect it.

        P(a preferred to b) = sigmoid(theta_a - theta_b)

    by maximum likelihood with a weak prior. A vote adds its preference as wins of a and the rest
    as wins of b, so a tie is half a win for each and P is the expected share of a, wins and half
    of the ties. (Under a model with an own parameter for ties these strengths come out nearer to
    0; without the ties they would come out too far from it.) Unscored votes are left out. Votes
    are taken as independent, both orders of a judge too.

    - `strengths`: theta, of mean 0 over the completions that votes connect, and its standard error
      from the inverse observed information on that scale. Votes without a prompt connect the
      completions of different prompts, and these then share one scale.
    - `scores`: for each compared two, score `preference`, P(the smaller completion_id wins), with
      the standard error P (1 - P) se(theta_a - theta_b).

    Standard errors are null where votes connect more than 10,000 completions.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `prior`: wins, and as many losses, that each completion has against an opponent of strength
      0 before any vote. It keeps a completion that always wins finite, and puts completions of a
      prompt that no votes connect on one scale. 0 is maximum likelihood.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `max_iterations`: Newton steps before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where there is no optimum or it was not reached; `RecipeError` for a
    criterion without votes, a weight not above 0 or a prior below 0; `TableError` where the prompt
    of a completion cannot be found.

    Source: Bradley and Terry (1952); Hunter (2004) for the conditions of an optimum; Bach (2010),
    Self-concordant analysis for logistic regression, for the length of a step.
    """
    if not 0 <= prior < float("inf"):
        raise RecipeError(f"aggregate.bradley_terry: prior is {prior}; give 0 or a number above")
    pairs = tally(votes, criteria, weights)
    ids = pl.concat([pairs["completion_a"], pairs["completion_b"]]).unique().sort()
    one, other = (_numbers(pairs[side], ids) for side in ("completion_a", "completion_b"))
    counts = one, other, pairs["wins"].to_numpy(), pairs["losses"].to_numpy()
    fit = fit_bradley_terry(*counts, n_items=len(ids), prior=prior, max_iterations=max_iterations)
    of_item, of_difference = standard_errors(fit, *counts, prior=prior)
    strengths = pl.DataFrame(
        {"completion_id": ids, "strength": fit.strengths, "stderr": of_item},
        schema_overrides={"completion_id": pl.String},
    )
    value = expit(fit.strengths[one] - fit.strengths[other])
    scored = pairs.with_columns(value=value, stderr=value * (1 - value) * of_difference)
    return (
        with_prompts(strengths, votes, completions, estimator),
        preferences(scored, estimator),
    )


def _numbers(names: pl.Series, ids: pl.Series) -> Ints:
    return names.cast(pl.Enum(ids)).to_physical().cast(pl.Int64).to_numpy()
