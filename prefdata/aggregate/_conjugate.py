"""Linear equations of many unknowns, solved by conjugate gradients, scaled by their diagonal.

Source: Hestenes and Stiefel (1952), "Methods of conjugate gradients for solving linear systems".
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def solved(times: Callable[[Floats], Floats], right: Floats, diagonal: Floats) -> Floats:
    """x with times(x) = right, but for a rest of a ten-thousandth of `right`.

    `times` multiplies by a symmetric matrix whose `diagonal` is above 0. Enough for a Newton step:
    what it lacks the next step makes good.
    """
    x, left = np.zeros_like(right), right
    goal = 1e-4 * np.linalg.norm(right)
    toward, size = np.zeros_like(right), 1.0
    for _ in range(20 * len(right)):
        if np.linalg.norm(left) <= goal:
            break
        scaled = left / diagonal
        before, size = size, float(left @ scaled)
        toward = scaled + (size / before) * toward
        moved = times(toward)
        length = size / float(toward @ moved)
        x = x + length * toward
        left = left - length * moved
    return x
