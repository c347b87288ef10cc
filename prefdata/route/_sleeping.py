"""Online prediction that is nearly the best linear one in each of many overlapping groups.

Each group has a learner of its own, which only sees the rounds of its group: the forward ridge
regression of Vovk, Azoury and Warmuth. In each round the learners whose groups are active predict,
those of the others sleep, and AdaNormalHedge mixes them,

    prediction = sum_i p_i y_i,   p_i ~ w(R_i, C_i) over active i
    w(R, C) = (Phi(R + 1, C + 1) - Phi(R - 1, C + 1)) / 2,   Phi(R, C) = exp(max(R, 0)^2 / (3 C))

with R_i the regret of the mixture against learner i so far, in squared loss, and C_i the sum of its
absolute steps. So for each group g of T_g rounds, and any linear predictor u,

    loss of the mixture in g <= loss of u in g + ridge |u|^2 + ln det(A_g / ridge)
        + sqrt(3 C_g (ln K + ln B + ln(1 + ln K))),   B = 5/2 + 3/2 ln(1 + T)

which grows as sqrt(T_g log K) in the number of rounds and of groups.

Source: Acharya et al. 2023, "Oracle Efficient Algorithms for Groupwise Regret"; Luo and Schapire
2015, "Achieving All with No Parameters: AdaNormalHedge"; Vovk 2001, "Competitive On-line
Statistics"; Azoury and Warmuth 2001.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


@dataclass
class Groupwise:
    """The state after some rounds: of K groups and d features.

    `inverse` (K, d, d) of each learner's A, `toward` (K, d) the sums of y x; `regret` and `change`
    are R and C.
    """

    inverse: Floats
    toward: Floats
    regret: Floats
    change: Floats

    @classmethod
    def fresh(cls, n_groups: int, n_features: int, ridge: float) -> "Groupwise":
        inverse = np.tile(np.eye(n_features) / ridge, (n_groups, 1, 1))
        zeros = np.zeros(n_groups)
        return cls(inverse, np.zeros((n_groups, n_features)), zeros, zeros.copy())

    def predict(self, x: Floats, active: Bools) -> tuple[float, Floats, Floats]:
        """The mixture's prediction in [0, 1], those of the active learners, and their weights."""
        at = np.flatnonzero(active)
        along = self.inverse[at] @ x
        # The forward step: A has the row that is predicted in it.
        own = np.clip((along * self.toward[at]).sum(1) / (1 + along @ x), 0.0, 1.0)
        weight = weights(self.regret[at], self.change[at])
        return float(weight @ own), own, weight

    def learn(self, x: Floats, active: Bools, y: float) -> float:
        """One round: predict, hear y in [0, 1], and move the active learners; the prediction."""
        said, own, _ = self.predict(x, active)
        at = np.flatnonzero(active)
        step = (said - y) ** 2 - (own - y) ** 2
        self.regret[at] += step
        self.change[at] += np.abs(step)
        along = self.inverse[at] @ x
        self.inverse[at] -= along[:, :, None] * along[:, None, :] / (1 + along @ x)[:, None, None]
        self.toward[at] += y * x
        return said


def weights(regret: Floats, change: Floats) -> Floats:
    """Of the active learners; where all have lost to the mixture they count alike."""

    def potential(at: Floats) -> Floats:
        return np.exp(np.maximum(at, 0.0) ** 2 / (3 * (change + 1)))

    made = (potential(regret + 1) - potential(regret - 1)) / 2
    total = made.sum()
    return made / total if total > 0 else np.full(len(made), 1 / max(len(made), 1))


def fit_groupwise(
    x: Floats, groups: Bools, y: Floats, *, ridge: float = 1.0
) -> tuple[Groupwise, Floats]:
    """The state after all rounds, in their order, and what was predicted before each y was heard.

    `x` is (rounds, d), `groups` (rounds, K); each round is of one group at least.
    """
    state = Groupwise.fresh(groups.shape[1], x.shape[1], ridge)
    said = [state.learn(*row) for row in zip(x, groups, y, strict=True)]
    return state, np.array(said, dtype=np.float64)


@dataclass(frozen=True)
class Regret:
    """Of one group: `rounds`, `regret` against its best linear predictor in hindsight, `bound`."""

    rounds: int
    regret: float
    bound: float


def regrets(
    x: Floats, groups: Bools, y: Floats, said: Floats, state: Groupwise, *, ridge: float = 1.0
) -> list[Regret]:
    """What the predictions lost in each group to the best that is known when all is over."""
    k, d = groups.shape[1], x.shape[1]
    spread = np.log(k) + np.log(2.5 + 1.5 * np.log1p(len(y))) + np.log1p(np.log(k))
    made: list[Regret] = []
    for g in range(k):
        inside = groups[:, g]
        rows, heard = x[inside], y[inside]
        best = np.linalg.lstsq(rows, heard, rcond=None)[0] if len(rows) else np.zeros(d)
        lost = ((said[inside] - heard) ** 2).sum() - ((rows @ best - heard) ** 2).sum()
        _, volume = np.linalg.slogdet(np.eye(d) + rows.T @ rows / ridge)
        of_learner = ridge * float(best @ best) + float(volume)
        of_mixture = float(np.sqrt(3 * state.change[g] * spread))
        made.append(Regret(int(inside.sum()), float(lost), of_learner + of_mixture))
    return made
