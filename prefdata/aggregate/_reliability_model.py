"""What `aggregate.reliability` computes on arrays: marginal maximum likelihood on a grid."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from prefdata.aggregate._reliability_strengths import Strengths
from prefdata.errors import ConvergenceError

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
SPARSE: Any = sparse

# A gold vote is as many votes, each of this discrimination, as leave no doubt.
GOLD_VOTES, GOLD_SLOPE = 20.0, 2.0
# Before any vote an annotator is taken to see a difference of 1 as odds of e.
PRIOR_SLOPE = 1.0
# Differences are summed over at such steps, with errors and without, to such a size. No node is 0,
# where P changes.
STEP_WITH_ERRORS, STEP, FARTHEST = 0.5, 0.25, 7.0
# A normal distribution narrower than so many steps would fall between the nodes.
NARROWEST = 0.7
# The largest log-odds of a vote.
MOST = 30.0
# Nodes of a pair's error and of an annotator's own, and where the search for their sizes starts.
NODES, OWN_NODES, START_ERROR = np.arange(-3, 3.1, 0.75), np.array([-1.5, 0.0, 1.5]), 0.7
# Fewer annotators do not tell shared errors from the truth.
FEWEST = 3
# A smaller error is none: a search gets to 0 ever more slowly.
LEAST_ERROR = 0.1
# A step that raises the log posterior by less goes along a ridge on which all is as likely.
FLAT = 1e-3
# Numbers in the largest array at a time.
ROOM = 1 << 22
PAIRS = ("precision", "toward", "mean")


@dataclass(frozen=True)
class Evidence:
    """Votes as arrays. `pair_one` and `pair_other` are the items of each pair; `pair` and `unit`
    (who voted, on which criterion) of each vote; `y` its preference for the first item; `effects`
    (votes, columns) what else may have moved it, positive where it favours the first item;
    `weight` what it counts, the same for all votes of a unit on a pair; `gold` which units are the
    truth; `start` where the search for each unit's discrimination starts, and `prior` what the prior
    of its coefficients counts."""

    pair_one: Ints
    pair_other: Ints
    n_items: int
    pair: Ints
    unit: Ints
    n_units: int
    y: Floats
    effects: Floats
    weight: Floats
    gold: NDArray[np.bool_]
    start: Floats
    prior: Floats

    @property
    def n_pairs(self) -> int:
        return len(self.pair_one)


@dataclass(frozen=True)
class State:
    """`coefficients` (units, 1 + columns): the discrimination, then the effects; `shared`, the sizes
    of the errors kappa and tau; of each pair's likelihood as a normal one `precision` and `toward`;
    and the `mean` of its difference."""

    coefficients: Floats
    shared: Floats
    precision: Floats
    toward: Floats
    mean: Floats


@dataclass(frozen=True)
class Fit:
    """The state at the optimum, standard errors of its coefficients, and its log posterior."""

    state: State
    errors: Floats
    log_posterior: float
    grid: "Grid"
    iterations: int


class Grid:
    """Nodes of the difference d, of the pair's error s and of an annotator's own error t on it."""

    def __init__(self, errors: bool) -> None:
        self.step = STEP_WITH_ERRORS if errors else STEP
        d = np.arange(-FARTHEST + self.step / 2, FARTHEST, self.step)
        s, t = (NODES, OWN_NODES) if errors else (np.zeros(1), np.zeros(1))
        self.errors, self.n_own = errors, len(t)
        self.d = np.repeat(d, len(s))
        self.s = np.tile(s, len(d))
        self.log_s = np.tile(_log_weights(s), len(d))
        self.log_t = _log_weights(t)
        # Columns of the full grid: 1, d, s, t.
        columns = [np.ones(len(self.d)), self.d, self.s]
        full = [np.repeat(column, len(t)) for column in columns]
        self.basis = np.stack([*full, np.tile(t, len(self.d))], 1)


def _log_weights(nodes: Floats) -> Floats:
    """Of a standard normal distribution at evenly spaced nodes."""
    weight = np.exp(-(nodes**2) / 2)
    return np.log(weight / weight.sum())


@dataclass(frozen=True)
class Block:
    """Some pairs, `low` to `high`. A unit's votes on a pair are a cell; cells with the same votes of
    the same unit are one pattern. A face is what a vote depends on but its difference: `unit` and
    `x`. `said` (patterns, faces) sums preferences, `asked` counts votes; `counts` (pairs, patterns)
    sums weights. `of` is the unit of each pattern; `cell_*` say where each cell is."""

    low: int
    high: int
    unit: Ints
    x: Floats
    said: Any
    asked: Any
    counts: Any
    of: Ints
    cell_pair: Ints
    cell_pattern: Ints
    cell_weight: Floats


class Posterior:
    """Of the pairs of a block, given a state: the weight of each node, and its moments."""

    def __init__(self, seen: Evidence, block: Block, state: State, grid: Grid, cavity: Floats):
        self.block, self.grid = block, grid
        own = state.coefficients[block.unit]
        live = ~seen.gold[block.unit]
        # What each of 1, d, s, t is multiplied by in the log-odds of a vote.
        shared = live[:, None] * state.shared
        factors = np.column_stack([(own[:, 1:] * block.x).sum(1), own[:, 0], shared])
        odds = np.clip(factors @ grid.basis.T, -MOST, MOST)
        against = expit(-odds)
        self.p = 1 - against
        # log(1 - p) is exact enough where the odds are clipped.
        log = block.said @ odds + block.asked @ np.log(against)
        log = log.reshape(len(log), -1, grid.n_own) + grid.log_t
        top = log.max(2, keepdims=True)
        own_weight = np.exp(log - top)
        total = own_weight.sum(2, keepdims=True)
        self.own = own_weight / total
        mean, variance = cavity
        wide = np.maximum(variance, (NARROWEST * grid.step) ** 2)[:, None]
        prior = -((grid.d - mean[:, None]) ** 2) / (2 * wide) - np.log(2 * np.pi * wide) / 2
        log_pair = block.counts @ (top + np.log(total))[:, :, 0] + prior + grid.log_s
        top_pair = log_pair.max(1, keepdims=True)
        weight = np.exp(log_pair - top_pair)
        sums = weight.sum(1, keepdims=True)
        self.weight = weight / sums
        self.log_likelihood = float((np.log(sums * grid.step) + top_pair).sum())
        self.mean = self.weight @ grid.d
        self.variance = np.maximum(self.weight @ grid.d**2 - self.mean**2, 1e-6)
        precision = np.maximum(1 / self.variance - 1 / wide[:, 0], 0)
        toward = self.mean / self.variance - mean / wide[:, 0]
        # Half a step, as all pairs step at once.
        pairs = slice(block.low, block.high)
        self.precision = (precision + state.precision[pairs]) / 2
        self.toward = (toward + state.toward[pairs]) / 2

    def left(self, x: Floats) -> Floats:
        """Of each pattern at each node of the full grid the sum of (y - p) x over its votes."""
        each = x[:, None]
        return self.block.said @ (each * np.ones_like(self.p)) - self.block.asked @ (each * self.p)

    def slopes(self) -> list[Floats]:
        """The slope of each pattern's log-likelihood by each coefficient, on the full grid."""
        first = self.left(np.ones(len(self.block.unit))) * self.grid.basis[:, 1]
        return [first, *(self.left(column) for column in self.block.x.T)]

    def expected(self, values: Floats) -> Floats:
        """Values of patterns on the full grid at the nodes of (d, s), t unknown."""
        return (values.reshape(self.own.shape) * self.own).sum(2)


