"""Signed weights: those of the formula, unbiased, and not those of label smoothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.order.robust_weights import robust_weights as weigh_and_tell
from prefdata.tables import Measures, Scores
from tests.pair.planted import both, score, some

World = Callable[..., dict[str, pl.DataFrame]]


def robust_weights(*given: Any, **options: Any) -> Scores:
    return weigh_and_tell(*given, **options)[0]


def weights(scores: pl.DataFrame) -> tuple[list[float], list[float]]:
    def of(name: str) -> list[float]:
        return scores.filter(pl.col("score") == name).sort("subject_id")["value"].to_list()

    return of("robust_weight"), of("robust_weight_flipped")


@pytest.mark.parametrize(
    ("rate", "kept", "flipped"),
    [(0.0, 1.0, 0.0), (0.1, 1.125, -0.125), (0.2, 4 / 3, -1 / 3), (0.4, 3.0, -2.0)],
)
def test_the_weights_of_known_rates(world: World, rate: float, kept: float, flipped: float):
    found = weights(robust_weights(some(world, 1), rate=rate))
    assert found == ([pytest.approx(kept)], [pytest.approx(flipped)])


@pytest.mark.parametrize("margin", [-2.0, 0.3, 4.0])
def test_over_flips_the_loss_is_that_of_clean_labels_and_clipping_would_bias_it(
    world: World, margin: float
):
    rate = 0.3
    (kept,), (flipped,) = weights(robust_weights(some(world, 1), rate=rate))

    def loss(h: float) -> float:
        return float(np.logaddexp(0, -h))

    def weighted(h: float, w: float) -> float:
        return kept * loss(h) + w * loss(-h)

    expected = (1 - rate) * weighted(margin, flipped) + rate * weighted(-margin, flipped)
    assert expected == pytest.approx(loss(margin))
    clipped = (1 - rate) * weighted(margin, 0.0) + rate * weighted(-margin, 0.0)
    assert abs(clipped - loss(margin)) > 0.1
    smoothed = [(1 - rate) * loss(h) + rate * loss(-h) for h in (margin, -margin)]
    assert abs((1 - rate) * smoothed[0] + rate * smoothed[1] - loss(margin)) > 0.05


def test_each_pair_may_have_its_own_rate_and_one_without_has_no_weight(world: World):
    pairs = some(world, 3)
    scores = score(pairs[:2], "label_error", [0.1, 0.2])  # pyright: ignore[reportArgumentType]
    found = robust_weights(pairs, scores, score="label_error")
    by_pair = found.filter(pl.col("score") == "robust_weight")
    values = dict(by_pair.select("subject_id", "value").rows())
    assert values == {
        pairs["pair_id"][0]: pytest.approx(1.125),
        pairs["pair_id"][1]: pytest.approx(4 / 3),
    }
    assert found.filter(pl.col("score") == "label_error").height == 2  # what was there stays


def test_again_replaces_what_was_weighed_before(world: World):
    pairs = some(world, 2)
    once = robust_weights(pairs, rate=0.1)
    assert weights(robust_weights(pairs, once, rate=0.2))[0] == pytest.approx([4 / 3] * 2)


@pytest.mark.parametrize("rate", [0.5, 0.7, -0.1])
def test_a_rate_without_weights_is_refused(world: World, rate: float):
    with pytest.raises(RecipeError, match="flip rate is in"):
        robust_weights(some(world, 1), rate=rate)


def test_a_pair_rather_flipped_than_not_is_refused_by_name(world: World):
    pairs = some(world, 2)
    with pytest.raises(RecipeError, match="1 pairs are flipped at a rate of 1/2 or more"):
        robust_weights(pairs, score(pairs, "label_error", [0.1, 0.6]), score="label_error")


def test_the_rate_may_be_one_that_was_measured(world: World):
    pairs = some(world, 2)
    row = {"measure": "flip_rate", "subject": "gold: pairs", "value": 0.2, "n": 9}
    told = t.typed(Measures, pl.DataFrame([row]))
    by_measure = robust_weights(pairs, None, told, of="gold: pairs")
    assert by_measure.equals(robust_weights(pairs, rate=0.2))


def test_row_order_changes_nothing(world: World, shuffled: Callable[..., Any]):
    pairs = some(world)
    scores = both(score(pairs, "label_error", [0.1, 0.2, 0.3, 0.0, 0.4, 0.45]))
    one = robust_weights(pairs, scores, score="label_error")
    other = robust_weights(shuffled(pairs, 1), Scores(shuffled(scores, 2)), score="label_error")
    key = ["subject_id", "score"]
    assert one.sort(key).equals(other.sort(key))


def test_the_rate_is_told_and_again_the_last_one(world: World):
    pairs = some(world, 2)
    scores, told = weigh_and_tell(pairs, rate=0.1)
    _, told = weigh_and_tell(pairs, scores, told, rate=0.2)
    (row,) = told.to_dicts()
    assert (row["measure"], row["subject"]) == ("label_smoothing", "order.robust_weights")
    assert (row["value"], row["n"], row["note"]) == (0.2, 2, "by rate 0.2")
