"""A build on one machine's plain loop and on a Ray of two nodes, and what a kill costs there.

    python tests/benchmarks/bench_ray.py --prompts 200

Both nodes are raylets on this machine, of one processor each, so nothing can be faster there: what
is measured is what the way costs, and what is done again when a worker or a node is killed. Models
are a server on loopback. Not a test: times of one run, with the machine's load.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from prefect.testing.utilities import prefect_test_harness

import prefdata
from tests.flows.two_nodes import N_SHARDS, says, two_nodes, written
from tests.models.server import Server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    n = parser.parse_args().prompts
    with tempfile.TemporaryDirectory() as name, Server(answers=says) as models:
        folder = Path(name)
        os.environ["PREFECT_HOME"] = str(folder / "prefect")
        recipe = written(folder, models.url, n)
        began = time.perf_counter()
        plain = prefdata.build(recipe, data=folder / "plain")
        print(f"{n} prompts, {plain.requests['asked']} requests, load {os.getloadavg()[0]:.1f}")
        print(f"plain loop: {time.perf_counter() - began:.1f} s, id {plain.id}")
        with prefect_test_harness(server_startup_timeout=240), two_nodes() as two:
            for what in ("nothing", "nothing", "worker", "node"):
                models.reset()
                data = folder / f"far-{time.time_ns()}"
                began = time.perf_counter()
                built: dict[str, Any]
                if what == "nothing":
                    built = two.build(recipe, data)
                else:
                    built, _ = two.build_and_kill(what, recipe, data)
                seconds = time.perf_counter() - began
                begun = [line[0] for line in two.log()]
                seen = models.seen()
                print(
                    f"two nodes, {N_SHARDS} shards, {what} killed: {seconds:.1f} s, "
                    f"the same id: {built['id'] == plain.id}, "
                    f"shards made again: {len(begun) - len(set(begun))} of {len(set(begun))}, "
                    f"requests asked again: {sum(seen.values()) - len(seen)}, "
                    f"load {os.getloadavg()[0]:.1f}"
                )


if __name__ == "__main__":
    main()
