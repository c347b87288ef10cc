"""Annotators whose votes are nearly the same: together they say no more than one of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
SPARSE: Any = sparse

# Fewer common pairs than this do not make two annotators copies.
ENOUGH = 20
# One other verdict in a hundred.
ALIKE = 0.98
# Full tables of so many times the numbers of sparse ones are multiplied faster.
FULL = 16


def crossed(one: Any, other: Any) -> Any:
    """The transpose of one sparse table times another, as full ones where these are little more."""
    if one.shape[0] * one.shape[1] <= FULL * one.nnz:
        return one.toarray().T @ other.toarray()
    return (one.T @ other).tocsr()


def alike(pair: Ints, unit: Ints, signed: Floats, *, least: float = ALIKE) -> tuple[Ints, Ints]:
    """Units whose mean votes, from -1 to 1, on common pairs correlate at least so highly; i < j."""
    shape = (int(pair.max(initial=-1)) + 1, int(unit.max(initial=-1)) + 1)
    where = (pair, unit)

    def table(values: Floats) -> Any:
        return SPARSE.csr_array(SPARSE.coo_array((values, where), shape=shape))

    n_votes = table(np.ones(len(signed)))
    mean = table(signed)
    mean.data = mean.data / n_votes.data
    there, squared = n_votes.copy(), mean.copy()
    there.data = np.ones_like(there.data)
    squared.data = mean.data**2
    common = SPARSE.coo_array(crossed(there, there))
    i, j = common.coords
    kept = (i < j) & (common.data >= ENOUGH)
    i, j = i[kept].astype(np.int64), j[kept].astype(np.int64)
    if not len(i):
        return i, j
    # Uncentred, so that which completion is called a does not matter.
    both, left, right = (
        np.asarray(crossed(one, other)[i, j]).ravel()
        for one, other in ((mean, mean), (squared, there), (there, squared))
    )
    close = both >= least * np.sqrt(np.maximum(left * right, 1e-300))
    return i[close], j[close]
