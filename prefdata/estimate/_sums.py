"""Sums of rows by what they belong to."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def sums(at: NDArray[np.int64], values: Floats, n: int) -> Floats:
    """The sum of the rows of `values` that are `at` each of 0 ... n - 1: (n, columns)."""
    made: list[Floats] = [np.bincount(at, c, n) for c in values.T]  # pyright: ignore[reportAssignmentType]
    return np.stack(made, 1)
