"""The fit of `aggregate.reliability` by marginal likelihood, and what follows from it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from prefdata.aggregate._reliability_grid import (
    Block,
    Evidence,
    Floats,
    Grid,
    Posterior,
    State,
    blocks,
    cell_means,
    posteriors,
)
from prefdata.aggregate._reliability_strengths import Strengths
from prefdata.errors import ConvergenceError

# A gold vote is as many votes, each of this discrimination, as leave no doubt.
GOLD_VOTES, GOLD_SLOPE = 20.0, 2.0
# Before any vote an annotator is taken to see a difference of 1 as odds of e.
PRIOR_SLOPE = 1.0
# Fewer annotators do not tell shared errors from the truth.
FEWEST = 3
# Where the search for the sizes of errors starts. A smaller one is none: a search gets to 0 ever
# more slowly.
START_ERROR, LEAST_ERROR = 0.7, 0.1
# A step that raises the posterior (in logs) by less goes along a ridge on which all is as likely.
FLAT = 0.01
PAIRS = ("precision", "toward", "mean")
# The column of the coefficients that is about length.
LENGTH = 2


@dataclass(frozen=True)
class Fit:
    """The state at the optimum, standard errors of its coefficients, the log-likelihood, and the
    votes in blocks and the graph of items with which they were found."""

    state: State
    errors: Floats
    log_likelihood: float
    grid: Grid
    blocks: list[Block]
    strengths: Strengths
    iterations: int


def fit_reliability(seen: Evidence, *, max_iterations: int = 500, tolerance: float = 1e-4) -> Fit:
    """The coefficients of highest posterior density, differences and errors summed out.

    Shared errors are only in the model where they can be told from the truth, that is where two
    units or more voted repeatedly on a pair, and where they are worth their two parameters
    (Schwarz 1978). Raises `ConvergenceError` after `max_iterations` steps.
    """
    simple = _fit(seen, Grid(False), max_iterations, tolerance)
    repeating = np.unique(seen.unit[seen.cells[seen.cell_sizes > 1]])
    if (~seen.gold[repeating]).sum() < FEWEST:
        return _with_errors(seen, simple)
    least = simple.log_likelihood + float(np.log(seen.n_pairs))
    rich = _fit(seen, Grid(True), max_iterations, tolerance, least)
    # Neither is to be bought with coefficients that the prior does not expect.
    price = _log_prior(seen, simple.state) - _log_prior(seen, rich.state)
    worth = rich.log_likelihood - max(price, 0) > least
    return _with_errors(seen, rich if worth else simple)


def _fit(
    seen: Evidence, grid: Grid, max_iterations: int, tolerance: float, least: float = -np.inf
) -> Fit:
    """EM (Bock and Aitkin, 1981), extrapolated (Varadhan and Roland, 2008) where that goes on well.

    Differences of pairs that share completions are approximated as normal by expectation
    propagation (Minka, 2001); of two completions that only meet each other the sum is exact. A fit
    that is no better than `least` need not converge.
    """
    strengths = Strengths(seen.pair_one, seen.pair_other, seen.n_items)
    made = blocks(seen, grid)
    coefficients = np.zeros((seen.n_units, 1 + seen.effects.shape[1]))
    coefficients[:, 0] = seen.start if grid.errors else PRIOR_SLOPE
    if seen.gold.any():
        coefficients[:, 0] = seen.start
    coefficients[seen.gold, 0] = GOLD_SLOPE
    nothing = np.zeros(seen.n_pairs)
    shared = np.full(2, START_ERROR if grid.errors else 0.0)
    state = State(coefficients, shared, nothing, nothing, nothing)
    steps, change, log, turned = 0, np.inf, -np.inf, False
    while steps < max_iterations:
        one, before = _step(seen, made, strengths, grid, state)
        two, log = _step(seen, made, strengths, grid, one)
        steps += 2
        change = _distance(two, one)
        gain = log + _log_prior(seen, one) - before - _log_prior(seen, state)
        flat = gain < FLAT and change <= 100 * tolerance
        if change <= tolerance or (grid.errors and flat):
            mirror = _mirrored(seen, two)
            if turned or mirror is None:
                return Fit(two, np.zeros(0), log, grid, made, strengths, steps)
            state, turned = mirror, True
            continue
        ahead = _extrapolated(state, one, two)
        beyond, _ = _step(seen, made, strengths, grid, ahead)
        steps += 1
        state = beyond if _distance(beyond, ahead) <= 2 * change else two
    if steps and log <= least:
        return Fit(state, np.zeros(0), log, grid, made, strengths, steps)
    raise ConvergenceError(
        f"aggregate.reliability did not converge: a step still moves a parameter by {change:.3g} "
        f"after {steps} iterations; allow more iterations"
    )


def _mirrored(seen: Evidence, state: State) -> State | None:
    """The state with all differences turned round, where the discriminations' prior prefers it:
    votes cannot tell the two apart. Gold can."""
    if seen.gold.any() or (seen.prior * state.coefficients[:, 0]).sum() >= 0:
        return None
    turned = state.coefficients.copy()
    turned[:, 0] *= -1
    return replace(state, coefficients=turned, toward=-state.toward, mean=-state.mean)


def _log_prior(seen: Evidence, state: State) -> float:
    away = state.coefficients.copy()
    away[:, 0] -= PRIOR_SLOPE
    of_units = (seen.prior[:, None] * away**2)[~seen.gold].sum()
    return -float(of_units + (state.shared**2).sum()) / 2


def _distance(one: State, other: State) -> float:
    """The most that a coefficient moved, or a tenth of the most that a difference did: of those
    there are many more, and each is known much worse."""
    moved = np.abs(one.coefficients - other.coefficients).max(initial=0.0)
    moved = max(moved, np.abs(one.shared - other.shared).max())
    return float(max(moved, np.abs(one.mean - other.mean).max(initial=0.0) / 10))


def _extrapolated(zero: State, one: State, two: State) -> State:
    def flat(state: State) -> Floats:
        return np.concatenate([state.coefficients.ravel(), state.shared])

    x, y, z = flat(zero), flat(one), flat(two)
    step, bend = y - x, z - 2 * y + x
    size = float(np.sqrt(bend @ bend))
    length = min(max(float(np.sqrt(step @ step)) / max(size, 1e-300), 0.3), 32.0)
    made = x + 2 * length * step + length**2 * bend
    shared = np.where(two.shared > 0, np.maximum(made[-2:], two.shared / 2), 0)
    return replace(two, coefficients=made[:-2].reshape(two.coefficients.shape), shared=shared)


def _step(
    seen: Evidence, made: list[Block], strengths: Strengths, grid: Grid, state: State
) -> tuple[State, float]:
    """New differences, then one Newton step of all coefficients; and the log-likelihood before."""
    k = state.coefficients.shape[1]
    n = k + 2
    slope, matrix = np.zeros((seen.n_units, n)), np.zeros((seen.n_units, n, n))
    pairs = {name: np.empty(seen.n_pairs) for name in PAIRS}
    log = 0.0
    for found in posteriors(seen, made, strengths, grid, state):
        block = found.block
        for name, values in pairs.items():
            values[block.low : block.high] = getattr(found, name)
        log += found.log_likelihood
        _add(seen, found, slope, matrix)
    live = ~seen.gold
    coefficients, shared = state.coefficients, state.shared
    away = coefficients.copy()
    away[:, 0] -= PRIOR_SLOPE
    weight = seen.prior[:, None]
    slope[:, :k] -= weight * away
    inner = matrix[:, :k, :k] + weight[:, :, None] * np.eye(k)
    outer = matrix[:, :k, k:]
    inner[seen.gold], slope[seen.gold], outer[seen.gold] = np.eye(k), 0, 0
    right = np.concatenate([slope[:, :k, None], outer], 2)
    solved = np.linalg.solve(inner, right)
    moved: Floats = np.zeros(2)
    if grid.errors:
        # What is common to all units is solved for first, by the complement of Schur.
        across: Floats = np.einsum("uki,ukj->ij", outer, solved)
        bend: Floats = matrix[live][:, k:, k:].sum(0) + np.eye(2) - across[:, 1:]
        toward: Floats = slope[:, k:].sum(0) - shared - across[:, 0]
        moved = np.asarray(np.linalg.solve(bend, toward))
    coefficients = coefficients + solved[:, :, 0] - solved[:, :, 1:] @ moved
    size = np.abs(shared + moved)
    if not seen.gold.any():
        coefficients[:, LENGTH] -= _common(coefficients) * coefficients[:, 0]
    return State(coefficients, np.where(size < LEAST_ERROR, 0, size), **pairs), log


def _common(coefficients: Floats) -> float:
    """What length is worth to all units, in differences: the mean weighed by discriminations.

    What all share cannot be told from quality without gold, and is taken to be quality: an effect
    is how far a unit is from the others.
    """
    d, worth = coefficients[:, 0], coefficients[:, LENGTH]
    return float((d * worth).sum() / max((d**2).sum(), 1e-9))


def _add(seen: Evidence, found: Posterior, slope: Floats, matrix: Floats) -> None:
    """Each unit's expected slope and curvature by d, the effects, s and t."""
    block, basis = found.block, found.grid.basis
    weight = (block.counts.T @ found.weight)[:, :, None] * found.own
    weight = weight.reshape(len(weight), -1)
    asked = block.asked.T @ weight
    left = block.said.T @ weight - asked * found.p
    bend = asked * found.p * (1 - found.p)
    i, j = np.triu_indices(4)
    first, second = left @ basis, bend @ (basis[:, i] * basis[:, j])
    # A coefficient multiplies a column of the grid, and a number of the vote.
    one = np.ones(len(block.unit))
    terms = [(1, one), *((0, column) for column in block.x.T), (2, one), (3, one)]
    place = {(a, b): at for at, (a, b) in enumerate(zip(i.tolist(), j.tolist(), strict=True))}
    for a, (at, x) in enumerate(terms):
        slope[:, a] += np.bincount(block.unit, x * first[:, at], seen.n_units)
        for b, (to, z) in enumerate(terms[a:], a):
            value = second[:, place[min(at, to), max(at, to)]]
            made = np.bincount(block.unit, x * z * value, seen.n_units)
            matrix[:, a, b] += made
            if a != b:
                matrix[:, b, a] += made


