"""The likelihood of votes on a grid of what is not seen, for `aggregate.reliability`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from prefdata.aggregate._reliability_strengths import Strengths

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
SPARSE: Any = sparse

# Differences are summed over at such steps, with errors and without, to such a size. No node is 0,
# where P changes.
STEP_WITH_ERRORS, STEP, FARTHEST = 0.5, 0.25, 7.0
# A normal distribution narrower than so many steps would fall between the nodes.
NARROWEST = 0.7
# Nodes of a pair's error and of an annotator's own.
NODES, OWN_NODES = np.arange(-3, 3.1, 0.75), np.array([-1.5, 0.0, 1.5])
# The largest log-odds of a vote.
MOST = 30.0
# Numbers in the largest array at a time.
ROOM = 1 << 22
# A sum in a product of matrices takes so many times less than one on its own.
MANY = 16


@dataclass(frozen=True)
class Evidence:
    """Votes as arrays. `pair_one` and `pair_other` are the items of each pair; `pair` and `unit`
    (who voted, on which criterion) of each vote, by which they are in order, so that the votes of a
    unit on a pair, a cell, stand together; `y` its preference for the first item; `effects`
    (votes, columns) what else may have moved it, positive where it favours the first item;
    `weight` what it counts, the same for all votes of a unit on a pair; `gold` which units are the
    truth; `start` where the search for each unit's discrimination starts, and `prior` what the
    prior of its coefficients counts."""

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

    @cached_property
    def cells(self) -> Ints:
        """The first vote of each cell."""
        other = (np.diff(self.pair) != 0) | (np.diff(self.unit) != 0)
        return np.flatnonzero(np.r_[np.ones(min(1, len(self.pair)), bool), other])

    @cached_property
    def cell_sizes(self) -> Ints:
        """How many votes each cell has."""
        return np.diff(np.r_[self.cells, len(self.pair)])


@dataclass(frozen=True)
class State:
    """`coefficients` (units, 1 + columns): the discrimination, then the effects; `shared`, the
    sizes of the errors kappa and tau; of each pair's likelihood as a normal one `precision` and
    `toward`; and the `mean` of its difference."""

    coefficients: Floats
    shared: Floats
    precision: Floats
    toward: Floats
    mean: Floats


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
    """Some pairs, `low` to `high`. A unit's votes on a pair are a cell; cells with the same votes
    of the same unit are one pattern. A face is what a vote depends on but its difference: `unit`
    and `x`. `said` (patterns, faces) sums preferences, `asked` counts votes; `counts` (pairs,
    patterns) sums weights. `of` is the unit of each pattern; `cell_*` say where each cell is, and
    which vote is its first."""

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
    cell_vote: Ints

    def weighed(self, weight: Floats) -> "Block":
        """The same votes, each counting `weight`."""
        of_cell = weight[self.cell_vote]
        where = (self.cell_pair - self.low, self.cell_pattern)
        counts = SPARSE.csr_array((of_cell, where), shape=self.counts.shape)
        return replace(self, counts=counts, cell_weight=of_cell)


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
    votes = np.bincount(seen.pair, minlength=seen.n_pairs).cumsum()
    columns = len(grid.basis)
    # A block has at most so many votes, were each a pattern of its own, but one pair at least.
    made: list[Block] = []
    low, room = 0, max(1, ROOM // columns) * 4
    pairs_at_once = max(1, ROOM // len(grid.d))
    while low < seen.n_pairs:
        before = int(votes[low - 1]) if low else 0
        high = int(np.searchsorted(votes, before + room, side="right"))
        high = min(max(high, low + 1), low + pairs_at_once, seen.n_pairs)
        made.append(_block(seen, slice(before, int(votes[high - 1])), low, high))
        low = high
    return made


def _block(seen: Evidence, rows: slice, low: int, high: int) -> Block:
    pair, unit, y, effects = seen.pair[rows], seen.unit[rows], seen.y[rows], seen.effects[rows]
    face, first_of_face = _same(unit, *effects.T)
    kind, first_of_kind = _same(face, y)
    # Cells with the same votes are found by a sum of random numbers, one for each kind of vote.
    draw = np.random.default_rng(0)
    names = draw.integers(0, 1 << 62, len(first_of_kind), dtype=np.uint64)
    cell = seen.cells[slice(*np.searchsorted(seen.cells, [rows.start, rows.stop]))]
    start = cell - rows.start
    _, first, pattern = np.unique(
        np.add.reduceat(names[kind], start), return_index=True, return_inverse=True
    )
    length: Ints = np.diff(np.r_[start, len(pair)])[first]
    ahead: Ints = np.cumsum(length) - length
    votes: Ints = np.repeat(start[first] - ahead, length).astype(np.int64)
    votes += np.arange(len(votes))
    where = (np.repeat(np.arange(len(first)), length), face[votes])
    shape = (len(first), len(first_of_face))
    weight = seen.weight[cell]
    counts = (weight, (pair[start] - low, pattern))
    return Block(
        low, high, unit[first_of_face], effects[first_of_face],
        SPARSE.csr_array((y[votes], where), shape=shape),
        SPARSE.csr_array((np.ones(len(votes)), where), shape=shape),
        SPARSE.csr_array(counts, shape=(high - low, len(first))),
        unit[start[first]], pair[start], pattern, weight, cell,
    )  # fmt: skip


def _same(*columns: NDArray[Any]) -> tuple[Ints, Ints]:
    """The number of each distinct row, and where each number first stands."""
    number = np.zeros(len(columns[0]), np.int64)
    first = np.zeros(0, np.int64)
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        code = number * len(values) + place
        _, first, number = np.unique(code, return_index=True, return_inverse=True)
    return number, first


def posteriors(
    seen: Evidence, made: list[Block], strengths: Strengths, grid: Grid, state: State
) -> Iterator[Posterior]:
    """Of each block the posterior of its pairs, what other pairs say about them being normal."""
    mean, variance = strengths.differences(state.precision, state.toward)
    wide = 1 / np.maximum(1 / variance - state.precision, 0.5)
    cavity = np.stack([wide * (mean / variance - state.toward), wide])
    for block in made:
        yield Posterior(seen, block, state, grid, cavity[:, block.low : block.high])


def cell_means(found: Posterior, weight: Floats, tables: Floats) -> Floats:
    """Sums over nodes of `weight` (pairs, nodes) and of `tables` (tables, patterns, nodes), of each
    table and cell."""
    block = found.block
    means = np.empty((len(tables), len(block.cell_pair)))
    if len(weight) * tables.shape[1] <= MANY * len(block.cell_pair):
        # Of few patterns every one with every pair: more sums, but those of a product of matrices.
        pair = block.cell_pair - block.low
        for a, table in enumerate(tables):
            means[a] = (weight @ table.T)[pair, block.cell_pattern]
        return means
    at_once = max(1, ROOM // weight.shape[1])
    for low in range(0, len(block.cell_pair), at_once):
        cells = slice(low, low + at_once)
        of_pair = weight[block.cell_pair[cells] - block.low]
        for a, table in enumerate(tables):
            of_pattern = table[block.cell_pattern[cells]]
            means[a, cells] = np.einsum("cq,cq->c", of_pair, of_pattern)
    return means
