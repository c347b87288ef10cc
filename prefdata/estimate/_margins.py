"""The rate of flips from the margins of pairs: their true labels follow some evidence d on them.

An observed label is as d would have it with (1 - e) sigmoid(u . d) + e sigmoid(-u . d). Where the
margins u . d are large the curve's ends show e; where they are all small, e only makes the curve
flatter, as a smaller u does, and nothing can tell the two apart.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, log_expit

Floats = NDArray[np.floating[Any]]
OPTIMIZE: Any = optimize

# Half of the 95 % quantile of chi-square with one degree of freedom.
DROP = 1.920729410347063
# Rates that are tried: an interval that reaches the last is open there.
GRID = np.concatenate([np.linspace(0, 0.1, 11), np.linspace(0.12, 0.49, 38)])
# An interval wider than this says nothing that one could act on.
TOO_WIDE = 0.25
UNIDENTIFIED = "not identifiable: the margins are too small to tell flips from ambiguity"


class Rate(NamedTuple):
    """A flip rate with its 95 % interval; `value` is NaN where it is not identifiable."""

    value: float
    low: float
    high: float
    n: int
    note: str

    @property
    def is_identified(self) -> bool:
        return not np.isnan(self.value)


class MarginFit(NamedTuple):
    """The `rate` as far as it is identifiable; its likeliest value, whether or not; and u."""

    rate: Rate
    guess: float
    u: Floats


def fit_margins(d: Floats) -> MarginFit:
    """The rate from `d`, (pairs, columns), evidence for the side that was labelled as chosen.

    Maximises the sum of log((1 - e) sigmoid(d u) + e sigmoid(-d u)) over u for each e, then over
    e; the interval holds the e whose profile is within 1.92 of the best.
    """
    n = len(d)
    if n < 2 or not d.any():
        nothing = Rate(np.nan, 0.0, 0.5, n, UNIDENTIFIED)
        return MarginFit(nothing, 0.0, np.zeros(d.shape[1]))
    size = np.sqrt((d**2).mean(0).clip(1e-24))
    profile = _Profile(d / size)
    value, guess = profile.lowest()
    low, high = profile.crossings(guess, value + DROP)
    rate = Rate(guess, low, high, n, "")
    if high - low > TOO_WIDE:
        rate = Rate(np.nan, low, high, n, UNIDENTIFIED)
    return MarginFit(rate, guess, profile.u(guess) / size)


class _Profile:
    """The least negative log-likelihood at each rate, tried on a grid first."""

    def __init__(self, d: Floats) -> None:
        self.d = d
        start = np.full(d.shape[1], 0.5)
        fits: list[tuple[float, Floats]] = []
        for rate in map(float, GRID):
            fits.append(_best(d, rate, fits[-1][1] if fits else start))
        self.values = np.array([value for value, _ in fits])
        self.starts = [found for _, found in fits]

    def __call__(self, rate: float) -> float:
        return self._at(rate)[0]

    def u(self, rate: float) -> Floats:
        return self._at(rate)[1]

    def _at(self, rate: float) -> tuple[float, Floats]:
        return _best(self.d, rate, self.starts[int(np.abs(GRID - rate).argmin())])

    def lowest(self) -> tuple[float, float]:
        at = int(self.values.argmin())
        around = GRID[max(at - 1, 0)], GRID[min(at + 1, len(GRID) - 1)]
        found = OPTIMIZE.minimize_scalar(self, bounds=around, method="bounded")
        on_grid = float(self.values[at]), float(GRID[at])
        return min((float(found.fun), float(found.x)), on_grid)

    def crossings(self, rate: float, most: float) -> tuple[float, float]:
        """Where the profile passes `most` below and above `rate`; 0 and 1/2 where it never does."""
        outside = np.flatnonzero(self.values > most)
        below, above = outside[GRID[outside] < rate], outside[GRID[outside] > rate]
        low = self._crossing(float(GRID[below[-1]]), rate, most) if len(below) else 0.0
        high = self._crossing(float(GRID[above[0]]), rate, most) if len(above) else 0.5
        return low, high

    def _crossing(self, outer: float, inner: float, most: float) -> float:
        while abs(outer - inner) > 1e-4:
            middle = (outer + inner) / 2
            outer, inner = (middle, inner) if self(middle) > most else (outer, middle)
        return (outer + inner) / 2


def _best(d: Floats, rate: float, start: Floats) -> tuple[float, Floats]:
    """The least negative log-likelihood at a rate, and its u."""

    def loss(u: Floats) -> tuple[float, Floats]:
        z = d @ u
        right, wrong = log_expit(z), log_expit(-z)
        if rate == 0:
            return -float(right.sum()), -(d.T @ expit(-z))
        observed = np.logaddexp(np.log1p(-rate) + right, np.log(rate) + wrong)
        slope = (1 - 2 * rate) * np.exp(right + wrong - observed)
        return -float(observed.sum()), -(d.T @ slope)

    bounds = [(-50, 50)] * len(start)  # labels that the evidence parts perfectly have no optimum
    found = OPTIMIZE.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.fun), found.x
