"""2,000 requests through a storm of faults, beside the same requests on a calm day.

    python tests/benchmarks/bench_storm.py

10 % 429, 5 % 500, 3 % cut connections, 2 % malformed replies of all attempts and 1 % permanent 400,
at 50 ms a reply. Unavoidable are the attempts made again, at the calm rate, and the backoff of the
row that was struck most. Not a test: times of one run, with the machine's load.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import stage, tables
from prefdata.models.edge import Edge
from prefdata.models.lane import FIRST_WAIT
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec

SERVER = Path(__file__).parents[1] / "models" / "server.py"
FAULTS = [
    '{"kind": "400", "share": 0.01}',
    *(
        f'{{"kind": "{kind}", "share": {share}, "anew": true}}'
        for kind, share in (("429", 0.1), ("500", 0.05), ("cut", 0.03), ("malformed", 0.02))
    ),
]
N = 2000


def control(url: str, what: str, body: str = "") -> Any:
    at = url.replace("/v1", f"/control/{what}")
    headers = {"Content-Type": "application/json"}
    data = None if what == "seen" else body.encode()
    with urllib.request.urlopen(urllib.request.Request(at, data, headers)) as reply:
        return pl.read_json(reply.read()) if what == "seen" else None


def asked(url: str, word: str) -> tuple[float, Counter[str | None]]:
    spec = ModelSpec(client="openai", model="m", base_url=url, retries=8)
    turns = [[{"role": "user", "content": f"{word} {i}"}] for i in range(N)]
    messages = pl.Series("messages", turns, dtype=tables.MESSAGES)
    requests = stage.requests(spec.resolve("m"), "text", messages)
    with tempfile.TemporaryDirectory() as folder, Edge({"m": spec}, Ledger(folder)) as edge:
        began = time.perf_counter()
        said = edge(requests)
        return time.perf_counter() - began, Counter(said["error"])


def main() -> None:
    command = [sys.executable, str(SERVER), "--latency", "0.05"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        asked(url, "Warm")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {N:,} requests")
        calm, _ = asked(url, "Calm")
        for fault in FAULTS:
            control(url, "fault", fault)
        before = control(url, "seen")["requests"][0]
        stormy, errors = asked(url, "Storm")
        attempts = control(url, "seen")["requests"][0] - before
    finally:
        server.kill()
        server.wait()
    # With a fifth of the attempts struck, some row of 2,000 is struck four times: 0.5 + 1 + 2 + 4.
    backoff = 0.75 * FIRST_WAIT * (2**4 - 1)
    bound = calm * attempts / N + backoff
    print(f"calm  {calm:6.2f} s")
    print(f"storm {stormy:6.2f} s, {attempts:,} attempts, {dict(errors)}")
    print(f"against what is unavoidable ({bound:.2f} s): {stormy / bound:.2f}")


if __name__ == "__main__":
    main()
