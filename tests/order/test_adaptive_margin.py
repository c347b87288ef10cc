"""Margins by strength keep their sign, and turn with the pair."""

from collections.abc import Callable

import polars as pl
import pytest

from prefdata.errors import RecipeError
from prefdata.order.adaptive_margin import adaptive_margin
from prefdata.pair.flip import flip
from tests.pair.planted import score, some, value_of

World = Callable[..., dict[str, pl.DataFrame]]


def test_the_margin_is_the_signed_strength_times_its_scale(world: World):
    pairs = some(world, 3)
    given = score(pairs, "ensemble_margin", [-2.0, 0.0, 3.0])
    found = adaptive_margin(pairs, given, scale=0.5)
    joined = value_of(found, "adaptive_margin").join(
        value_of(given, "ensemble_margin"), on="subject_id"
    )
    assert joined["value"].to_list() == (joined["value_right"] * 0.5).to_list()
    assert value_of(found, "ensemble_margin").height == 3


def test_after_flipping_no_flipped_pair_has_a_negative_margin(world: World):
    pairs = some(world)
    given = score(pairs, "ensemble_margin", [-2.0, -0.1, 3.0, 0.2, -5.0, 1.0])
    turned, after = flip(pairs, given, score="ensemble_margin", above=0.0)
    margins = value_of(adaptive_margin(turned, after), "adaptive_margin")["value"]
    assert (margins >= 0).all()


def test_a_probability_is_no_margin(world: World):
    pairs = some(world, 2)
    with pytest.raises(RecipeError, match="is a probability"):
        adaptive_margin(pairs, score(pairs, "label_error", [0.1, 0.2]), score="label_error")
    with pytest.raises(RecipeError, match="scale = 0"):
        adaptive_margin(pairs, score(pairs, "ensemble_margin", [0.1, 0.2]), scale=0)


def test_again_replaces_what_was_there(world: World):
    pairs = some(world, 2)
    once = adaptive_margin(pairs, score(pairs, "ensemble_margin", [1.0, 2.0]))
    again = adaptive_margin(pairs, once, scale=2.0)
    assert sorted(value_of(again, "adaptive_margin")["value"]) == [2.0, 4.0]
