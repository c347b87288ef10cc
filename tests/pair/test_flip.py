"""Flipping turns a label and all that speaks of it, can be undone, and repairs planted noise."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.pair.flip import flip
from prefdata.tables import Pairs, Scores
from tests.pair.planted import World, both, score, some, value_of


def test_labels_rather_wrong_than_right_are_turned(world: World):
    pairs = some(world)
    doubt = [0.9, 0.1, 0.5, 0.51, 0.0, 1.0]
    after, scores = flip(pairs, score(pairs, "label_error", doubt), above=0.5)
    turned = after["chosen_id"] == pairs["rejected_id"]
    assert turned.to_list() == [True, False, False, True, False, True]
    assert (after["rejected_id"] == pairs["chosen_id"]).to_list() == turned.to_list()
    assert after["pair_id"].equals(pairs["pair_id"])
    assert after["soft_label"].gather([0, 3, 5]).to_list() == [0.9, 0.51, 1.0]
    assert after["margin"].is_null().to_list() == turned.to_list()
    assert value_of(scores, "flipped").height == 3
    t.check("pairs", after, where="test")
    t.check("scores", scores, where="test")


def test_after_flipping_a_score_says_the_same_of_the_same_completions(world: World):
    pairs = some(world, 3)
    given = both(
        score(pairs, "label_error", [0.8, 0.2, 0.4]),
        score(pairs, "ensemble_margin", [-2.0, 1.0, 0.5]),
        score(pairs, "mc_dropout", [0.3, 0.9, 0.6]),
        score(pairs, "last_hidden_product", [7.0, 8.0, 9.0]),
    )
    _, after = flip(pairs, given, above=0.5)
    by_pair = {name: value_of(after, name)["value"].to_list() for name in given["score"].unique()}
    order = pairs["pair_id"].arg_sort()
    expected = {
        "label_error": [0.2, 0.2, 0.4],
        "ensemble_margin": [2.0, 1.0, 0.5],
        "mc_dropout": [0.7, 0.9, 0.6],
        "last_hidden_product": [7.0, 8.0, 9.0],  # the same both ways
    }
    for name, values in expected.items():
        assert by_pair[name] == pytest.approx(np.array(values)[order.to_numpy()].tolist())


def test_what_a_trainer_takes_for_the_chosen_side_is_the_chosen_sides(world: World):
    """Log-probabilities go with their completions; what is of a pair as it stood is gone."""
    pairs = some(world, 2)
    one_sided = {
        f"{name}_{side}{rest}": [10.0 * at + (side == "chosen"), 50.0]
        for at, (name, rest) in enumerate(
            (("ref_logp", ""), ("ref_logp", "_per_token"), ("n_tokens", ""))
        )
        for side in ("chosen", "rejected")
    }
    anew = {"ches": [1.0, 2.0], "ln_ches": [1.0, 2.0], "difficulty": [1.0, 2.0]}
    given = both(
        score(pairs, "label_error", [0.9, 0.1]),
        *(score(pairs, *each, model="m") for each in {**one_sided, **anew}.items()),
    )
    after, scores = flip(pairs, given, above=0.5)
    t.check("scores", scores, where="test")
    turned, straight = after["pair_id"]
    for name in one_sided:
        other = name.replace("rejected", "x").replace("chosen", "rejected").replace("x", "chosen")
        found = dict(value_of(scores, name).select("subject_id", "value").iter_rows())
        assert found == {turned: one_sided[other][0], straight: 50.0}
    for name in anew:
        assert value_of(scores, name)["subject_id"].to_list() == [straight]


def test_flipping_twice_is_the_identity(world: World):
    pairs = some(world)
    scores = score(pairs, "ensemble_margin", [-2.0, 3.0, -1.0, 0.5, 1.0, 2.0])
    once, after = flip(pairs, scores, score="ensemble_margin", share=0.5)
    turned = value_of(after, "flipped")["subject_id"]
    back = after.with_columns(
        value=pl.when(
            pl.col("score") == "ensemble_margin"
        ).then(pl.when(pl.col("subject_id").is_in(turned.implode())).then(-9.0).otherwise(9.0))
        .otherwise(pl.col("value"))
    )  # fmt: skip
    twice, noted = flip(once, Scores(back), score="ensemble_margin", above=0.0)
    assert twice.select("pair_id", "chosen_id", "rejected_id").equals(
        pairs.select("pair_id", "chosen_id", "rejected_id")
    )
    assert value_of(noted, "flipped")["value"].to_list() == [0.0] * 3


def test_by_a_margin_the_lowest_go_not_those_next_to_zero(world: World):
    pairs = some(world, 4)
    scores = score(pairs, "ensemble_margin", [-3.0, -0.01, 0.01, 3.0])
    after, _ = flip(pairs, scores, score="ensemble_margin", share=0.25)
    assert (after["chosen_id"] == pairs["rejected_id"]).to_list() == [True, False, False, False]
    assert after["margin"][0] == 3.0
    assert after["soft_label"][0] == pytest.approx(1 / (1 + np.exp(-3)))


def test_pairs_without_the_score_stay(world: World):
    pairs = some(world)
    after, _ = flip(pairs, score(Pairs(pairs.head(2)), "label_error", [0.9, 0.8]), above=0.5)
    assert after[2:].equals(pairs[2:])


def test_row_order_changes_nothing(world: World, shuffled: Callable[..., pl.DataFrame]):
    pairs = some(world)
    scores = score(pairs, "label_error", [0.5, 0.5, 0.5, 0.1, 0.2, 0.3])
    one, _ = flip(pairs, scores, share=0.34)
    other, _ = flip(Pairs(shuffled(pairs, 1)), Scores(shuffled(scores, 2)), share=0.34)
    assert one.sort("pair_id").equals(other.sort("pair_id"))


def test_what_cannot_be_meant_is_refused(world: World):
    pairs = some(world, 2)
    scores = both(
        score(pairs, "head_margin", [1.0, 2.0], "head:0"),
        score(pairs, "head_margin", [1.0, 2.0], "head:1"),
        score(pairs, "ches", [1.0, 2.0]),
    )
    with pytest.raises(RecipeError, match="either share or above"):
        flip(pairs, scores, score="head_margin@head:0")
    with pytest.raises(RecipeError, match="head:0, head:1"):
        flip(pairs, scores, score="head_margin", above=0)
    with pytest.raises(RecipeError, match="says nothing about labels"):
        flip(pairs, scores, score="ches", above=0)
    with pytest.raises(RecipeError, match="no pair has a score 'label_error'"):
        flip(pairs, scores, above=0.5)
