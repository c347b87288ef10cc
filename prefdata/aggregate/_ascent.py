"""The top of a smooth function of many variables, from its value and gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize

from prefdata.aggregate._labels import Floats
from prefdata.errors import ConvergenceError

# This module comes without types.
OPTIMIZE: Any = optimize


def ascend(
    function: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    *,
    tolerance: float,
    max_iterations: int,
    where: str,
) -> tuple[Floats, float]:
    """Climb by L-BFGS until no part of the gradient is above `tolerance`, in units of one vote.

    Gives the place and the largest part of its gradient. Raises `ConvergenceError` where that is
    not reached in `max_iterations` iterations.
    """
    if not start.size:
        return start, 0.0

    def below(x: Floats) -> tuple[float, Floats]:
        value, gradient = function(x)
        return -value, -gradient

    options = {"maxcor": 20, "gtol": tolerance, "ftol": 0.0, "maxls": 50}
    limits = {"maxiter": max_iterations, "maxfun": 4 * max_iterations}
    found = OPTIMIZE.minimize(below, start, jac=True, method="L-BFGS-B", options=options | limits)
    residual = float(np.abs(found.jac).max())
    if not residual <= 10 * tolerance:
        raise ConvergenceError(
            f"{where} did not converge: a gradient of {residual:.3g} votes is left after "
            f"{int(found.nit)} iterations; allow more iterations or give a larger prior"
        )
    return found.x, residual
