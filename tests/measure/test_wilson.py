"""Wilson's interval is SciPy's, as numbers and as columns, and solves its own equation."""

import polars as pl
import pytest
from scipy import stats

from prefdata.measure._wilson import Z95, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 1), (7, 20), (50, 50), (300, 1000)])
def test_it_is_scipys(k: int, n: int):
    theirs = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, float(n)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    frame = pl.DataFrame({"share": [k / n], "n": [float(n)]})
    low, high = frame.select(*(end.alias(name) for end, name in zip(
        wilson(pl.col("share"), pl.col("n")), ("low", "high"), strict=True))).row(0)  # fmt: skip
    assert (low, high) == pytest.approx(wilson(k / n, float(n)), abs=1e-15)


def test_at_its_ends_the_share_is_z_errors_away():
    for z in (1.0, Z95, 3.0):
        for end in wilson(0.3, 40.0, z):
            assert abs(0.3 - end) == pytest.approx(z * (end * (1 - end) / 40) ** 0.5)
