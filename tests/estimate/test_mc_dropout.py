"""A second opinion by dropout: it cleans planted noise, knows no places, says how sure it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.estimate.mc_dropout import Network, fit_passes, mc_dropout, summarise
from prefdata.select.label_error import label_error
from prefdata.stage import Model, drive
from prefdata.tables import Scores, Votes
from tests.estimate.conftest import Planted, area_under_roc

EMBEDS = Model("embeds", identity="planted")


def trusted_votes(world: Planted, share: float, seed: int = 0) -> Votes:
    """Right votes on a share of the pairs."""
    picked = np.random.default_rng(seed).random(world.pairs.height) < share
    rows = world.pairs.join(world.truth, on="pair_id", maintain_order="left")
    a = pl.min_horizontal("chosen_id", "rejected_id")
    better = pl.when(pl.col("true_margin") > 0).then("chosen_id").otherwise("rejected_id")
    votes = rows.filter(pl.Series(picked)).select(
        "prompt_id",
        completion_a=a,
        completion_b=pl.max_horizontal("chosen_id", "rejected_id"),
        annotator=pl.lit("human:expert"),
        criterion=pl.lit("all"),
        draw=pl.lit(0),
        preference=(better == a).cast(pl.Float64),
    )
    return t.typed(Votes, votes)


def run(world: Planted, votes: Votes, **options: Any) -> Scores:
    options = {"model": EMBEDS, "trusted": "human:*", "passes": 10, **options}
    given = (world.pairs, world.prompts, world.completions, votes)
    return drive(mc_dropout(*given, **options), world.ask)


def of(scores: pl.DataFrame, name: str) -> pl.DataFrame:
    named = scores.filter(pl.col("score") == name)
    return named.select(pair_id="subject_id", **{name: "value"})


def test_labels_that_most_passes_oppose_are_the_noise(world_of_pairs: Callable[..., Planted]):
    world = world_of_pairs(6000, n_prompts=600)
    scores = run(world, trusted_votes(world, 0.5))
    kept = label_error(world.pairs, scores, score="mc_dropout", above=-0.5)
    left = kept.join(world.truth, on="pair_id")
    assert left["flipped"].mean() < 0.25 * world.truth["flipped"].mean()
    assert 0.7 < kept.height / world.pairs.height < 0.85
    rest = left.join(of(scores, "bald"), on="pair_id").join(of(scores, "mc_dropout"), on="pair_id")
    truth = rest["flipped"].to_numpy()
    assert area_under_roc(truth, rest["bald"].to_numpy()) > 0.75
    assert area_under_roc(truth, 1 - rest["mc_dropout"].to_numpy()) > 0.75


def test_an_estimator_of_the_same_labels_would_agree_with_their_noise(
    world_of_pairs: Callable[..., Planted],
):
    """Its labels' noise is what it is taught: it finds less than one taught by others."""
    world = world_of_pairs(1500, n_prompts=150, width=64, seed=1)
    right = trusted_votes(world, 1.0)
    of_label = world.pairs.select(
        completion_a=pl.min_horizontal("chosen_id", "rejected_id"),
        completion_b=pl.max_horizontal("chosen_id", "rejected_id"),
        said=(pl.col("chosen_id") < pl.col("rejected_id")).cast(pl.Float64),
    )
    same = right.join(of_label, on=["completion_a", "completion_b"]).with_columns(preference="said")
    noise = {}
    for name, votes in (("others", right), ("itself", t.typed(Votes, same.drop("said")))):
        found = world.truth.join(of(run(world, votes), "mc_dropout"), on="pair_id")
        noise[name] = found.filter(pl.col("mc_dropout") > 0.5)["flipped"].mean()
    assert noise["others"] < 0.5 * noise["itself"]


def test_swapping_a_and_b_mirrors_every_pass():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 200, 8))
    x, mirrored = np.hstack([a, b, a - b]), np.hstack([b, a, b - a])
    y = (a[:, 0] > b[:, 0]).astype(float)
    groups = np.arange(200) % 20
    settings: dict[str, Any] = {"passes": 4, "dropout": 0.1, "n_folds": 2, "seed": 3}
    z = fit_passes(x, mirrored, y, groups, **settings)
    both = fit_passes(
        np.vstack([x, mirrored]), np.vstack([mirrored, x]), np.r_[y, 1 - y],
        np.r_[groups, groups], **settings,
    )  # fmt: skip
    assert np.abs(both[:, :200] + both[:, 200:]).max() < 1e-9
    assert z.std(0).mean() > 0.01  # dropout stays on while asking


