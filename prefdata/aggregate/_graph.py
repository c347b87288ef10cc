"""The graph of who was compared with whom: its components, and linear algebra on each of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse import csgraph

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

# These modules come without types.
LAPACK: Any = linalg.lapack
GRAPHS: Any = csgraph
SPARSE: Any = sparse

# Up to SMALL items a component is a dense matrix in a stack of at most STACK numbers. Above LARGE
# the inverse of its information would not fit into memory.
SMALL = 64
STACK = 1 << 20
LARGE = 10_000
# What items and shared parameters may be together for errors of both.
MOST = 1 << 26


@dataclass(frozen=True)
class Block:
    """Components of one size, their items numbered from 0, component after component.

    `rows` are the comparisons within them, by `one`, and `one` and `other` their items.
    """

    items: Ints
    size: int
    rows: Ints
    one: Ints
    other: Ints

    def only(self, kept: NDArray[np.bool_]) -> "Block":
        """The kept components, renumbered."""
        number = np.cumsum(kept) - 1
        owner = self.one // self.size
        row = kept[owner]
        shift = (number[owner] - owner)[row] * self.size
        return Block(
            items=self.items.reshape(-1, self.size)[kept].ravel(),
            size=self.size,
            rows=self.rows[row],
            one=self.one[row] + shift,
            other=self.other[row] + shift,
        )


def numbers(names: pl.Series, ids: pl.Series) -> Ints:
    """The place of each name in the sorted `ids`."""
    return names.cast(pl.Enum(ids)).to_physical().cast(pl.Int64).to_numpy()


def sorting(values: Ints, n: int) -> Ints:
    """The stable order of whole numbers from 0 to n - 1; few of them sort many times faster."""
    return np.argsort(values.astype(np.uint16) if n <= 1 << 16 else values, kind="stable")


def merged(
    one: Ints, other: Ints, wins: Floats, losses: Floats, n_items: int
) -> tuple[Ints, Ints, Floats, Floats]:
    """The comparisons of the same two added up, where they outnumber the ways to pick two."""
    if len(one) < n_items**2:
        return one, other, wins, losses
    cell, n = one * n_items + other, n_items**2
    won, lost, there = (
        np.bincount(cell, each, n).astype(np.float64, copy=False).reshape(n_items, n_items)
        for each in (wins, losses, None)
    )
    i, j = np.nonzero(np.triu(there + there.T))
    return i, j, (won + lost.T)[i, j], (lost + won.T)[i, j]


def components(one: Ints, other: Ints, n_items: int) -> Ints:
    """The component of each item, numbered by its first item."""
    return groups(one, other, n_items, "weak")[1]


def groups(left: Ints, right: Ints, n_items: int, connection: str) -> tuple[int, Ints]:
    """How many components arrows from left to right make, and that of each item."""
    arrows = np.sort(left * n_items + right)
    # Each once: the search would never end where an arrow stands twice.
    arrows = arrows[np.diff(arrows, prepend=-1) > 0]
    bounds = np.searchsorted(arrows, np.arange(n_items + 1) * n_items)
    there = np.ones(len(arrows)), arrows % max(n_items, 1), bounds
    graph = SPARSE.csr_array(there, shape=(n_items, n_items))
    count, label = GRAPHS.connected_components(graph, connection=connection)
    return count, label.astype(np.int64)


def one_sided(
    one: Ints, other: Ints, wins: Floats, losses: Floats, component: Ints
) -> tuple[int, int, list[int]] | None:
    """Where some items never lose to others of their component, so that no strengths are finite.

    Gives the number of groups within which everyone is somehow beaten by everyone, the number of
    components and the first items of one that has several groups; None where there is none.
    """
    n_items, n_weak = len(component), len(np.unique(component))
    won, lost = np.flatnonzero(wins > 0), np.flatnonzero(losses > 0)
    winner = np.concatenate([one[won], other[lost]])
    loser = np.concatenate([other[won], one[lost]])
    n_strong, strong = groups(winner, loser, n_items, "strong")
    if n_strong == n_weak:
        return None
    parts = np.unique(np.stack([component, strong]), axis=1)[0]
    worst = int(np.flatnonzero(np.bincount(parts) > 1)[0])
    return n_strong, n_weak, np.flatnonzero(component == worst)[:3].tolist()


def blocks(component: Ints, one: Ints, other: Ints) -> Iterator[Block]:
    """The components in blocks of one size, small ones many to a block, a large one alone."""
    size = np.bincount(component)[component] if len(component) else component
    order = np.lexsort((component, size))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    size, first, second = size[order], place[one], place[other]
    rows = sorting(first, len(order))
    first, second = first[rows], second[rows]
    start = 0
    while start < len(order):
        k = int(size[start])
        same = int(np.searchsorted(size, k, side="right")) - start
        many = min(same, k * max(1, STACK // k**2)) if k <= SMALL else k
        mine = slice(*np.searchsorted(first, [start, start + many]))
        items = order[start : start + many]
        yield Block(items, k, rows[mine], first[mine] - start, second[mine] - start)
        start += many


def centred(values: Floats, component: Ints) -> tuple[Floats, Floats]:
    """Values less the mean of their component, and that mean for each item."""
    mean = (np.bincount(component, values) / np.bincount(component))[component]
    return values - mean, mean


def information(block: Block, each: Floats, of_prior: Floats) -> Floats:
    """The information matrix of each component, from that of each comparison and of each prior.

    Without a prior it is made regular along the ones. What is added there changes neither a step,
    which is orthogonal to it, nor the centred errors.
    """
    k, n = block.size, len(of_prior)
    diagonal = np.bincount(block.one, each, n) + np.bincount(block.other, each, n) + of_prior
    cells = block.one * k + block.other % k, block.other * k + block.one % k
    off = np.bincount(np.concatenate(cells), np.concatenate([-each, -each]), n * k)
    matrix = off.astype(np.float64, copy=False).reshape(-1, k, k)
    np.einsum("cii->ci", matrix)[:] = diagonal.reshape(-1, k)
    if not of_prior.any():
        matrix += np.maximum(diagonal.reshape(-1, k).mean(1), 1e-300)[:, None, None] / k
    return matrix


def standard_errors(
    component: Ints,
    one: Ints,
    other: Ints,
    each: Floats,
    of_prior: Floats,
    shared: tuple[Any, Floats] | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Errors of strengths of mean 0 in each component, of the differences one[k] - other[k], and
    of parameters that comparisons share.

    `each` and `of_prior` are the information of a comparison on its difference and of the prior on
    a strength; `shared` is that of a comparison on its difference and each parameter together,
    (comparisons, parameters) and sparse, and the information on the parameters alone. NaN in
    components of more than `LARGE` items, and everywhere where one of them matters to the
    parameters, or where items times parameters are more than `MOST`.
    """
    of_item, of_difference = np.full(len(component), np.nan), np.full(len(one), np.nan)
    both, left = shared if shared else (None, np.zeros((0, 0)))
    n_shared = len(left)
    if len(component) * n_shared > MOST:
        return of_item, of_difference, np.full(n_shared, np.nan)
    # By components, the shared parameters known: variances, and what their errors add to strengths.
    slope = np.full((len(component), n_shared), np.nan)
    variance = np.full(len(component), np.nan)
    of_pair = np.full(len(one), np.nan)
    for block in blocks(component, one, other):
        if block.size > LARGE:
            left = left * np.nan
            continue
        inverse = _inverse(information(block, each[block.rows], of_prior[block.items]))
        diagonal = np.einsum("cii->ci", inverse)
        mean = inverse.mean(2)
        apart = diagonal - 2 * mean + mean.mean(1, keepdims=True)
        variance[block.items] = apart.ravel()
        k = block.size
        cross = inverse[block.one // k, block.one % k, block.other % k]
        flat = diagonal.ravel()
        of_pair[block.rows] = flat[block.one] + flat[block.other] - 2 * cross
        if both is not None:
            border = apart_by_items(block.one, block.other, len(block.items)).T @ both[block.rows]
            border = border.toarray()
            moved = (inverse @ border.reshape(-1, k, n_shared)).reshape(border.shape)
            left = left - border.T @ moved
            slope[block.items] = moved
    known = np.isfinite(left).all() and (np.diag(left) > 0).all()
    cover = np.linalg.inv(left) if known else left * np.nan
    if n_shared:
        moved = np.stack([centred(column, component)[0] for column in slope.T], 1)
        variance += _spread(moved, cover)
        many = max(1, STACK // n_shared)
        for start in range(0, len(one), many):
            at = slice(start, start + many)
            of_pair[at] += _spread(slope[one[at]] - slope[other[at]], cover)
    of_item[:] = np.sqrt(np.maximum(variance, 0))
    of_difference[:] = np.sqrt(np.maximum(of_pair, 0))
    return of_item, of_difference, np.sqrt(np.maximum(np.diag(cover), 0))


def _spread(rows: Floats, cover: Floats) -> Floats:
    """The variance of each row times parameters of that covariance."""
    return np.einsum("ij,ij->i", rows @ cover, rows)


def apart_by_items(one: Ints, other: Ints, n_items: int) -> Any:
    """(comparisons, items), sparse: the difference of strengths of each comparison."""
    n = len(one)
    signs, rows = np.repeat([1.0, -1.0], n), np.tile(np.arange(n), 2)
    return SPARSE.csr_array((signs, (rows, np.concatenate([one, other]))), shape=(n, n_items))


def _inverse(matrix: Floats) -> Floats:
    if matrix.shape[1] <= SMALL:
        return np.linalg.inv(matrix)
    # LAPACK counts columns first; the transpose of a symmetric matrix spares it a copy.
    factor, failed = LAPACK.dpotrf(matrix[0].T, lower=1, overwrite_a=1)
    if failed:
        return np.full_like(matrix, np.nan)
    lower: Floats = np.tril(LAPACK.dpotri(factor, lower=1, overwrite_c=1)[0])
    return (lower + np.tril(lower, -1).T)[None]


class Incidence:
    """From strengths of items to differences of comparisons, and back to sums by item.

    Comparisons stand in the order of `one`, as those of a `Block` do.
    """

    def __init__(self, one: Ints, other: Ints, n_items: int) -> None:
        self.one, self.other, self.n = one, other, n_items
        self.bounds = np.searchsorted(one, np.arange(n_items + 1)).astype(np.int32)
        self.there = np.flatnonzero(np.diff(self.bounds))
        parts = np.zeros(len(one)), other.astype(np.int32), self.bounds
        self.upper = SPARSE.csr_array(parts, shape=(n_items, n_items))
        self.lower = self.upper.T
        self.room = np.empty((2, len(one)))

    def apart(self, theta: Floats) -> Floats:
        """theta_one - theta_other of each comparison, in the same memory each time: where there are
        many, new memory takes longer than the sums."""
        made, spare = self.room
        np.take(theta, self.one, out=made, mode="clip")
        np.take(theta, self.other, out=spare, mode="clip")
        return np.subtract(made, spare, out=made)

    def sums(self, values: Floats, sign: int = -1) -> Floats:
        """Of each item the values of comparisons where it is `one`, and `sign` times the others."""
        made = sign * np.bincount(self.other, values, self.n).astype(np.float64, copy=False)
        if len(self.there):
            made[self.there] += np.add.reduceat(values, self.bounds[self.there])
        return made

    def laplacian(self, each: Floats, more: Floats) -> tuple[Callable[[Floats], Floats], Floats]:
        """x -> sum_k each[k] (x_one - x_other), and `more` times x, and the diagonal of that."""
        diagonal = self.sums(each, 1) + more
        self.upper.data = self.lower.data = each
        return lambda x: diagonal * x - self.upper @ x - self.lower @ x, diagonal
