"""What a mix of labels will be worth, predicted from how many of its rows of each tag people did.

Four predictors of the performance of a mix from its counts, less their means, in one unit for all:
before anything is known, a row of a rare tag is as likely to be worth much as another.

- linear      least squares;
- ridge       least squares with a penalty;
- quadratic   all squares and products beside the counts, with a penalty, as a kernel
              u v / k + w (u v / k)^2 in which w says how much the products may do;
- trees       boosted regression trees of depth 2 (scikit-learn).

Penalties and w are those of the least error in leaving one mix out. The least squares on all
products, as in the code of the source, are not among them: of 90 tags these are 4,186 coefficients
for 200 mixes. Which predictor is used is decided by the rank correlation of what they predict of
mixes that they were not fitted on: of those within a standard error of the best, the simplest. What
is chosen by a predictor lies beyond the mixes that it has seen, where a curve that predicted these
no better may be far off.

Source: Miranda et al. 2024, "Hybrid Preferences: Learning to Route Instances for Human vs. AI
Feedback"; Allen 1974 for leaving one out; Bonett and Wright 2000 for the standard error of
Spearman's correlation; Breiman et al. 1984 for the simplest within one standard error.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from prefdata.errors import RecipeError
from prefdata.measure._wilson import Z95

Floats = NDArray[np.floating[Any]]
Kind = Literal["linear", "ridge", "quadratic", "trees"]
Predict = Callable[[Floats], Floats]

STATS: Any = stats
LINALG: Any = np.linalg

PENALTIES = np.logspace(-5, 3, 33)
SIMPLEST_FIRST: tuple[Kind, ...] = ("ridge", "linear", "quadratic", "trees")
PRODUCTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
TREES = {"n_estimators": 200, "max_depth": 2, "learning_rate": 0.05, "subsample": 0.5}


def fit(kind: Kind, counts: Floats, performance: Floats, *, seed: int = 0) -> Predict:
    """A function from counts (mixes, tags) to predicted performances."""
    mean, scale = counts.mean(0), max(float(np.sqrt(counts.var(0).mean())), 1e-12)
    base = float(performance.mean())

    def scaled(of: Floats) -> Floats:
        return (of - mean) / scale

    z, y = scaled(counts), performance - base
    match kind:
        case "linear":
            slope = LINALG.lstsq(z, y, rcond=None)[0]
            inner: Predict = lambda u: u @ slope  # noqa: E731
        case "ridge":
            inner = _kernel_ridge(z, y, (0.0,))
        case "quadratic":
            inner = _kernel_ridge(z, y, PRODUCTS)
        case "trees":
            inner = _trees(z, y, seed)
    return lambda of: base + inner(scaled(of))


def _kernel_ridge(z: Floats, y: Floats, products: Sequence[float]) -> Predict:
    """With the products' part and the penalty of the least error in leaving one out."""
    best, made = np.inf, (0.0, np.zeros(len(z)))
    for part in products:
        values, vectors = LINALG.eigh(_kernel(z, z, part))
        values = np.maximum(values, 0.0)
        along = vectors.T @ y
        for penalty in PENALTIES:
            kept = 1 / (values + penalty)
            dual = vectors @ (kept * along)
            # What is left of a row if it is left out: its residual over what it does not see.
            own = (vectors**2 @ kept).clip(1e-12)
            error = float(((dual / own) ** 2).mean())
            if error < best:
                best, made = error, (part, dual)
    part, dual = made
    return lambda u: _kernel(u, z, part) @ dual


def _kernel(u: Floats, v: Floats, products: float) -> Floats:
    along = u @ v.T / max(u.shape[1], 1)
    return along + products * along**2


def _trees(z: Floats, y: Floats, seed: int) -> Predict:
    model = trees_there()(random_state=seed, max_features="sqrt", **TREES)
    return model.fit(z, y).predict


def trees_there() -> Any:
    """scikit-learn's boosted trees; `RecipeError` where it is not installed."""
    try:
        return import_module("sklearn.ensemble").GradientBoostingRegressor
    except ImportError:
        raise RecipeError(
            'route.performance_predictor: the predictor "trees" needs scikit-learn, which is not '
            "installed; pip install 'prefdata[route]', or leave it out of predictors"
        ) from None


@dataclass(frozen=True)
class Tried:
    """How one predictor did on mixes that it was not fitted on: rank correlation and interval."""

    kind: Kind
    correlation: float
    low: float
    high: float
    error: float

    @property
    def fisher(self) -> float:
        """The correlation on the scale on which its error does not depend on it."""
        return _fisher(self.correlation)

    @property
    def simplicity(self) -> int:
        """The lower, the simpler: less free to follow what it has seen."""
        return SIMPLEST_FIRST.index(self.kind)


def compare(
    kinds: Sequence[Kind], counts: Floats, performance: Floats, *, n_folds: int, seed: int
) -> list[Tried]:
    """Each predictor's held-out record, the one to be used first, the others from the best on.

    `error` is the root mean square of the error, in standard deviations of the performance.
    """
    draw = np.random.default_rng(seed)
    fold = draw.permutation(len(counts)) % min(n_folds, len(counts))
    made: list[Tried] = []
    for kind in kinds:
        said = np.zeros(len(counts))
        for part in np.unique(fold):
            inside = fold != part
            predict = fit(kind, counts[inside], performance[inside], seed=seed)
            said[~inside] = predict(counts[~inside])
        rho = rank_correlation(said, performance)
        low, high = _interval(rho, len(said))
        away = float(np.sqrt(((said - performance) ** 2).mean()))
        made.append(Tried(kind, rho, low, high, away / max(float(performance.std()), 1e-12)))
    made.sort(key=lambda each: (-each.correlation, each.error))
    least = made[0].fisher - _error(made[0].correlation, len(counts))
    used = min((each for each in made if each.fisher >= least), key=lambda each: each.simplicity)
    return [used, *(each for each in made if each is not used)]


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's; 0 where one of them is constant."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(STATS.spearmanr(one, other).statistic)


def _interval(rho: float, n: int) -> tuple[float, float]:
    middle, away = _fisher(rho), Z95 * _error(rho, n)
    return math.tanh(middle - away), math.tanh(middle + away)


def _fisher(rho: float) -> float:
    return math.atanh(min(max(rho, -1 + 1e-12), 1 - 1e-12))


def _error(rho: float, n: int) -> float:
    """The standard error of Spearman's correlation on Fisher's scale."""
    return math.sqrt((1 + rho**2 / 2) / max(n - 3, 1))
