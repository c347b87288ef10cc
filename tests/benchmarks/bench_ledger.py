"""Opening a ledger of a million responses and finding 10,000, beside reading its bytes.

    python tests/benchmarks/bench_ledger.py

Not a test: times of one run with the machine's load, and the peak of memory.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from prefdata.models.ledger import Ledger

N = 1_000_000
WANTED = 10_000


def main() -> None:
    rng = np.random.default_rng(5)
    high = rng.integers(0, 1 << 63, N).tolist()
    low = rng.integers(0, 1 << 16, N).tolist()
    ids = [f"{a:016x}{b:04x}" for a, b in zip(high, low, strict=True)]
    body = '"response":{"text":"' + "x" * 500 + '","tokens_in":1,"tokens_out":1}}'
    with tempfile.TemporaryDirectory() as folder:
        segment = Path(folder) / "0-host-1-0.jsonl"
        with segment.open("w") as file:
            file.writelines(f'{each} {{"time":1700000000000,{body}\n' for each in ids)
        wanted = [ids[i] for i in rng.integers(0, N, WANTED)]
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        start = time.perf_counter()
        n_bytes = len(segment.read_bytes())
        print(f"reading {n_bytes / 1e6:,.0f} MB     {time.perf_counter() - start:6.2f} s")
        for how in ("first, scanned", "from the index"):
            start = time.perf_counter()
            with Ledger(folder) as ledger:
                found = ledger.find(wanted)
            assert set(found["request_id"]) == set(wanted)
            print(f"{WANTED:,} {how}  {time.perf_counter() - start:6.2f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
