"""Coefficients of agreement from sums over units, so that groups of units can be drawn anew.

The last axis of the sums holds the parts that each function names; k is the number of classes.
Where a coefficient is undefined its value is not a number.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Rows of one class only: the share expected by chance is 1, and nothing can be beyond it.
LEAST = 1e-12


def _beyond_chance(observed: Floats, expected: Floats) -> Floats:
    return np.where(1 - expected > LEAST, (observed - expected) / (1 - expected), np.nan)


def cohen_kappa(sums: Floats) -> Floats:
    """Parts: how often one annotator gave each class, and the other (2 k); agreeing labels."""
    k = sums.shape[-1] // 2
    one, other = sums[..., :k], sums[..., k : 2 * k]
    n = one.sum(-1)
    return _beyond_chance(sums[..., -1] / n, (one * other).sum(-1) / n**2)


# What is summed of a unit beside its labels and its shares of each class (2 k): the share of
# agreeing pairs of its labels, the number of classes less one, and alpha's disagreement.
OF_UNITS = 3


def fleiss_kappa(sums: Floats) -> Floats:
    """Parts: labels of each class, units' shares of each (2 k), and those `OF_UNITS`."""
    n, same, _, alike = _of_units(sums)
    return _beyond_chance(same / n, alike)


def gwet_ac1(sums: Floats) -> Floats:
    """Of the same sums as Fleiss' kappa."""
    n, same, others, alike = _of_units(sums)
    others = np.where(others > LEAST, others / n, np.nan)
    return _beyond_chance(same / n, (1 - alike) / others)


def _of_units(sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    k = (sums.shape[-1] - OF_UNITS) // 2
    n = sums[..., k : 2 * k].sum(-1)
    shares = sums[..., k : 2 * k] / n[..., None]
    return n, sums[..., -3], sums[..., -2], (shares**2).sum(-1)


def nominal_alpha(sums: Floats) -> Floats:
    """Krippendorff's alpha, 1 - (n - 1) A / B of n labels: A within units, B between all labels.

    Of the same sums as Fleiss' kappa.
    """
    labels = sums[..., : (sums.shape[-1] - OF_UNITS) // 2]
    n = labels.sum(-1)
    between = n**2 - (labels**2).sum(-1)
    return np.where(between > LEAST * n**2, 1 - (n - 1) * sums[..., -1] / between, np.nan)


def distance_alpha(sums: Floats) -> Floats:
    """The same with squared distances; parts: labels, their sum, that of squares, and A."""
    n, first, second, within = np.moveaxis(sums, -1, 0)
    between = 2 * (n * second - first**2)
    return np.where(between > 1e-10 * n * second, 1 - (n - 1) * within / between, np.nan)


def kendall_tau(sums: Floats) -> Floats:
    """Tau-b; parts: concordant less discordant pairs, and the pairs that each one does not tie."""
    apart, one, other = np.moveaxis(sums, -1, 0)
    untied = one * other
    return np.where(untied > 0, apart / np.sqrt(np.maximum(untied, LEAST)), np.nan)
