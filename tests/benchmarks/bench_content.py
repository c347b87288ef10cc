"""How long the content digest of a million votes takes, beside writing the same table as Parquet.

    python tests/benchmarks/bench_content.py

Not a test: a ratio of two times of one run, with the machine's load, is all that it says.
"""

import io
import os
import time

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.version.content import table_digest

N = 1_000_000


def million_votes() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    names = [f"{a:016x}{b:04x}" for a, b in enumerate(rng.integers(0, 16**4, 2 * N).tolist())]
    votes = pl.DataFrame(
        {
            "completion_a": names[:N],
            "completion_b": names[N:],
            "annotator": "llm:model/helpfulness",
            "criterion": "helpfulness",
            "draw": 0,
            "a_first": True,
            "prompt_id": names[:N],
            "preference": rng.random(N),
            "rationale": "the first of the two answers what was asked",
            "request_id": names[N:],
        }
    )
    return tables.check("votes", votes, where="benchmark")


def main() -> None:
    votes = million_votes()
    start = time.perf_counter()
    table_digest(votes)
    digested = time.perf_counter()
    votes.write_parquet(io.BytesIO(), compression="zstd")
    written = time.perf_counter()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"digest of {N:,} votes   {digested - start:6.2f} s")
    print(f"as zstd Parquet           {written - digested:6.2f} s")
    print(f"ratio                     {(digested - start) / (written - digested):6.2f}")


if __name__ == "__main__":
    main()
