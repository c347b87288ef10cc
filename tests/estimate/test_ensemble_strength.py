"""Strengths of labels: low where the label is wrong, and only if pairs are held out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata.errors import RecipeError
from prefdata.estimate._evidence import gather
from prefdata.estimate._held_out import fit_ridge
from prefdata.estimate.ensemble_strength import ensemble_strength
from prefdata.stage import Model, drive
from prefdata.tables import Scores
from tests.estimate.conftest import Planted

EMBEDS = Model("embeds", identity="planted")


def run(world: Planted, **options: Any) -> Scores:
    options = {"model": EMBEDS, **options}
    given = (world.pairs, world.prompts, world.completions)
    return drive(ensemble_strength(*given, **options), world.ask)


def of(scores: pl.DataFrame, name: str) -> pl.DataFrame:
    return scores.filter(pl.col("score") == name).select("subject_id", "value", "stderr", "model")


def test_the_lowest_fifth_are_the_flipped_fifth(world_of_pairs: Callable[..., Planted]):
    world = world_of_pairs(2500)
    scores = run(world)
    margins = of(scores, "ensemble_margin").join(
        world.truth, left_on="subject_id", right_on="pair_id"
    )
    truth = margins["flipped"].to_numpy()
    lowest = margins["value"].to_numpy().argsort()[: int(0.2 * len(truth))]
    assert truth[lowest].mean() >= 0.85  # precision of what would be flipped
    left = truth.sum() - truth[lowest].sum() + (~truth[lowest]).sum()
    assert left / len(truth) <= truth.mean() / 3
    assert abs((margins["value"] < 0).mean() - truth.mean()) < 0.06
    deciles = of(scores, "ensemble_decile").join(
        world.truth, left_on="subject_id", right_on="pair_id"
    )
    by_decile = deciles.group_by("value").agg(pl.mean("flipped")).sort("value")["flipped"]
    assert by_decile[0] > 0.9
    assert by_decile[9] < 0.02


def test_in_sample_strengths_would_call_every_label_right(world_of_pairs: Callable[..., Planted]):
    world = world_of_pairs(400, width=400, n_prompts=150, seed=1)
    seen = drive(
        gather(
            world.pairs, world.prompts, world.completions, None, None,
            model=EMBEDS, with_prompt=False, margins=(), annotators=(), texts="none",
        ),
        world.ask,
    )  # fmt: skip
    d = seen.x * seen.sign[:, None]
    in_sample = d @ fit_ridge(d, np.full(d.shape[1], 1e-6), np.zeros(d.shape[1]))
    assert (in_sample > 0).all()
    margins = of(run(world), "ensemble_margin")["value"]
    assert (margins < 0).mean() > 0.15


def test_heads_differ_and_their_mean_and_spread_are_what_is_said(
    world_of_pairs: Callable[..., Planted],
):
    scores = run(world_of_pairs(500, seed=2), keep_heads=True, n_heads=4)
    heads = of(scores, "head_margin")
    assert heads["model"].n_unique() == 4
    by_pair = heads.group_by("subject_id").agg(
        mean=pl.col("value").mean(), spread=pl.col("value").std(ddof=0)
    )
    both = by_pair.join(of(scores, "ensemble_margin"), on="subject_id")
    assert np.allclose(both["mean"], both["value"])
    assert np.allclose(both["spread"], both["stderr"])
    assert (both["spread"] > 0).all()  # one head called several times would have none
    said = both.join(of(scores, "ensemble_spread"), on="subject_id", suffix="_said")
    assert np.allclose(said["spread"], said["value_said"])


def test_the_same_seed_gives_the_same_and_another_nearly(world_of_pairs: Callable[..., Planted]):
    world = world_of_pairs(500, seed=3)
    one, again, other = run(world), run(world), run(world, seed=1)
    assert one.equals(again)
    margins = [of(each, "ensemble_margin")["value"].to_numpy() for each in (one, other)]
    assert np.corrcoef(*margins)[0, 1] > 0.8


def test_one_head_is_no_ensemble(world_of_pairs: Callable[..., Planted]):
    with pytest.raises(RecipeError, match="n_heads = 1"):
        run(world_of_pairs(10), n_heads=1)
