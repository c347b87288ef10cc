"""Strengths of completions from what their pairs say about differences, for `reliability`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse import linalg as sparse_linalg

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

# These modules come without types.
GRAPHS: Any = csgraph
SPARSE: Any = sparse
SOLVERS: Any = sparse_linalg

# Matrices of components up to this size are inverted, in stacks of at most so many numbers.
LARGE, STACK = 2000, 1 << 20


class Strengths:
    """Strengths with a standard normal prior, given a normal likelihood of each pair's difference:
    its `precision`, and `toward`, the precision times the difference that it favours."""

    def __init__(self, one: Ints, other: Ints, n_items: int) -> None:
        self.one, self.other, self.n = one, other, n_items
        edges = (np.ones(len(one)), (one, other))
        graph = SPARSE.coo_array(edges, shape=(self.n, self.n))
        _, component = GRAPHS.connected_components(graph, directed=False)
        self.size = np.bincount(component)[component] if self.n else component
        self.order = np.lexsort((component, self.size))
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(self.n)
        self.blocks = list(self._blocks())

    def _blocks(self) -> Iterator[tuple[int, Ints, Ints]]:
        """Size, items and pairs of components of one size, many to a block."""
        size = self.size[self.order]
        first = self.place[self.one]
        rows = np.argsort(first, kind="stable")
        start = 0
        while start < self.n:
            k = int(size[start])
            same = int(np.searchsorted(size, k, side="right")) - start
            many = min(same, k * max(1, STACK // k**2))
            low, high = np.searchsorted(first[rows], [start, start + many])
            yield k, self.order[start : start + many], rows[low:high]
            start += many

    def differences(self, precision: Floats, toward: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of each pair's difference."""
        mean, variance = np.empty(len(self.one)), np.empty(len(self.one))
        for k, items, pairs in self.blocks:
            if k == 2:
                variance[pairs] = 1 / (0.5 + precision[pairs])
                mean[pairs] = variance[pairs] * toward[pairs]
                continue
            theta, cover, i, j = self._solve(k, items, pairs, precision, toward)
            mean[pairs] = theta[i] - theta[j]
            if cover is None:
                local = self._diagonal(i, j, precision[pairs], len(items))
                variance[pairs] = 1 / local[i] + 1 / local[j]
            else:
                c, a, b = i // k, i % k, j % k
                variance[pairs] = cover[c, a, a] + cover[c, b, b] - 2 * cover[c, a, b]
        return mean, np.maximum(variance, 1e-12)

    def items(self, precision: Floats, toward: Floats) -> tuple[Floats, Floats]:
        """Strengths of mean 0 within a component, and their variances; NaN in a large one."""
        strength, spread = np.zeros(self.n), np.full(self.n, np.nan)
        for k, items, pairs in self.blocks:
            theta, cover, _, _ = self._solve(k, items, pairs, precision, toward)
            table = theta.reshape(-1, k)
            strength[items] = (table - table.mean(1, keepdims=True)).ravel()
            if cover is not None:
                mean = cover.mean(2)
                own = np.einsum("cii->ci", cover) - 2 * mean + mean.mean(1, keepdims=True)
                spread[items] = np.maximum(own, 0).ravel()
        return strength, spread

    def _diagonal(self, i: Ints, j: Ints, precision: Floats, n: int) -> Floats:
        made: Floats = np.ones(n)
        return made + np.bincount(i, precision, n) + np.bincount(j, precision, n)

    def _solve(
        self, k: int, items: Ints, pairs: Ints, precision: Floats, toward: Floats
    ) -> tuple[Floats, Floats | None, Ints, Ints]:
        start = self.place[items[0]]
        i, j = self.place[self.one[pairs]] - start, self.place[self.other[pairs]] - start
        n, each = len(items), precision[pairs]
        right = np.bincount(i, toward[pairs], n) - np.bincount(j, toward[pairs], n)
        diagonal = self._diagonal(i, j, each, n)
        if k > LARGE:
            rows, columns = np.r_[i, j, np.arange(n)], np.r_[j, i, np.arange(n)]
            matrix = SPARSE.csr_array((np.r_[-each, -each, diagonal], (rows, columns)))
            scale = SPARSE.diags_array(1 / diagonal)
            return SOLVERS.cg(matrix, right, rtol=1e-8, M=scale)[0], None, i, j
        cells = np.r_[i * k + j % k, j * k + i % k]
        matrix = np.bincount(cells, np.r_[-each, -each], n * k).reshape(-1, k, k)
        np.einsum("cii->ci", matrix)[:] += diagonal.reshape(-1, k)
        cover = np.linalg.inv(matrix)
        theta = np.einsum("cij,cj->ci", cover, right.reshape(-1, k)).ravel()
        return theta, cover, i, j
