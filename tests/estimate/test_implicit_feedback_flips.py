"""Hidden likings: their rate is found, negatives get cleaner, and nothing is lost without any."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from scipy.special import expit
from scipy.stats import spearmanr

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.estimate.implicit_feedback_flips import (
    _Problem,
    fit_implicit_feedback,
    hidden,
    implicit_feedback_flips,
)
from prefdata.tables import Pairs, Ratings
from tests.estimate.conftest import area_under_roc

Bools = NDArray[np.bool_]


class World(NamedTuple):
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    liked: Bools
    voted: Bools


def planted(
    n_users: int, n_items: int, *, rank: int = 4, flips: float = 0.3, seed: int = 0
) -> World:
    """Likings of low rank; a share of them is not voted for."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n_users, rank)) @ draw.normal(size=(rank, n_items))
    liked = draw.random(z.shape) < expit(4 * z / z.std() - 1)
    voted = liked & (draw.random(z.shape) >= flips)
    users, items = np.indices(z.shape).reshape(2, -1)
    return World(users, items, liked.ravel(), voted.ravel())


@pytest.mark.parametrize(
    ("n_users", "n_items", "rank"),
    [(150, 120, 2), pytest.param(300, 200, 4, marks=pytest.mark.slow)],
)
def test_the_rate_is_found_and_negatives_hide_fewer_likings(n_users: int, n_items: int, rank: int):
    world = planted(n_users, n_items, rank=rank)
    fit = fit_implicit_feedback(world.users, world.items, world.voted, rank=rank)
    assert abs(fit.rate - 0.3) < 0.05
    unseen = ~world.voted
    weight = 1 - hidden(fit.z, fit.rate)[unseen]
    uniform = world.liked[unseen].mean()
    weighed = (weight * world.liked[unseen]).sum() / weight.sum()
    assert weighed <= 0.6 * uniform
    plain = fit_implicit_feedback(world.users, world.items, world.voted, rank=rank, rate=0.0)
    assert area_under_roc(world.liked, fit.z) > area_under_roc(world.liked, plain.z) + 0.003


def test_without_hidden_likings_the_rate_is_next_to_0_and_the_order_the_plain_one():
    world = planted(120, 100, flips=0.0, seed=1)
    fit = fit_implicit_feedback(world.users, world.items, world.voted)
    plain = fit_implicit_feedback(world.users, world.items, world.voted, rate=0.0)
    assert fit.rate < 0.05
    assert spearmanr(fit.z, plain.z).statistic > 0.98


def test_the_gradient_is_that_of_finite_differences():
    world = planted(6, 5, seed=2)
    problem = _Problem(world.users, world.items, world.voted, (6, 5, 2), 0.3, None)
    x = np.random.default_rng(0).normal(size=11 * 2 + 11 + 2)
    numeric = approx_fprime(x, lambda at: problem(at)[0], 1e-7)
    assert np.allclose(problem(x)[1], numeric, atol=1e-4)


def table(world: World) -> Ratings:
    frame = pl.DataFrame(
        {
            "completion_id": [f"c{at:03}" for at in world.items],
            "annotator": [f"human:{(7 * at) % 31}" for at in world.users],
            "criterion": "vote",
            "draw": 0,
            "prompt_id": [f"p{at:03}" for at in world.items],
            "rating": world.voted.astype(float),
        }
    )
    return t.typed(Ratings, frame)


def small() -> Ratings:
    return table(planted(30, 40, seed=3))


def test_what_was_voted_for_was_liked_and_the_rest_is_a_probability():
    ratings = small()
    after, _, measures = implicit_feedback_flips(ratings)
    made = after.filter(pl.col("annotator").str.starts_with("rule:"))
    assert made.height == ratings.height
    assert after.filter(pl.col("annotator").str.starts_with("human:")).equals(ratings)
    user = pl.concat_str(pl.lit("human:"), pl.col("annotator").str.split("/").list.last())
    both = made.with_columns(annotator=user).join(
        ratings.select("completion_id", "annotator", voted="rating"),
        on=["completion_id", "annotator"],
    )
    assert (both.filter(pl.col("voted") == 1)["rating"] == 1).all()
    rest = both.filter(pl.col("voted") == 0)["rating"]
    assert rest.is_between(0, 1).all()
    assert rest.max() < 1  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    assert measures["subject"].to_list() == ["implicit feedback"]


def test_a_pair_of_the_user_is_doubted_as_far_as_its_rejected_side_was_liked():
    ratings = small()
    user = ratings["annotator"][0]
    own = ratings.filter(pl.col("annotator") == user)
    chosen = own.filter(pl.col("rating") == 1)["completion_id"][0]
    rejected = own.filter(pl.col("rating") == 0)["completion_id"][0]
    rows = {"chosen_id": [chosen], "rejected_id": [rejected], "soft_label": 1.0, "n_votes": 1}
    pairs = pl.DataFrame(rows).with_columns(
        t.pair_ids([chosen], [rejected], user), annotator=pl.lit(user)
    )
    after, scores, _ = implicit_feedback_flips(ratings, t.typed(Pairs, pairs))
    name = f"rule:implicit_feedback_flips/{user.removeprefix('human:')}"
    said = after.filter(pl.col("annotator") == name, pl.col("completion_id") == rejected)
    assert scores["value"].to_list() == pytest.approx(said["rating"].to_list(), abs=1e-9)
    assert scores["score"].to_list() == ["implicit_flip"]


def test_the_order_of_rows_changes_nothing(shuffled: Any):
    ratings = small()
    one, _, rate = implicit_feedback_flips(ratings)
    other, _, again = implicit_feedback_flips(shuffled(ratings, 5))
    assert one.equals(other)
    assert rate.equals(again)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(RecipeError, match="rank = 0"):
        implicit_feedback_flips(small(), rank=0)
    nobody = Ratings(small().clear())
    after, scores, measures = implicit_feedback_flips(nobody)
    assert after.is_empty()
    assert scores.is_empty()
    assert measures.is_empty()
