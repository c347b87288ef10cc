"""How much memory `estimate.ches` takes of many pairs whose vectors are on disk.

    python tests/benchmarks/bench_ches_memory.py [--pairs 100000] [--width 576] [--folder X]

Pairs that share no completion, and in place of a model numbers drawn at random: states as wide as
those of SmolLM2-135M, tokens and log-probabilities. Each of three steps is a process of its own, so
that none is seen in the memory of another: the tables are made and written; the stage is run, with
`likelihoods`, through edge and ledger, which takes all vectors to disk; and it is run again on what
the ledger has. Of the last two the memory before the stage, with the tables loaded, and the stage's
own peak are read from the kernel, whose mark of the highest is put back in between. It is done for
a quarter of the pairs and for all: what grows with them are tables and scores, not vectors.

Not a test: figures of one run with the machine's load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from prefdata import tables
from prefdata.estimate.ches import ches
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stage import drive
from prefdata.tables import Completions, Pairs, Prompts, Requests, Responses
from tests.benchmarks.bench_ches import made_up

WIDTH, TOKENS, BATCH = 576, 60, 512
NAMES = ("pairs", "prompts", "completions")
SPEC = ModelSpec(client="scripted", model="generated")


class Generated:
    """A client that answers with numbers drawn at random, as wide as `width`."""

    def __init__(self, width: int) -> None:
        self.width = width

    def answer(self, requests: Requests) -> Iterator[Responses]:
        for _, part in requests.group_by("want", maintain_order=True):
            for rows in part.iter_slices(BATCH):
                yield self.numbers(Requests(rows))

    def numbers(self, rows: Requests) -> Responses:
        n = rows.height
        draw = np.random.default_rng(n)
        made = rows.select("request_id").with_columns(tokens_in=TOKENS, tokens_out=0)
        match rows["want"][0]:
            case "hidden":
                drawn = draw.normal(size=(n, self.width)).astype(np.float32)
                vectors = pl.Series("vector", drawn).cast(pl.List(pl.Float64))
                made = made.with_columns(vectors, number=pl.Series(draw.integers(5, 90, n)))
            case "logprobs":
                told = [{"token": "token", "logprob": -2.0}] * TOKENS
                said = pl.Series("logprobs", [told] * n)
                made = made.with_columns(said, number=pl.Series(draw.normal(-100, 20, n)))
            case _:
                ids = pl.Series("token_ids", draw.integers(0, 49_152, (n, TOKENS)))
                made = made.with_columns(ids.cast(pl.List(pl.Int64)), number=TOKENS)
        whole = pl.concat([tables.empty("responses"), made], how="diagonal_relaxed")
        return Responses(tables.check("responses", whole, where="benchmark"))

    def close(self) -> None:
        pass


def memory(name: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` the most since it was put back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(each.split()[1]) for each in lines if each.startswith(name)) / 1024


def run(folder: Path, width: int) -> None:
    """The stage on the tables of a folder; what it took, as JSON."""
    pairs, prompts, completions = (pl.read_parquet(folder / f"{name}.parquet") for name in NAMES)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = memory("VmRSS"), time.perf_counter()
    with Ledger(folder / "ledger") as ledger, Edge({"m": SPEC}, ledger) as edge:
        edge.clients.opened[SPEC.served()] = Generated(width)
        stage = ches(
            Pairs(pairs),
            Prompts(prompts),
            Completions(completions),
            model=SPEC.resolve("m"),
            likelihoods=True,
        )
        scores, _ = drive(stage, edge)
        asked = edge.counts.asked
    told = {"scores": scores.height, "asked": asked, "seconds": time.perf_counter() - start}
    print(json.dumps({**told, "before": before, "peak": memory("VmHWM")}))


def make(folder: Path, n_pairs: int) -> None:
    made = made_up(n_pairs, 2, (20, 60))
    for name in NAMES:
        made[name].write_parquet(folder / f"{name}.parquet")


def main(n_pairs: int, width: int, folder: Path) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    for n in (n_pairs // 4, n_pairs):
        own = folder / f"{n}"
        own.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--width", str(width), "--folder", str(own)]
        subprocess.run([*command, "--make", str(n)], check=True)
        for what in ("asked for", "on disk"):
            ran = subprocess.run([*command, "--run"], check=True, capture_output=True)
            said = json.loads(ran.stdout)
            size = sum(each.stat().st_size for each in (own / "ledger").rglob("*.jsonl"))
            vectors = 2 * 2 * n * width * 8
            print(
                f"{n:,} pairs, vectors of {width} {what} ({vectors >> 20:,} MiB as numbers, "
                f"{size >> 20:,} MiB of ledger): {said['asked']:,} requests asked, "
                f"{said['scores']:,} scores in {said['seconds']:.0f} s; {said['before']:.0f} MiB "
                f"before, {said['peak'] - said['before']:.0f} MiB more at the peak",
                flush=True,
            )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--pairs", type=int, default=100_000)
    options.add_argument("--width", type=int, default=WIDTH)
    options.add_argument("--folder", type=Path, help="where tables and ledger stay")
    options.add_argument("--make", type=int, help="make the tables of so many pairs, no more")
    options.add_argument("--run", action="store_true", help="run the stage, no more")
    chosen = options.parse_args()
    if chosen.make:
        make(chosen.folder, chosen.make)
    elif chosen.run:
        run(chosen.folder, chosen.width)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(chosen.pairs, chosen.width, chosen.folder or Path(scratch))
