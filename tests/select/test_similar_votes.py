"""The most similar annotators, against every set of them and against planted outliers."""

from itertools import combinations
from statistics import mean, median, variance

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.order.stated_strength import stated_strength
from prefdata.select.similar_votes import similar_votes


def votes_of(degrees, names=None, pair=("a", "b")):
    """A vote of each annotator, in degrees from -3 (b much better) to 3."""
    n = len(degrees)
    frame = pl.DataFrame({
        "completion_a": [pair[0]] * n, "completion_b": [pair[1]] * n, "prompt_id": ["p"] * n,
        "annotator": names or [f"human:{at}" for at in range(n)], "criterion": ["best"] * n,
        "draw": [0] * n, "a_first": [True] * n,
        "preference": [None if each is None else (each + 3) / 6 for each in degrees],
        "unscored": ["neither is valid" if each is None else None for each in degrees],
    })  # fmt: skip
    return tables.check("votes", frame, where="test")


def kept_of(degrees, **options):
    kept = similar_votes(votes_of(degrees), **options)["preference"]
    return sorted(round(6 * p - 3) for p in kept)


def told(chosen, everything):
    """What sets are compared by, least first."""
    away = abs(mean(chosen) - median(everything))
    return max(chosen) - min(chosen), round(variance(chosen), 9), round(away, 9)


@given(st.lists(st.integers(-3, 3), min_size=3, max_size=6), st.integers(2, 3))
def test_no_other_set_is_more_similar(degrees, keep):
    kept = kept_of(degrees, keep=keep)
    sets = [sorted(each) for each in combinations(degrees, keep)]
    assert kept in sets
    assert told(kept, degrees) == min(told(each, degrees) for each in sets)


@pytest.mark.parametrize(
    ("degrees", "kept"),
    [
        ([-3, -2, -2, 3], [-3, -2, -2]),
        ([0, 1, 1, 2, 3], [0, 1, 1]),  # 1, 1, 2 is as near to the median of 1: the lower
        ([0, 1, 1, 2, 2, 2], [2, 2, 2]),
        ([-3, 0, 0, 3], [-3, 0, 0]),  # a true tie: the lower
        ([2, 2], [2, 2]),
        ([1, None, 2, 3], [1, 2, 3]),
        ([None, None], []),
    ],
)
def test_fixtures(degrees, kept):
    assert kept_of(degrees) == kept


def test_what_stays_too_far_apart_is_gone():
    assert kept_of([-3, -1, 0], max_spread=1 / 3) == []
    assert kept_of([-2, -1, 0], max_spread=1 / 3) == [-2, -1, 0]
    assert kept_of([-3, 3, 3, 2, 1], max_spread=1 / 3) == [2, 3, 3]


def test_names_and_order_of_rows_do_not_matter_but_for_whose_equal_vote_it_is():
    degrees = [-3, 0, 1, 3, 1]
    one = similar_votes(votes_of(degrees))
    other = similar_votes(votes_of(degrees, names=[f"human:{9 - at}" for at in range(5)])[::-1])
    assert sorted(one["preference"]) == sorted(other["preference"])


def test_both_orders_of_an_annotator_are_one_opinion():
    other = votes_of([-3], names=["human:x"]).with_columns(a_first=pl.lit(False))
    said = pl.concat([votes_of([3, 1, 1], names=["human:x", "human:y", "human:z"]), other])
    kept = similar_votes(said, keep=2)
    assert set(kept["annotator"]) == {"human:y", "human:z"}  # x is at 0 in the mean
    assert kept.height == 2


def test_one_gross_outlier_costs_less_than_in_the_mean():
    """Planted: five annotators near the truth, one of whom is far off: a third less error."""
    draw = np.random.default_rng(3)
    n = 400
    truth = draw.integers(-3, 4, n)
    degrees = np.clip(truth[:, None] + draw.integers(-1, 2, (n, 5)), -3, 3)
    degrees[:, 2] = np.where(truth > 0, -3, 3)
    votes = pl.concat(
        votes_of(list(map(int, row)), pair=(f"{at:04}a", f"{at:04}b"))
        for at, row in enumerate(degrees)
    )

    def error(table):
        by = table.group_by("completion_a").agg(pl.col("preference").mean() * 6 - 3)
        found = by.sort("completion_a")["preference"].to_numpy().round()
        return np.abs(found - truth).mean()

    assert error(similar_votes(votes)) <= 0.7 * error(votes)


def test_the_strength_is_the_rounded_mean(world):
    """As published: the mean of the three, to the nearest degree."""
    made = world(1, 2)
    [pair] = made["pairs"].rows(named=True)
    a_chosen = pair["chosen_id"] < pair["rejected_id"]
    sign = 1 if a_chosen else -1
    ids = sorted([pair["chosen_id"], pair["rejected_id"]])
    votes = similar_votes(votes_of([2 * sign, 3 * sign, 3 * sign, -3 * sign], pair=ids))
    [plain] = stated_strength(made["pairs"], votes)["value"]
    [rounded] = stated_strength(made["pairs"], votes, rounded=True)["value"]
    assert plain == pytest.approx(8 / 3)
    assert rounded == 3.0
    for degrees, expected in (([1, 2], 2.0), ([-1, -2], -2.0), ([0, 1, 0], 0.0)):
        said = votes_of([sign * each for each in degrees], pair=ids)
        assert stated_strength(made["pairs"], said, rounded=True)["value"].to_list() == [expected]


@pytest.mark.parametrize("options", [{"keep": 1}, {"max_spread": 1.5}, {"max_spread": -0.1}])
def test_options_out_of_range(options):
    with pytest.raises(RecipeError, match="at least 2"):
        similar_votes(votes_of([1, 2]), **options)
