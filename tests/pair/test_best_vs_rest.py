import polars as pl
import pytest

from prefdata.errors import RecipeError
from prefdata.pair.best_vs_rest import best_vs_rest
from tests.pair.planted import random_strengths, strengths_of


def test_the_best_wins_against_each_other():
    strengths = strengths_of([("p", "x", 0.2), ("p", "y", 1.7), ("p", "z", -3), ("p", "w", 0.9)])
    pairs, dropped = best_vs_rest(strengths)
    assert set(pairs["chosen_id"]) == {"y"}
    margins = dict(pairs.select("rejected_id", "margin").rows())
    assert margins == pytest.approx({"x": 1.5, "z": 4.7, "w": 0.8})
    assert dropped.is_empty()


def test_a_prompt_of_k_is_k_less_one_candidates_of_which_ties_are_dropped():
    strengths = random_strengths(3)
    pairs, dropped = best_vs_rest(strengths)
    sizes = strengths.group_by("prompt_id").len()["len"]
    assert pairs.height + dropped.height == (sizes - 1).sum()
    best = strengths.group_by("prompt_id").agg(pl.col("strength").max())
    ties = strengths.join(best, on=["prompt_id", "strength"]).height - best.height
    assert dropped.height == ties
    assert set(dropped["reason"]) == {"tie"}


def test_row_order_does_not_matter(shuffled):
    strengths = random_strengths(4)
    one, other = best_vs_rest(strengths)[0], best_vs_rest(shuffled(strengths, 1))[0]
    assert one.sort("pair_id").equals(other.sort("pair_id"))


def test_several_estimators_need_a_choice():
    both = pl.concat([random_strengths(1), strengths_of([("p", "x", 1.0)], "other")])
    with pytest.raises(RecipeError, match="estimator"):
        best_vs_rest(both)
