"""How long the id of a large table takes. Slow; prints its figures with `-s`."""

import time

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.version.content import table_digest

N = 1_000_000


@pytest.mark.slow
def test_a_million_votes_in_seconds():
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
    votes = tables.check("votes", votes, where="benchmark")
    start = time.perf_counter()
    table_digest(votes)
    seconds = time.perf_counter() - start
    print(f"\n{N:,} votes: {seconds:.2f} s")
    assert seconds < 20  # seconds on an idle machine; loose, since others may use it too
