"""A ledger of a million responses: opening it and finding 10,000, and its upkeep.

    python tests/benchmarks/bench_ledger.py

Not a test: times of one run with the machine's load, each beside reading the same bytes, and the
peak of memory so far. A tenth of the responses were answered twice.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from prefdata import locks
from prefdata.models import segment
from prefdata.models.compact import compact
from prefdata.models.ledger import Ledger
from prefdata.models.records import export
from prefdata.models.upkeep import stats, verify
from prefdata.stage import request_id

N = 1_000_000
TWICE = 100_000
WANTED = 10_000
SEGMENTS = 20
OPTIONS = '{"temperature": 0.5}'


def main() -> None:
    rng = np.random.default_rng(5)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "ledger"
        folder.mkdir()
        with timed("writing"):
            ids = fill(folder)
        wanted = [ids[i] for i in rng.integers(0, N, WANTED)]
        n_bytes = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
        with timed(f"reading {n_bytes / 1e6:,.0f} MB"):
            for path in folder.glob("*.jsonl"):
                with path.open("rb") as file:
                    while file.read(1 << 22):
                        pass
        with timed(f"{WANTED:,} found, first, scanned"):
            find(folder, wanted)
        with timed(f"{WANTED:,} found, from indexes"):
            find(folder, wanted)
        upkeep(folder, Path(home))
        with timed(f"{WANTED:,} found, after compaction"):
            find(folder, wanted)


def upkeep(folder: Path, home: Path) -> None:
    with timed("stats"):
        told = stats(folder)
        assert (told.responses, told.unique) == (N + TWICE, N)
    with timed("verify, every id computed again"):
        assert verify(folder).is_sound
    with timed(f"compact {SEGMENTS} segments into one"):
        done = compact(folder, idle=0)
        assert (done.segments, done.kept, done.superseded) == (SEGMENTS, N, TWICE)
    jobs: dict[str, Callable[[], object]] = {
        "export to JSON Lines": lambda: export(folder, home / "out.jsonl"),
        "export to Parquet": lambda: export(folder, home / "out.parquet"),
    }
    for name, job in jobs.items():
        with timed(name):
            job()


def fill(folder: Path) -> list[str]:
    """Segments of dead writers, with real lines."""
    said = {"text": "x" * 300, "tokens_in": 40, "tokens_out": 60, "finish_reason": "stop"}
    ids: list[str] = []
    for at in range(SEGMENTS):
        path = folder / f"{at + 1:019d}-{locks.host()}-4194305-{at:08x}.jsonl"
        numbers = [*range(at, N, SEGMENTS), *range(at, TWICE, SEGMENTS)]
        with path.open("wb") as file:
            for turn, number in enumerate(numbers):
                messages = [{"role": "user", "content": f"Question {number}: " + "y" * 200}]
                asked = {"model": "weights:m", "want": "text", "messages": messages, "draw": 0}
                key = request_id("weights:m", "text", messages, None, OPTIONS, 0)
                request = {**asked, "options": OPTIONS}
                moment = 1_700_000_000_000 + turn
                file.write(segment.line(moment, request, {"request_id": key, **said}))
                if turn < N // SEGMENTS:
                    ids.append(key)
    return ids


def find(folder: Path, wanted: list[str]) -> None:
    with Ledger(folder) as ledger:
        assert set(ledger.find(wanted)["request_id"]) == set(wanted)


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:36}{time.perf_counter() - start:7.2f} s   peak {peak:5,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
