"""A hundred thousand pairs through check and build: what was planted is found, nothing is lost.

The same as `tests/benchmarks/bench_scale.py` at its smallest size; here no step is timed.
"""

from pathlib import Path

import polars as pl
import pytest

from tests.benchmarks import scale_pairs
from tests.benchmarks.bench_scale import measure

# What a build of so many pairs by shards on disk may hold at most; in memory it holds more.
HELD = 550 << 20


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [100_000])
def test_what_was_planted_is_found_and_no_row_is_lost(pairs: int, tmp_path: Path):
    found = measure(pairs, tmp_path, options=["--on-disk", "--shards", "8"])
    assert found.wrong == []
    assert found.auc > 0.9
    assert set(found.peak) == {"polars alone", "check", "build"}
    assert max(found.peak.values()) < HELD


def test_pairs_are_as_many_as_wanted_and_as_they_are_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is planted is counted from the rows, and the same seed plants the same."""
    monkeypatch.setattr(scale_pairs, "BATCH", 4000)
    made = list(scale_pairs.batches(11_000))
    again = list(scale_pairs.batches(11_000))
    fewer = list(scale_pairs.batches(8_000))
    assert all(one.rows.equals(other.rows) for one, other in zip(made, again, strict=True))
    assert fewer[1].rows.equals(made[1].rows)
    rows = pl.concat(each.rows for each in made)
    assert rows.height + sum(len(each.broken) for each in made) == 11_000
    truth = pl.concat(each.truth for each in made)
    assert truth.height == rows.height
    assert truth["repeat"].sum() == 110
    assert truth["near"].sum() == 220
    texts = pl.concat([rows["chosen"], rows["rejected"]]).drop_nulls()
    same_sides = (rows["chosen"] == rows["rejected"]).sum()
    # of a near copy only the rejected side is its source's, of a repeat both
    assert texts.len() - texts.n_unique() == 220 + 2 * 110 + same_sides
    wrong = rows["score_chosen"] < rows["score_rejected"]
    assert 0.08 < truth["swapped"].mean() < 0.12  # pyright: ignore[reportOperatorIssue]
    assert wrong.filter(truth["swapped"]).mean() > 0.7  # pyright: ignore[reportOptionalOperand]
    assert all(len(each.broken) > 0 for each in made)
