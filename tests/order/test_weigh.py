"""Weights say how much a label tells: those of the formulas, of mean 1, and exported."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.export.binary import binary
from prefdata.export.pairwise import pairwise
from prefdata.order.weigh import weigh
from prefdata.tables import Completions, Pairs, Prompts
from tests.pair.planted import both, score, some

World = Callable[..., dict[str, pl.DataFrame]]


def weights(pairs: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    return pairs.sort("pair_id")["weight"].cast(pl.Float64).to_numpy()


def ratios(pairs: Pairs, told: list[float], *given: Any, **options: Any) -> None:
    """Weights in the ratios of what labels tell, and of mean 1."""
    made = weigh(pairs, *given, **options)
    t.check("pairs", made, where="test")
    assert made["weight"].to_list() == pytest.approx(np.array(told) / np.mean(told), abs=1e-8)
    assert made.drop("weight").equals(pairs.drop("weight"))


def test_a_label_that_may_be_wrong_counts_as_far_as_it_is_no_coin(world: World):
    pairs = some(world, 4)
    errors = [0.0, 0.1, 0.4, 0.7]
    by_error = both(score(pairs, "label_error", errors))
    ratios(pairs, [1.0, 0.8, 0.2, 0.0], by_error, by="label_error")
    by_mc = score(pairs, "mc_dropout", [1 - e for e in errors], "m")
    ratios(pairs, [1.0, 0.8, 0.2, 0.0], by_mc, by="mc_dropout@m")
    soft = Pairs(pairs.with_columns(soft_label=pl.Series([1.0, 0.9, 0.6, 0.5])))
    ratios(soft, [1.0, 0.8, 0.2, 0.0], by="soft_label")


def test_a_stronger_preference_counts_as_often_as_it_is_strong(world: World):
    pairs = Pairs(some(world, 3).with_columns(margin=pl.Series([1.0, 2.0, 3.0])))
    ratios(pairs, [1.0, 2.0, 3.0], by="margin")


def test_what_trusted_votes_could_teach_much_about_counts_less(world: World):
    pairs = some(world, 3)
    bald = score(pairs, "bald", [0.0, np.log(2) / 4, np.log(2)])
    ratios(pairs, [1.0, 0.75, 0.0], bald, by="bald")


def test_a_pair_of_which_nothing_is_known_has_no_weight(world: World):
    pairs = some(world, 3)
    made = weigh(pairs, score(pairs[:2], "label_error", [0.0, 0.25]), by="label_error")  # pyright: ignore[reportArgumentType]
    assert made["weight"].to_list() == pytest.approx([4 / 3, 2 / 3, None])
    unknown = Pairs(pairs.with_columns(margin=pl.lit(None, pl.Float64)))
    assert weigh(unknown, by="margin")["weight"].null_count() == 3


def test_again_replaces_what_was_weighed_before_and_row_order_changes_nothing(
    world: World, shuffled: Callable[..., Any]
):
    pairs = some(world)
    scores = score(pairs, "label_error", [0.1, 0.2, 0.3, 0.0, 0.4, 0.45])
    once = weigh(pairs, scores, by="label_error")
    assert weigh(weigh(pairs, by="margin"), scores, by="label_error").equals(once)
    mixed = weigh(shuffled(pairs, 1), shuffled(scores, 2), by="label_error")
    assert mixed.sort("pair_id").equals(once.sort("pair_id"))


def test_labels_of_mixed_noise_teach_more_by_weight():
    """A direction is learnt from labels of which half are nearly coins; weighed, it is nearer."""
    away = {True: [], False: []}
    for seed in range(20):
        draw = np.random.default_rng(seed)
        x, truth = draw.normal(size=(400, 5)), draw.normal(size=5)
        rate = np.where(np.arange(400) < 200, 0.02, 0.45)
        sign = np.where((draw.random(400) < expit(x @ truth)) ^ (draw.random(400) < rate), 1, -1)
        pairs = pl.DataFrame({"pair_id": [f"{at:03}" for at in range(400)]}).with_columns(
            chosen_id=pl.lit("x"), rejected_id=pl.lit("y"), soft_label=pl.Series(1 - rate),
            n_votes=1,
        )  # fmt: skip
        made = weigh(t.typed(Pairs, pairs), by="soft_label")
        for weighed, found in away.items():
            w = weights(made) if weighed else np.ones(400)
            u = np.zeros(5)
            for _ in range(300):
                u += (w * sign * expit(-sign * (x @ u))) @ x / len(x)
            found.append(u @ truth / np.linalg.norm(u) / np.linalg.norm(truth))
    assert np.mean(away[True]) > np.mean(away[False]) + 0.02


def test_exports_carry_the_weights(world: World):
    made = world()
    weighed = weigh(Pairs(made["pairs"]), by="soft_label")
    prompts, completions = Prompts(made["prompts"]), Completions(made["completions"])
    rows = pairwise(prompts, completions, weighed)
    assert np.allclose(weights(rows), weights(weighed))
    by_completion = binary(prompts, completions, weighed)
    one = by_completion.row(0, named=True)
    of = weighed.filter((pl.col("chosen_id") == one["completion_id"])
                        | (pl.col("rejected_id") == one["completion_id"]))  # fmt: skip
    assert of.height > 1
    assert one["weight"] == pytest.approx(of["weight"].mean())


def test_what_is_no_measure_of_a_label_is_refused(world: World):
    pairs = some(world, 2)
    with pytest.raises(RecipeError, match="no stage before made scores"):
        weigh(pairs, by="label_error")
    with pytest.raises(RecipeError, match="is a difference"):
        weigh(pairs, score(pairs, "ensemble_margin", [1.0, 2.0]), by="ensemble_margin")
    with pytest.raises(RecipeError, match="says nothing about labels"):
        weigh(pairs, score(pairs, "ches", [1.0, 2.0]), by="ches")
