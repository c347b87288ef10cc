"""What an order of rows is worth: the accuracy of the labels after the first k had a person's vote.

With l_i, h_i in {0, 1} whether the label that row i has, and the vote that a person gave, is right,

    accuracy(k) = mean_i l_i + sum_{i among the first k} (h_i - l_i) / N

Rows of equal gain are put in an order by lot, many times; a curve is the mean over these orders and
its interval holds 95 % of them. The area between a curve and that of rows by lot, a straight line
to the accuracy of people's votes, is over all shares of rows; its interval is by drawing prompt
groups anew, ties with them.

Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; the curve is that of risk
against coverage of El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective
Classification", with people in the place of abstention.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
QUANTILES = (0.025, 0.975)
# Numbers held at once.
BLOCK = 1 << 22


@dataclass(frozen=True)
class Known:
    """Whether label and person are right on each row, and the number of its prompt group."""

    label: Floats
    person: Floats
    group: Ints

    @property
    def n(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Curve:
    """Accuracies after 0, 1, ... N rows: the mean over orders, and what holds 95 % of them.

    `area` is that between the curve and the line of rows by lot, with its interval.
    """

    mean: Floats
    low: Floats
    high: Floats
    area: float
    area_low: float
    area_high: float


def curve(known: Known, gain: Floats, *, draws: int, seed: int) -> Curve:
    """Of the rows in the order of their gain, highest first; NaN is no gain at all."""
    draw = np.random.default_rng(seed)
    value = np.nan_to_num(gain, nan=-np.inf)
    step = known.person - known.label
    at_once = max(1, BLOCK // max(known.n, 1))
    made: list[Floats] = []
    areas: list[Floats] = []
    for start in range(0, draws, at_once):
        many = min(at_once, draws - start)
        order = np.stack([_order(value, draw) for _ in range(many)])
        steps = step[order]
        begun = np.full((many, 1), known.label.sum())
        made.append(np.concatenate([begun, begun + steps.cumsum(1)], 1) / max(known.n, 1))
        areas.append(_areas(known, order, draw))
    orders, drawn = np.concatenate(made), np.concatenate(areas)
    low, high = np.quantile(orders, QUANTILES, axis=0)
    mean = orders.mean(0)
    return Curve(mean, low, high, _area(mean), *(float(q) for q in np.quantile(drawn, QUANTILES)))


def _order(value: Floats, draw: np.random.Generator) -> Ints:
    return np.lexsort((draw.random(len(value)), -value))


def _area(mean: Floats) -> float:
    """Between a curve over equal steps and the straight line from its first to its last point."""
    share: Floats = np.arange(len(mean)) / max(len(mean) - 1, 1)
    away = mean - mean[0] - share * (mean[-1] - mean[0])
    return float(((away[1:] + away[:-1]) / 2).mean()) if len(mean) > 1 else 0.0


def _areas(known: Known, order: Ints, draw: np.random.Generator) -> Floats:
    """The area of each order on groups drawn anew."""
    n_groups = int(known.group.max(initial=-1)) + 1
    even = np.full(n_groups, 1 / n_groups)
    counts = draw.multinomial(n_groups, even, size=len(order)).astype(np.float64)
    weight = np.take_along_axis(counts[:, known.group], order, 1)
    total = weight.sum(1, keepdims=True)
    step = (known.person - known.label)[order] * weight / total
    share, risen = weight.cumsum(1) / total, step.cumsum(1)
    away = risen - share * risen[:, -1:]
    before = np.concatenate([np.zeros((len(order), 1)), away[:, :-1]], 1)
    return ((away + before) / 2 * weight / total).sum(1)


def reached(curve: Floats, accuracy: float) -> int | None:
    """The least number of rows after which the accuracy is so high; None: never."""
    there = np.flatnonzero(curve >= accuracy - 1e-12)
    return int(there[0]) if len(there) else None
