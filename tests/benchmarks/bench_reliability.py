"""How right and how fast `aggregate.reliability` is beside crowd-kit, on the same votes in one run.

    python tests/benchmarks/bench_reliability.py

LLMBar: 65 judges in both orders on 280 items; accuracy against gold, of ours also with 14 gold
votes (mean of 20 draws, on the other items), beside the judge that is best on the same 14; ECE in
ten bins of confidence. Then a million planted votes.
"""

import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from crowdkit.aggregation import MACE, DawidSkene, MajorityVote

sys.path.insert(0, str(Path(__file__).parents[2]))
from prefdata.aggregate.reliability import reliability
from tests.aggregate.planted import preferences_of
from tests.aggregate.test_reliability import calibration, llmbar, planted, table, with_gold


def timed(function):
    start = time.perf_counter()
    made = function()
    return made, time.perf_counter() - start


def on_llmbar(strategies=None):
    names, gold, rows = llmbar()
    if strategies:
        rows = rows.filter(pl.col("strategy").is_in(strategies))
    rows = rows.drop("strategy")
    votes = table(**rows.to_dict())
    (_, scores, measures), seconds = timed(lambda: reliability(votes))
    p = preferences_of(scores, names)
    shares = votes.group_by("prompt_id").agg(pl.mean("preference")).sort("prompt_id")
    share = shares["preference"].to_numpy()
    effect = dict(measures.select("measure", "value").iter_rows())
    print(f"{votes.height:,} votes of {votes['annotator'].n_unique()} judges: {effect}")
    print(
        f"  ours {((p > 0.5) == gold).mean():.3f} in {seconds:.2f} s, "
        f"ECE {calibration(p, gold):.3f}, "
        f"of the vote share {calibration(share, gold):.3f}"
    )
    scored = votes.filter(pl.col("preference").is_not_null())
    theirs = pd.DataFrame(
        {
            "task": scored["prompt_id"].to_list(),
            "worker": (scored["annotator"]).to_list(),
            "label": (scored["preference"] == 1).to_list(),
        }
    )
    for kind in (MajorityVote(), DawidSkene(n_iter=100), MACE(n_restarts=10, n_iter=50)):
        found, seconds = timed(lambda kind=kind: kind.fit_predict(theirs))
        right = (found.loc[names].to_numpy() == gold).mean()
        print(f"  crowd-kit {type(kind).__name__} {right:.3f} in {seconds:.2f} s")
    return names, gold, rows


def gain_of_gold(names, gold, rows):
    right, best = [], []
    place = {name: k for k, name in enumerate(names)}
    held = rows.with_columns(
        right=(pl.col("preference") == pl.Series(gold[[place[p] for p in rows["prompt_id"]]]))
    )
    for seed in range(20):
        votes, told = with_gold(names, gold, rows, seed)
        p = preferences_of(reliability(votes, gold="human:gold")[1], names)
        right.append(np.delete((p > 0.5) == gold, told).mean())
        shown = pl.col("prompt_id").is_in([names[i] for i in told])
        of = held.group_by("annotator").agg(
            seen=pl.col("right").filter(shown).mean(), rest=pl.col("right").filter(~shown).mean()
        )
        best.append(of.sort("seen", "annotator", descending=True)["rest"][0])
    print(
        f"  with 14 gold votes {np.mean(right):.3f} (mean of 20 draws); the judge that is best on "
        f"the same 14: {np.mean(best):.3f}"
    )


def a_million():
    _, _, _, votes = planted(0, n=50_000)
    _, seconds = timed(lambda: reliability(votes))
    print(f"{votes.height:,} planted votes: {seconds:.1f} s")


if __name__ == "__main__":
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    gain_of_gold(*on_llmbar())
    on_llmbar(["Vanilla"])
    a_million()
