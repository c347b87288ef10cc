"""Smoothing moves a label towards 1/2 by its flip rate, and never past it."""

from collections.abc import Callable

import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.order.soften import soften as soften_and_tell
from prefdata.tables import Measures, Pairs
from tests.pair.planted import score, some

World = Callable[..., dict[str, pl.DataFrame]]


def soften(*given: object, **options: object) -> Pairs:
    return soften_and_tell(*given, **options)[0]  # pyright: ignore[reportArgumentType]


def hard(world: World) -> Pairs:
    return Pairs(some(world).with_columns(soft_label=pl.lit(1.0)))


def measure(value: float | None, subject: str = "margins") -> Measures:
    row = {"measure": "flip_rate", "subject": subject, "value": value, "n": 5}
    ends = {"low": 0.1, "high": 0.2}
    return t.typed(Measures, pl.DataFrame([row | ends], schema_overrides={"value": pl.Float64}))


def test_a_hard_label_becomes_the_probability_that_it_is_right(world: World):
    pairs = hard(world)
    assert soften(pairs, rate=0.1)["soft_label"].to_list() == pytest.approx([0.9] * 6)
    softened = soften(
        pairs, score(pairs, "label_error", [0.0, 0.1, 0.2, 0.5, 0.7, 1.0]), score="label_error"
    )
    assert softened["soft_label"].to_list() == pytest.approx([1, 0.9, 0.8, 0.5, 0.5, 0.5])


def test_a_soft_label_is_flipped_with_the_rate(world: World):
    pairs = Pairs(some(world).with_columns(soft_label=pl.lit(0.8)))
    expected = 0.9 * 0.8 + 0.1 * 0.2
    assert soften(pairs, rate=0.1)["soft_label"].to_list() == pytest.approx([expected] * 6)


def test_a_half_stays_a_half_and_no_flips_change_nothing(world: World):
    pairs = Pairs(some(world).with_columns(soft_label=pl.lit(0.5)))
    assert soften(pairs, rate=0.3).equals(pairs)
    assert soften(hard(world), rate=0.0).equals(hard(world))


def test_two_flips_compose(world: World):
    twice = soften(soften(hard(world), rate=0.1), rate=0.2)["soft_label"][0]
    assert twice == pytest.approx(1 - (0.1 * 0.8 + 0.2 * 0.9))


def test_the_rate_may_be_one_that_was_measured(world: World):
    pairs = hard(world)
    by_measure = soften(pairs, measures=measure(0.15), of="margins")
    assert by_measure.equals(soften(pairs, rate=0.15))
    assert soften(pairs, measures=measure(None), of="margins").equals(pairs)
    with pytest.raises(RecipeError, match="no flip_rate of 'gold: x'"):
        soften(pairs, measures=measure(0.15), of="gold: x")


def test_only_the_label_changes(world: World):
    pairs = hard(world)
    assert soften(pairs, rate=0.2).drop("soft_label").equals(pairs.drop("soft_label"))


@pytest.mark.parametrize(
    "options", [{}, {"rate": 0.1, "of": "margins"}, {"rate": 0.5}, {"rate": -0.1}]
)
def test_what_cannot_be_meant_is_refused(world: World, options: dict[str, object]):
    with pytest.raises(RecipeError, match="rate"):
        soften(hard(world), measures=measure(0.1), **options)  # pyright: ignore[reportArgumentType]


def test_a_margin_is_no_rate(world: World):
    pairs = hard(world)
    with pytest.raises(RecipeError, match="is a difference"):
        soften(pairs, score(pairs, "ensemble_margin", [1.0] * 6), score="ensemble_margin")


def test_the_smoothing_is_told_with_the_interval_of_the_rate(world: World):
    _, told = soften_and_tell(hard(world), measures=measure(0.15), of="margins")
    assert told.filter(measure="flip_rate").height == 1  # what was there stays
    (row,) = told.filter(measure="label_smoothing").to_dicts()
    assert row["subject"] == "order.soften"
    assert (row["value"], row["low"], row["high"], row["n"]) == (0.15, 0.1, 0.2, 6)
    assert row["note"] == "by flip_rate margins"


def test_the_smoothing_by_pair_is_told_as_its_mean_and_range(world: World):
    pairs = hard(world)
    scores = score(Pairs(pairs.head(4)), "label_error", [0.0, 0.1, 0.2, 0.5])
    softened, told = soften_and_tell(pairs, scores, score="label_error")
    (row,) = told.to_dicts()
    assert row["value"] == pytest.approx((1 - softened["soft_label"].head(4)).mean())
    assert (row["low"], row["high"], row["n"]) == (None, None, 4)
    assert row["note"] == "by score label_error; 0 to 0.5 by pair; 2 pairs without a rate"


def test_no_rate_is_told_as_no_smoothing(world: World):
    _, told = soften_and_tell(hard(world), measures=measure(None), of="margins")
    (row,) = told.filter(measure="label_smoothing").to_dicts()
    assert (row["value"], row["n"]) == (None, 0)


def test_labels_are_softened_once(world: World):
    pairs, told = soften_and_tell(hard(world), rate=0.1)
    with pytest.raises(RecipeError, match="softened already"):
        soften(pairs, measures=told, rate=0.1)