def test_bald_is_the_mutual_information_and_not_the_variance():
    sure_but_split = np.array([[0.0, 0.5], [1.0, 0.5]])
    told = summarise(sure_but_split)
    assert told.bald == pytest.approx([np.log(2), 0.0])
    assert told.mean == pytest.approx([0.5, 0.5])
    many = np.random.default_rng(0).random((30, 500))
    bald = summarise(many).bald
    assert (bald >= 0).all()
    assert (bald <= np.log(2)).all()
    assert np.abs(bald - many.var(0)).max() > 0.02


def test_gradients_are_those_of_finite_differences():
    draw = np.random.default_rng(0)
    network = Network(5, 0.2, draw)
    x, y, silent = draw.normal(size=(7, 5)), draw.random(7), network.silent(draw, 7)

    def loss() -> float:
        z = network.log_odds(x, silent)
        return float((np.logaddexp(0, z) - y * z).mean())

    for weight, gradient in zip(network.weights, network.gradients(x, y, silent), strict=True):
        at = tuple(0 for _ in weight.shape)
        before = weight[at]
        weight[at] = before + 1e-6
        above = loss()
        weight[at] = before - 1e-6
        below = loss()
        weight[at] = before
        assert gradient[at] == pytest.approx((above - below) / 2e-6, abs=1e-6)


def test_a_pair_is_judged_by_networks_of_other_groups(world_of_pairs: Callable[..., Planted]):
    """Turning round the trusted votes of one prompt does not change what is said of its pairs."""
    world = world_of_pairs(600, n_prompts=60, seed=2)
    votes = trusted_votes(world, 1.0)
    prompt = world.pairs["prompt_id"][0]
    turned = votes.with_columns(
        preference=pl.when(pl.col("prompt_id") == prompt)
        .then(1 - pl.col("preference"))
        .otherwise("preference")
    )
    own = world.pairs.filter(pl.col("prompt_id") == prompt)["pair_id"].implode()
    one, other = (
        of(run(world, each), "mc_dropout").filter(pl.col("pair_id").is_in(own)).sort("pair_id")
        for each in (votes, Votes(turned))
    )
    assert one.equals(other)


def test_the_order_of_rows_changes_nothing(
    world_of_pairs: Callable[..., Planted], shuffled: Callable[..., Any]
):
    world = world_of_pairs(300, n_prompts=30, seed=3)
    votes = trusted_votes(world, 0.5)
    mixed = replace(
        world,
        prompts=shuffled(world.prompts, 1),
        completions=shuffled(world.completions, 2),
        pairs=shuffled(world.pairs, 3),
    )
    key = ["score", "subject_id"]
    assert run(world, votes).sort(key).equals(run(mixed, Votes(shuffled(votes, 4))).sort(key))


def test_failed_vectors_and_too_few_groups_leave_pairs_without_a_score(
    world_of_pairs: Callable[..., Planted],
):
    world = world_of_pairs(40, n_prompts=1)
    assert run(world, trusted_votes(world, 1.0)).is_empty()

    def fails(requests: pl.DataFrame) -> Any:
        failed = requests.select("request_id", error=pl.lit("boom"))
        return t.typed(t.Responses, failed.with_columns(tokens_in=0, tokens_out=0))

    assert run(replace(world, ask=fails), trusted_votes(world, 1.0)).is_empty()


def test_what_cannot_be_meant_is_refused(world_of_pairs: Callable[..., Planted]):
    world = world_of_pairs(20)
    votes = trusted_votes(world, 1.0)
    with pytest.raises(RecipeError, match="no votes of 'human:exprt'"):
        run(world, votes, trusted="human:exprt")
    with pytest.raises(RecipeError, match="passes = 1"):
        run(world, votes, passes=1)
