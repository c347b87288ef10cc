"""How fast Bradley-Terry is fitted, beside choix on the same votes in the same run.

    python tests/benchmarks/bench_bradley_terry.py

Both sides fit the same hard votes without a prior and must agree; ours is the median of five, with
the standard errors that choix does not give and without them. Then comes what choix has no
counterpart for. Not a test: a ratio of two times of one run is all that it says.
"""

import os
import platform
import statistics
import sys
import time
from pathlib import Path

import choix
import numpy as np
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).parents[2]))
from prefdata.aggregate.bradley_terry import bradley_terry, fit_bradley_terry, standard_errors
from tests.aggregate.planted import votes_of


def votes(n_items, n_votes, seed=0):
    """Random games of planted items; a ring both ways round lets an optimum exist."""
    draw = np.random.default_rng(seed)
    theta = draw.normal(size=n_items)
    one = draw.integers(0, n_items, n_votes)
    other = (one + draw.integers(1, n_items, n_votes)) % n_items
    wins = (draw.random(n_votes) < expit(theta[one] - theta[other])).astype(float)
    ring = np.arange(n_items)
    one, other = np.r_[one, ring, np.roll(ring, 1)], np.r_[other, np.roll(ring, 1), ring]
    wins = np.r_[wins, np.ones(2 * n_items)]
    return one, other, wins, 1 - wins


def timed(function):
    start = time.perf_counter()
    made = function()
    return made, time.perf_counter() - start


def beside_choix(n_items, n_votes):
    one, other, wins, _ = games = votes(n_items, n_votes)
    won = wins > 0
    winner, loser = np.where(won, one, other), np.where(won, other, one)
    data = list(zip(winner.tolist(), loser.tolist(), strict=True))
    fits = [timed(lambda: fit_bradley_terry(*games, n_items=n_items, prior=0)) for _ in range(5)]
    fit, ours = fits[0][0], statistics.median(seconds for _, seconds in fits)
    spectral, theirs = timed(lambda: choix.ilsr_pairwise(n_items, data, alpha=0))
    apart = np.abs(fit.strengths - (spectral - spectral.mean())).max()
    errors = statistics.median(
        timed(lambda: standard_errors(fit, *games, prior=0))[1] for _ in range(5)
    )
    print(
        f"{n_votes:,} votes on {n_items:,} items: fit {ours:.3f} s, {fit.iterations} steps, "
        f"standard errors {errors:.3f} s; choix.ilsr_pairwise {theirs:.2f} s, ratio "
        f"{theirs / ours:.0f}, with errors {theirs / (ours + errors):.0f}; largest difference "
        f"{apart:.1e}, residual {fit.residual:.1e}"
    )


def many_prompts(n_prompts, k=4):
    i, j = np.triu_indices(k, 1)
    first = np.arange(n_prompts)[:, None] * k
    one, other = (first + i).ravel(), (first + j).ravel()
    draw = np.random.default_rng(1)
    wins = draw.choice([0, 0.5, 1, 1.5, 2], len(one))
    games = one, other, wins, 2 - wins
    fit, seconds = timed(lambda: fit_bradley_terry(*games, n_items=n_prompts * k))
    _, errors = timed(lambda: standard_errors(fit, *games))
    print(
        f"{n_prompts:,} prompts of {k} completions: {seconds:.2f} s, "
        f"standard errors {errors:.2f} s, residual {fit.residual:.1e}"
    )


def a_million():
    draw = np.random.default_rng(2)
    pair = np.repeat(np.arange(100_000), 10)
    votes = votes_of(pair, draw.integers(0, 200, len(pair)), draw.integers(0, 2, len(pair)))
    _, seconds = timed(lambda: bradley_terry(votes))
    print(f"a million votes, aggregate.bradley_terry: {seconds:.2f} s from table to tables")


if __name__ == "__main__":
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    fit_bradley_terry(*votes(100, 1_000), n_items=100)  # so that no side pays for imports
    beside_choix(100, 10_000)
    for n_items in (100, 300, 1_000, 2_000, 4_000):
        beside_choix(n_items, 100_000)
    many_prompts(100_000)
    a_million()
    print(f"load at the end {os.getloadavg()[0]:.2f}")
