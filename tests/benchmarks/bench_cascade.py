"""What a cascade costs and how right it is, replayed on LLMBar's published votes.

    python tests/benchmarks/bench_cascade.py

Each line: `sure`, the share of the full jury's calls, accuracy under `aggregate.reliability`, and
that of as many random calls; means and the least of several pilots. Not a test.
"""

import os
import platform
import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.annotate.test_cascade import accuracy, llmbar, random_calls, replayed

SEEDS = 4


def main():
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    items, votes = llmbar()
    gold = items.select(prompt_id="id", right=pl.col("gold") == 1)
    alone = votes.join(gold, on="prompt_id").group_by("annotator")
    best = alone.agg(right=((pl.col("preference") == 1) == pl.col("right")).mean())["right"].max()
    print(f"full jury {accuracy(votes, items):.3f}; best judge by gold {best:.3f}")
    for sure in (0.8, 0.95, 0.99, 1.0):
        got = [replayed(votes, seed=seed, sure=sure) for seed in range(SEEDS)]
        ours = [accuracy(each, items) for each in got]
        chance = [accuracy(random_calls(votes, g.height // 2, k), items) for k, g in enumerate(got)]
        share = np.mean([each.height for each in got]) / votes.height
        print(
            f"sure {sure:.2f}: {share:.2f} of the calls, {np.mean(ours):.3f} "
            f"(least {min(ours):.3f}), random calls {np.mean(chance):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