def blocks(seen: Evidence, grid: Grid) -> list[Block]:
    """All pairs in blocks of bounded memory."""
    if not len(seen.pair):
        return []
    order = np.lexsort((seen.unit, seen.pair))
    pair = seen.pair[order]
    votes = np.bincount(pair, minlength=seen.n_pairs).cumsum()
    columns = len(grid.basis)
    # A block has at most so many votes, were each a pattern of its own, but one pair at least.
    made, low, room = [], 0, max(1, ROOM // columns) * 4
    pairs_at_once = max(1, ROOM // len(grid.d))
    while low < seen.n_pairs:
        before = votes[low - 1] if low else 0
        high = int(np.searchsorted(votes, before + room, side="right"))
        high = min(max(high, low + 1), low + pairs_at_once, seen.n_pairs)
        made.append(_block(seen, order[before : votes[high - 1]], low, high))
        low = high
    return made


def _block(seen: Evidence, rows: Ints, low: int, high: int) -> Block:
    pair, unit, y = seen.pair[rows], seen.unit[rows], seen.y[rows]
    told = np.column_stack([unit, seen.effects[rows]])
    faces, face = np.unique(told, axis=0, return_inverse=True)
    face = face.ravel()
    draw = np.random.default_rng(0)
    # Cells with the same votes are found by a sum of random numbers, one for each kind of vote.
    kinds, kind = np.unique(np.column_stack([face, y]), axis=0, return_inverse=True)
    names = draw.integers(0, 1 << 62, len(kinds), dtype=np.uint64)
    start = np.flatnonzero(np.r_[True, (np.diff(pair) != 0) | (np.diff(unit) != 0)])
    _, first, pattern = np.unique(
        np.add.reduceat(names[kind.ravel()], start), return_index=True, return_inverse=True
    )
    length = np.diff(np.r_[start, len(rows)])[first]
    votes = np.repeat(start[first] - (length.cumsum() - length), length) + np.arange(length.sum())
    where = (np.repeat(np.arange(len(first)), length), face[votes])
    shape = (len(first), len(faces))
    weight = seen.weight[rows[start]]
    counts = (weight, (pair[start] - low, pattern))
    return Block(
        low, high, faces[:, 0].astype(np.int64), faces[:, 1:],
        SPARSE.csr_array((y[votes], where), shape=shape),
        SPARSE.csr_array((np.ones(len(votes)), where), shape=shape),
        SPARSE.csr_array(counts, shape=(high - low, len(first))),
        unit[start[first]], pair[start], pattern, weight,
    )  # fmt: skip


def fit_reliability(seen: Evidence, *, max_iterations: int = 500, tolerance: float = 1e-4) -> Fit:
    """The coefficients of highest posterior density, differences and errors summed out.

    Shared errors are only in the model where they can be told from the truth, that is where two
    units or more voted repeatedly on a pair, and where they are worth their two parameters
    (Schwarz 1978). Raises `ConvergenceError` after `max_iterations` steps.
    """
    simple = _fit(seen, Grid(False), max_iterations, tolerance)
    cells = np.unique(seen.pair * seen.n_units + seen.unit, return_counts=True)
    repeating = np.unique(cells[0][cells[1] > 1] % max(seen.n_units, 1))
    if (~seen.gold[repeating]).sum() < FEWEST:
        return _with_errors(seen, simple)
    rich = _fit(seen, Grid(True), max_iterations, tolerance)
    worth = rich.log_posterior - simple.log_posterior > np.log(seen.n_pairs)
    return _with_errors(seen, rich if worth else simple)


def _fit(seen: Evidence, grid: Grid, max_iterations: int, tolerance: float) -> Fit:
    """EM (Bock and Aitkin, 1981), extrapolated (Varadhan and Roland, 2008) where that goes on well.

    Differences of pairs that share completions are approximated as normal by expectation
    propagation (Minka, 2001); of two completions that only meet each other the sum is exact.
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
    steps, change, turned = 0, np.inf, False
    while steps < max_iterations:
        one, before = _step(seen, made, strengths, grid, state)
        two, log = _step(seen, made, strengths, grid, one)
        steps += 2
        change = _distance(two, one)
        flat = log - before < FLAT and change <= 100 * tolerance
        if change <= tolerance or (grid.errors and flat):
            mirror = _mirrored(seen, two)
            if turned or mirror is None:
                return Fit(two, np.zeros(0), log, grid, steps)
            state, turned = mirror, True
            continue
        ahead = _extrapolated(state, one, two)
        beyond, _ = _step(seen, made, strengths, grid, ahead)
        steps += 1
        state = beyond if _distance(beyond, ahead) <= 2 * change else two
    raise ConvergenceError(
        f"aggregate.reliability did not converge: a step still moves a parameter by {change:.3g} "
        f"after {steps} iterations; allow more iterations"
    )


def _mirrored(seen: Evidence, state: State) -> State | None:
    """The state with all differences turned round, where the prior of the discriminations prefers it:
    votes cannot tell the two apart. Gold can."""
    if seen.gold.any() or (seen.prior * state.coefficients[:, 0]).sum() >= 0:
        return None
    turned = state.coefficients.copy()
    turned[:, 0] *= -1
    return replace(state, coefficients=turned, toward=-state.toward, mean=-state.mean)


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


def posteriors(
    seen: Evidence, made: list[Block], strengths: Strengths, grid: Grid, state: State
) -> Iterator[Posterior]:
    """Of each block the posterior of its pairs, what other pairs say about them being normal."""
    mean, variance = strengths.differences(state.precision, state.toward)
    wide = 1 / np.maximum(1 / variance - state.precision, 0.5)
    cavity = np.stack([wide * (mean / variance - state.toward), wide])
    for block in made:
        yield Posterior(seen, block, state, grid, cavity[:, block.low : block.high])


def _step(
    seen: Evidence, made: list[Block], strengths: Strengths, grid: Grid, state: State
) -> tuple[State, float]:
    """New differences, then one Newton step of all coefficients; and the log posterior before."""
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
    away = coefficients - PRIOR_SLOPE * (np.arange(k) == 0)
    weight = seen.prior[:, None]
    log -= float((weight * away**2)[live].sum() + (shared**2).sum()) / 2
    slope[:, :k] -= weight * away
    inner = matrix[:, :k, :k] + weight[:, :, None] * np.eye(k)
    outer = matrix[:, :k, k:]
    inner[seen.gold], slope[seen.gold], outer[seen.gold] = np.eye(k), 0, 0
    right = np.concatenate([slope[:, :k, None], outer], 2)
    solved = np.linalg.solve(inner, right)
    moved = np.zeros(2)
    if grid.errors:
        # What is common to all units is solved for first, by the complement of Schur.
        across = np.einsum("uki,ukj->ij", outer, solved)
        bend = matrix[live][:, k:, k:].sum(0) + np.eye(2) - across[:, 1:]
        moved = np.linalg.solve(bend, slope[:, k:].sum(0) - shared - across[:, 0])
    coefficients = coefficients + solved[:, :, 0] - solved[:, :, 1:] @ moved
    size = np.abs(shared + moved)
    return State(coefficients, np.where(size < LEAST_ERROR, 0, size), **pairs), log


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
    strengths = Strengths(seen.pair_one, seen.pair_other, seen.n_items)
    yield from posteriors(seen, blocks(seen, fit.grid), strengths, fit.grid, fit.state)


def cell_means(found: Posterior, weight: Floats, tables: Floats) -> Floats:
    """Sums over nodes of `weight` (pairs, nodes) and of `tables` (tables, patterns, nodes), of each
    table and cell."""
    block = found.block
    at_once = max(1, ROOM // weight.shape[1])
    means = np.empty((len(tables), len(block.cell_pair)))
    for low in range(0, len(block.cell_pair), at_once):
        cells = slice(low, low + at_once)
        of_pair = weight[block.cell_pair[cells] - block.low]
        for a, table in enumerate(tables):
            of_pattern = table[block.cell_pattern[cells]]
            means[a, cells] = np.einsum("cq,cq->c", of_pair, of_pattern)
    return means


def tempered(
    seen: Evidence, fit: Fit, effect: Floats, *, steps: int = 200
) -> tuple[Evidence, Fit]:
    """The votes of a pair counting 1 / `effect`, and the differences under the same coefficients."""
    weight = np.where(seen.gold[seen.unit], seen.weight, seen.weight / effect[seen.pair])
    lighter = replace(seen, weight=weight)
    strengths = Strengths(seen.pair_one, seen.pair_other, seen.n_items)
    made = blocks(lighter, fit.grid)
    state = fit.state
    for _ in range(steps):
        pairs = {name: np.empty(seen.n_pairs) for name in PAIRS}
        for found in posteriors(lighter, made, strengths, fit.grid, state):
            for name, values in pairs.items():
                values[found.block.low : found.block.high] = getattr(found, name)
        moved = float(np.abs(pairs["mean"] - state.mean).max(initial=0.0))
        state = replace(state, **pairs)
        if moved < 1e-6:
            break
    return lighter, replace(fit, state=state)


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