def _with_errors(seen: Evidence, fit: Fit) -> Fit:
    """Standard errors from the information that is there once differences are not known (Louis,
    1982): the expected curvature, less the variance of the slopes."""
    k = fit.state.coefficients.shape[1]
    slope, matrix = np.zeros((seen.n_units, k + 2)), np.zeros((seen.n_units, k + 2, k + 2))
    for found in pair_posteriors(seen, fit):
        block = found.block
        _add(seen, found, slope, matrix)
        slopes = found.slopes()
        score = np.stack([found.expected(each) for each in slopes])
        means = cell_means(found, found.weight, score) * block.cell_weight
        weight = (block.counts.power(2).T @ found.weight)[:, :, None] * found.own
        weight = weight.reshape(len(weight), -1)
        cells = block.of[block.cell_pattern]
        for a in range(k):
            for b in range(k):
                each = np.einsum("pq,pq,pq->p", weight, slopes[a], slopes[b])
                spread = np.bincount(block.of, each, seen.n_units)
                known = np.bincount(cells, means[a] * means[b], seen.n_units)
                matrix[:, a, b] -= spread - known
    # Where a group shares its votes, all have the one's information.
    matrix = matrix[:, :k, :k] / seen.prior[:, None, None]
    value, vector = np.linalg.eigh((matrix + np.swapaxes(matrix, 1, 2)) / 2)
    # Where summing out took more than there was, the prior is left.
    variance = np.einsum("uij,uj->ui", vector**2, 1 / (1 + np.maximum(value, 0)))
    variance[seen.gold] = 0
    return replace(fit, errors=np.sqrt(variance))


