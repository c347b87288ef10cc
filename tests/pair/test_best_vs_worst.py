"""Best against worst: direction, ties, what is dropped, and where the numbers come from."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.pair.best_vs_worst import best_vs_worst
from prefdata.tables import Strengths, Votes
from tests.pair.planted import random_strengths, score_of, strengths_of


def test_chosen_is_the_strongest_and_rejected_the_weakest():
    pairs, dropped = best_vs_worst(strengths_of([("p", "x", 0.2), ("p", "y", 1.7), ("p", "z", -3)]))
    row = pairs.row(0, named=True)
    assert (row["chosen_id"], row["rejected_id"]) == ("y", "z")
    assert row["margin"] == pytest.approx(4.7)
    assert row["soft_label"] == pytest.approx(1 / (1 + np.exp(-4.7)))
    assert row["annotator"] is None
    assert row["n_votes"] == 0
    assert dropped.is_empty()


def test_in_is_out_plus_dropped_and_every_extreme_is_right():
    strengths = random_strengths(0)
    pairs, dropped = best_vs_worst(strengths)
    tables.check("pairs", pairs, where="here")
    tables.check("dropped", dropped, where="here")
    of_prompt = strengths.group_by("prompt_id").agg(
        low=pl.col("strength").min(), high=pl.col("strength").max(), n=pl.len()
    )
    several = of_prompt.filter(pl.col("n") > 1)
    assert pairs.height + dropped.height == several.height
    assert dropped.height == several.filter(pl.col("low") == pl.col("high")).height > 0
    joined = pairs.join(several, on="prompt_id")
    assert joined["margin"].equals(joined["high"] - joined["low"], check_names=False)
    at = dict(strengths.select("completion_id", "strength").iter_rows())
    for row in pairs.iter_rows(named=True):
        assert at[row["chosen_id"]] - at[row["rejected_id"]] == row["margin"] > 0


def test_ties_are_dropped_even_when_the_last_bits_differ():
    pairs, dropped = best_vs_worst(strengths_of([("p", "x", 0.1 + 0.2), ("p", "y", 0.3)]))
    assert pairs.is_empty()
    row = dropped.row(0, named=True)
    assert row["reason"] == "tie"
    assert (row["table"], row["stage"]) == ("pairs", "pair.best_vs_worst")
    assert row["key"] == tables.pair_ids(["x"], ["y"])[0]


def test_of_equals_the_smallest_id_is_taken_in_any_order_of_rows():
    rows = [("p", "d", 1.0), ("p", "b", 1.0), ("p", "c", -1.0), ("p", "a", -1.0)]
    for order in (rows, rows[::-1], rows[2:] + rows[:2]):
        frame = pl.concat([strengths_of([row]) for row in order])
        row = best_vs_worst(Strengths(frame))[0].row(0, named=True)
        assert (row["chosen_id"], row["rejected_id"]) == ("b", "a")


def test_votes_are_counted_and_the_score_gives_the_soft_label_for_the_right_side():
    votes = tables.typed(
        Votes,
        pl.DataFrame(
            {
                "completion_a": "x",
                "completion_b": "y",
                "annotator": "human:1",
                "criterion": ["q", "q", "r"],
                "draw": [0, 1, 0],
                "prompt_id": "p",
                "preference": [0.0, None, 1.0],
                "unscored": [None, "no verdict", None],
            }
        ),
    )
    strengths = strengths_of([("p", "x", -1.0), ("p", "y", 1.0)])
    pairs, _ = best_vs_worst(strengths, votes, score_of("x", "y", 0.3))
    row = pairs.row(0, named=True)
    assert row["chosen_id"] == "y"
    assert row["n_votes"] == 2
    assert row["soft_label"] == pytest.approx(0.7)


def test_scores_of_other_estimators_are_not_used():
    strengths = strengths_of([("p", "x", -1.0), ("p", "y", 1.0)])
    expected = best_vs_worst(strengths)[0]
    assert best_vs_worst(strengths, None, score_of("x", "y", 0.3, "other"))[0].equals(expected)
    unnamed = best_vs_worst(strengths, None, score_of("x", "y", 0.3, None))[0]
    assert unnamed["soft_label"][0] == pytest.approx(0.7)


def test_a_pair_whose_own_votes_contradict_its_strengths_is_dropped():
    strengths = strengths_of([("p", "x", -1.0), ("p", "y", 1.0)])
    pairs, dropped = best_vs_worst(strengths, None, score_of("x", "y", 0.6))
    assert pairs.is_empty()
    assert dropped["reason"].to_list() == ["preference contradicts strengths"]


def test_several_estimators_need_a_choice():
    one = strengths_of([("p", "x", 1.0), ("p", "y", 0.0)])
    other = strengths_of([("p", "x", 0.0), ("p", "y", 1.0)], "mean_rating")
    both = Strengths(pl.concat([one, other]))
    with pytest.raises(RecipeError, match="bradley_terry, mean_rating"):
        best_vs_worst(both)
    with pytest.raises(RecipeError, match="did you mean 'mean_rating'"):
        best_vs_worst(both, estimator="mean_ratings")
    assert best_vs_worst(both, estimator="mean_rating")[0]["chosen_id"].to_list() == ["y"]


def test_neither_the_order_of_rows_nor_shards_matter():
    strengths = random_strengths(1)
    whole = best_vs_worst(strengths)
    shuffled = best_vs_worst(Strengths(strengths.sample(fraction=1, shuffle=True, seed=4)))
    number = pl.col("prompt_id").str.slice(1).cast(pl.Int64) % 7
    parts = [best_vs_worst(Strengths(strengths.filter(number == n))) for n in range(7)]
    for which, name in enumerate(("pairs", "dropped")):
        checked = tables.check(name, whole[which], where="whole")
        assert tables.check(name, shuffled[which], where="shuffled").equals(checked)
        assert tables.union(name, *(part[which] for part in parts), where="parts").equals(checked)


def test_no_strengths_give_no_pairs():
    empty = Strengths(tables.empty("strengths"))
    assert [made.height for made in best_vs_worst(empty)] == [0, 0]
