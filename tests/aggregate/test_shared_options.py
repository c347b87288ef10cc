"""What all aggregates take: criteria, weights and a result's name do what they say of each."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.bradley_terry import bradley_terry
from prefdata.aggregate.crowd_bt import crowd_bt
from prefdata.aggregate.davidson import davidson
from prefdata.aggregate.dawid_skene import dawid_skene
from prefdata.aggregate.glad import glad
from prefdata.aggregate.mace import mace
from prefdata.aggregate.majority_vote import majority_vote
from prefdata.aggregate.plackett_luce import plackett_luce
from prefdata.aggregate.rank_centrality import rank_centrality
from prefdata.aggregate.rao_kupper import rao_kupper
from prefdata.aggregate.reliability import reliability
from prefdata.aggregate.social_choice import social_choice
from prefdata.aggregate.zermelo_soft_labels import zermelo_soft_labels
from prefdata.errors import RecipeError
from prefdata.tables import Rankings, Votes
from tests.aggregate.planted import mixed, voted_world

COUNTING = [
    bradley_terry, crowd_bt, davidson, dawid_skene, glad, mace, majority_vote, plackett_luce,
    rank_centrality, rao_kupper, zermelo_soft_labels,
]  # fmt: skip
# A vote of more weight is no more repeatable, and a person's criteria are averaged, not added.
AVERAGING = [reliability, social_choice]


def borda(method: Any) -> dict[str, Any]:
    return {"rule": "borda"} if method is social_choice else {}


def rankings_of(criterion: str, seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    names = [f"c{k}" for k in range(5)]
    frame = pl.DataFrame(
        {
            "prompt_id": "p",
            "annotator": [f"human:{k}" for k in range(8)],
            "ranking": [list(draw.permutation(names)) for _ in range(8)],
            "ranks": [[1, 2, 2, 4, 5], [1, 2, 3, 4, 5]] * 4,
        }
    )
    frame = frame.with_columns(criterion=pl.lit(criterion), draw=pl.lit(0))
    return tables.typed(Rankings, frame)


def votes_of(criterion: str, seed: int) -> pl.DataFrame:
    votes = voted_world(seed, n=40, n_annotators=6, each=4)[3]
    return mixed(votes).with_columns(criterion=pl.lit(criterion))


def world(method: Any) -> list[pl.DataFrame]:
    """Votes or rankings of the same completions on two criteria."""
    given = rankings_of if method is plackett_luce else votes_of
    return [given("quality", 0), given("brevity", 1)]


def check_same(one: Any, other: Any) -> None:
    for name, mine, its in zip(("strengths", "scores"), one, other, strict=False):
        tables_of = [tables.check(name, made, where="test") for made in (mine, its)]
        assert tables_of[0].height > 0
        texts, numbers = pl.col(pl.String), pl.col(pl.Float64)
        assert tables_of[0].select(texts).equals(tables_of[1].select(texts))
        values = [made.select(numbers).to_numpy() for made in tables_of]
        assert np.allclose(*values, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("method", [*COUNTING, *AVERAGING])
def test_only_the_wanted_criteria_count(method: Any):
    both = world(method)
    made = method(pl.concat(both), criteria=["brevity"], **borda(method))
    check_same(made, method(both[1], **borda(method)))
    for wrong in (["wit"], []):
        with pytest.raises(RecipeError, match=r"wit|criteria"):
            method(pl.concat(both), criteria=wrong, **borda(method))


@pytest.mark.parametrize("method", COUNTING)
def test_a_weight_of_two_is_every_vote_twice(method: Any):
    quality, brevity = world(method)
    again = brevity.with_columns(pl.col("draw") + 100)
    made = method(pl.concat([quality, brevity]), weights={"brevity": 2})
    check_same(made, method(pl.concat([quality, brevity, again])))


@pytest.mark.parametrize("method", [*COUNTING, *AVERAGING])
def test_a_weight_of_nothing_or_of_no_criterion_is_refused(method: Any):
    both = pl.concat(world(method))
    with pytest.raises(RecipeError, match="weight of criterion 'brevity' is 0"):
        method(both, weights={"brevity": 0}, **borda(method))
    with pytest.raises(RecipeError, match="'wit' is on no row"):
        method(both, weights={"wit": 2}, **borda(method))


@pytest.mark.parametrize("method", [*COUNTING, *AVERAGING])
def test_a_result_has_the_name_that_it_was_given_and_nothing_else_changes(method: Any):
    given, options = world(method)[0], borda(method)
    named = method(Votes(given), estimator="mine", **options)
    assert named[0]["estimator"].unique().to_list() == ["mine"]
    assert named[1]["model"].str.starts_with("mine").all()
    own = options.get("rule", method.__name__)
    back = pl.col(pl.String).str.replace(r"^(rule:)?mine\b", f"${{1}}{own}")
    check_same([made.with_columns(back) for made in named[:2]], method(given, **options))