def pair_posteriors(seen: Evidence, fit: Fit) -> Iterator[Posterior]:
    """Of each block its posterior under a fit."""
    yield from posteriors(seen, fit.blocks, fit.strengths, fit.grid, fit.state)


def tempered(seen: Evidence, fit: Fit, effect: Floats, *, steps: int = 200) -> tuple[Evidence, Fit]:
    """The votes of a pair counting 1 / `effect`, and differences under the same coefficients."""
    weight = np.where(seen.gold[seen.unit], seen.weight, seen.weight / effect[seen.pair])
    lighter = replace(seen, weight=weight)
    made = [block.weighed(weight) for block in fit.blocks]
    state = fit.state
    for _ in range(steps):
        pairs = {name: np.empty(seen.n_pairs) for name in PAIRS}
        for found in posteriors(lighter, made, fit.strengths, fit.grid, state):
            for name, values in pairs.items():
                values[found.block.low : found.block.high] = getattr(found, name)
        moved = float(np.abs(pairs["mean"] - state.mean).max(initial=0.0))
        state = replace(state, **pairs)
        if moved < 1e-6:
            break
    return lighter, replace(fit, state=state, blocks=made)


def strengths_of(fit: Fit) -> tuple[Floats, Floats]:
    """The strength of each item, of mean 0 over those that votes connect, and its variance."""
    return fit.strengths.items(fit.state.precision, fit.state.toward)


def probability(seen: Evidence, fit: Fit) -> tuple[Floats, Floats]:
    """P(the first item of each pair is the stronger), and its error from the discriminations'."""
    value, variance = np.empty(seen.n_pairs), np.zeros(seen.n_pairs)
    for found in pair_posteriors(seen, fit):
        block = found.block
        above = found.weight * (found.grid.d > 0)
        p = above.sum(1)
        value[block.low : block.high] = p
        # The covariance of being above 0 with a cell's slope.
        score = found.expected(found.slopes()[0])
        moved = cell_means(found, above - p[:, None] * found.weight, score[None])[0]
        error = fit.errors[block.of[block.cell_pattern], 0]
        moved = (moved * block.cell_weight * error) ** 2
        variance += np.bincount(block.cell_pair, moved, seen.n_pairs)
    return value, np.sqrt(variance)
