"""What a cascade costs and how right it is, replayed on LLMBar's published votes.

    python tests/benchmarks/bench_cascade.py

Each line: `tolerance`, the share of the full jury's calls, accuracy under `aggregate.reliability`,
the share of items on which the full jury differs, and the accuracy of as many random calls; means
and the least of several pilots. Not a test.
"""

import os
import platform
import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.annotate.test_cascade import accuracy, llmbar, preferred, random_calls, replayed

SEEDS = 4


def main():
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    items, votes = llmbar()
    gold = items.select(prompt_id="id", right=pl.col("gold") == 1)
    alone = votes.join(gold, on="prompt_id").group_by("annotator")
    best = alone.agg(right=((pl.col("preference") == 1) == pl.col("right")).mean())["right"].max()
    print(f"full jury {accuracy(votes, items):.3f}; best judge by gold {best:.3f}")
    whole = preferred(votes, items) > 0.5
    for tolerance in (0.1, 0.03, 0.01, 0.003):
        got = [replayed(votes, seed=seed, tolerance=tolerance) for seed in range(SEEDS)]
        ours = [accuracy(each, items) for each in got]
        other = np.mean([((preferred(each, items) > 0.5) != whole).mean() for each in got])
        chance = [accuracy(random_calls(votes, g.height // 2, k), items) for k, g in enumerate(got)]
        share = np.mean([each.height for each in got]) / votes.height
        print(
            f"tolerance {tolerance:.3f}: {share:.2f} of the calls, {np.mean(ours):.3f} "
            f"(least {min(ours):.3f}), differs on {other:.3f}, random calls {np.mean(chance):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
