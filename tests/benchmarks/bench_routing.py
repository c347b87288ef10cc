"""How much of the gain that an oracle's routing has a predictor of mixes captures, and can capture.

    python tests/benchmarks/bench_routing.py [worlds]

In planted worlds of the performance predictor (2,000 rows, 90 tags, the truth additive, then with
products of tags) a predictor learns from mixes whose performance is told with noise of half a
standard deviation, and chooses a fourth of the rows. The share is of what the oracle's rows have
over rows by lot. Beside the predictor that cross-validation chooses stand

- truth   the same choice with the true performance as predictor: what choosing itself loses;
- bayes   the posterior mean with the true prior and the true noise: nobody who sees these mixes can
          know more, so what it lacks is the noise of the mixes, not the predictor.

Mixes have sizes drawn evenly, as in the source, or around half of the rows, as `route` draws them.

Its first runs, worlds 0 to 19, sizes around a half. Additive, 225 mixes: share 0.76, below 0.4 in
no world (bayes 0.76, in none). With products: 0.60, in 3 (bayes 0.63, in 2); of 500 mixes 0.68, in
1 (bayes 0.70, in 1). The truth has 1.00 in all; what the predictor chose was above the lot's
interval in all.
"""

import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2]))

from prefdata.route._mixes import candidates, gains
from prefdata.route._predictors import compare, fit
from tests.route.mixes_planted import N_ROWS, N_TAGS, World

NOISE, N_CHOSEN = 0.5, N_ROWS // 4
Predict = Callable[[Any], Any]


def truth(world: World) -> Predict:
    def predict(counts: Any) -> Any:
        u = counts / N_ROWS
        bent = ((u @ world.bend) * u).sum(-1) * np.sqrt(N_TAGS)
        return (u @ world.slope + bent - world.base) / world.scale

    return predict


def bayes(world: World, counts: Any, said: Any, quadratic: float) -> Predict:
    """The posterior mean of a Gaussian process with the covariance that the truth was drawn from.

    A product's coefficient has twice the variance of a square's, so that of u' q u and v' q v is
    quadratic^2 / 2 (u' v)^2.
    """

    def covariance(u: Any, v: Any) -> Any:
        along = u @ v.T / N_ROWS**2
        return (along + quadratic**2 / 2 * along**2) / world.scale**2

    inverse = np.linalg.inv(covariance(counts, counts) + NOISE**2 * np.eye(len(counts)))
    mean = inverse.sum(0) @ said / inverse.sum()
    dual = inverse @ (said - mean)
    return lambda of: mean + covariance(of, counts) @ dual


def captured(world: World, predict: Predict, spread: Any, lots: list[float]) -> tuple[float, bool]:
    """The share, and whether it is above the lot's interval."""
    rows = np.argsort(-gains(predict, world.tags, N_CHOSEN, spread))[:N_CHOSEN]
    routed, best = world.of_rows(rows), world.of_rows(world.oracle(N_CHOSEN))
    share = (routed - np.mean(lots)) / (best - np.mean(lots))
    return float(share), bool(routed > np.quantile(lots, 0.975))


def tried(seed: int, quadratic: float, n_mixes: int, even: bool) -> Iterator[tuple[str, Any]]:
    """Of each predictor: share, above the lot, rank correlation on held-out mixes."""
    world = World(seed, quadratic)
    draw = np.random.default_rng([seed, 1])
    masks = world.mixes(n_mixes, draw) if even else candidates(world.tags, n_mixes, draw)
    counts = world.counts(masks)
    said = world.performance(masks) + draw.normal(scale=NOISE, size=n_mixes)
    chosen = compare(("linear", "ridge", "quadratic"), counts, said, n_folds=10, seed=seed)[0].kind
    predictors = {
        "truth": truth(world),
        "bayes": bayes(world, counts, said, quadratic),
        "chosen": fit(chosen, counts, said, seed=seed),
    }
    lot = np.random.default_rng([seed, 3])
    lots = [world.of_rows(lot.permutation(N_ROWS)[:N_CHOSEN]) for _ in range(200)]
    new = world.mixes(100, np.random.default_rng([seed, 2]))
    for name, predict in predictors.items():
        rho = stats.spearmanr(predict(world.counts(new)), world.performance(new)).statistic
        yield name, (*captured(world, predict, counts.std(0), lots), rho)


def report(quadratic: float, n_mixes: int, even: bool, n_worlds: int) -> None:
    found: dict[str, list[Any]] = {}
    for seed in range(n_worlds):
        for name, each in tried(seed, quadratic, n_mixes, even):
            found.setdefault(name, []).append(each)
    truths = "with products" if quadratic else "additive"
    print(f"{truths}, {n_mixes} mixes, sizes {'even' if even else 'around a half'}:")
    for name, each in found.items():
        share, above, rho = np.array(each, dtype=float).T
        print(
            f"  {name:6} share {share.mean():.2f} (least {share.min():.2f}, below 0.4 in "
            f"{(share < 0.4).sum()} of {n_worlds}), above the lot in {above.sum():.0f}, rank "
            f"correlation {rho.mean():.3f} (least {rho.min():.3f})",
            flush=True,
        )


if __name__ == "__main__":
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for quadratic in (0.0, 1.0):
        for n_mixes, even in ((225, True), (225, False), (500, False)):
            report(quadratic, n_mixes, even, many)
    print(f"load at the end {os.getloadavg()[0]:.2f}")
