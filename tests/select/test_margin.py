"""Selection by margin: inclusive bounds, unknown margins, nothing changed."""

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.select.margin import margin
from prefdata.tables import Pairs


def pairs_of(margins):
    n = len(margins)
    frame = {
        "pair_id": [f"pair{i}" for i in range(n)],
        "chosen_id": [f"a{i}" for i in range(n)],
        "rejected_id": [f"b{i}" for i in range(n)],
        "margin": pl.Series(margins, dtype=pl.Float64),
        "soft_label": [0.75] * n,
        "n_votes": [1] * n,
    }
    return tables.typed(Pairs, pl.DataFrame(frame))


def test_bounds_are_inclusive_and_rows_unchanged():
    pairs = pairs_of([0.0, 0.5, 1.0, 2.0, 2.5])
    kept = margin(pairs, min_margin=0.5, max_margin=2.0)
    assert kept["margin"].to_list() == [0.5, 1.0, 2.0]
    assert kept.equals(pairs[1:4])


def test_a_pair_of_unknown_margin_is_within_no_bounds():
    assert margin(pairs_of([None, 1.0]), min_margin=0)["margin"].to_list() == [1.0]


def test_without_a_limit_all_above_are_kept_and_bounds_chain():
    pairs = pairs_of([0.1, 0.2, 0.3, 1e300])
    assert margin(pairs, min_margin=0).equals(pairs)
    once = margin(pairs, min_margin=0.2, max_margin=0.3)
    twice = margin(margin(pairs, min_margin=0.2), min_margin=0, max_margin=0.3)
    assert once.equals(twice)


@pytest.mark.parametrize("bounds", [(-1.0, None), (2.0, 1.0), (float("nan"), None)])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(RecipeError, match="0 <= min_margin <= max_margin"):
        margin(pairs_of([1.0]), min_margin=bounds[0], max_margin=bounds[1])
