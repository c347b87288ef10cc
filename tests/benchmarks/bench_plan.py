"""What a plan costs: 100,000 prompts beside 1,000, without and with answers in the ledger.

    python tests/benchmarks/bench_plan.py [--n 100000]

Above a sample of prompts a plan's stages run on the sample, so what is left to grow is reading the
prompts. CPU and wall time of this process, in one run, with the machine's load. Not a test.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prefdata
from prefdata.dataset import estimate

RECIPE = """
name = "planned"
sources.prompts = "{name}.jsonl"

[models.writer]
client = "scripted"

[models.judge]
client = "scripted"

[[stages]]
use = "generate.sample"
model = "writer"
n = 4

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"

[[stages]]
use = "aggregate.bradley_terry"
"""


def timed(what: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    n = parser.parse_args().n
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, 4 draws and 12 votes a prompt")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, size in (("few", 1000), ("many", n)):
            rows = (json.dumps({"prompt": f"Tell me about the number {i}."}) for i in range(size))
            (folder / f"{name}.jsonl").write_text("\n".join(rows))
            (folder / f"{name}.toml").write_text(RECIPE.format(name=name))
        data = folder / "data"
        few, many = (lambda name=name: estimate(folder / f"{name}.toml", data=data)
                     for name in ("few", "many"))  # fmt: skip
        few()  # imports
        spent = {"1,000 prompts": timed(few), f"{n:,} prompts": timed(many)}
        prefdata.build(folder / "many.toml", data=data, limit=2000)
        spent[f"{n:,} prompts, 32,000 answers in the ledger"] = timed(many)
    for what, (wall, cpu) in spent.items():
        print(f"{what:<52} {wall:6.2f} s  {cpu:6.2f} s CPU")
    print(f"load now {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
