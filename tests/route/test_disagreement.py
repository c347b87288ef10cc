"""Rows on which annotators, or one annotator's two orders, disagree."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.route.disagreement import disagreement
from prefdata.tables import Votes
from tests.route.planted import said

ALL = {"share": 1.0, "audit": 0.0}


def gains(votes, **options):
    made = disagreement(votes, budget=ALL, **options)
    return dict(made.select(pl.col("completion_a").str.head(6).cast(pl.Int64), "gain").rows())


def test_the_gain_is_the_share_of_pairs_of_annotators_that_say_something_else():
    votes = said(
        {
            "llm:one": [1, 1, 1, 0.5, 1],
            "llm:two": [1, 1, 0.5, 0.5, None],
            "llm:three": [1, 0, 0, 0.5, None],
            "llm:four": [1, 0, 0.9, 0.5, None],
            "human:u": [None, None, None, None, None],
        }
    )
    assert gains(votes) == pytest.approx({0: 0, 1: 4 / 6, 2: 5 / 6, 3: 0, 4: 0})


def test_exactly_one_contested_row_comes_first():
    """Sheet's own check: of heads of which one pair is contested, the sampler returns it."""
    votes = said({f"llm:{name}": [0, 1, 1, 0] for name in "abc"} | {"llm:d": [0, 1, 0, 0]})
    made = disagreement(votes, budget={"rows": 1, "audit": 0.0})
    assert made["completion_a"].to_list() == ["000002a"]


def both_orders(forth, back, annotator="llm:one"):
    votes = [
        said({annotator: each}, a_first=pl.lit(first))
        for each, first in ((forth, True), (back, False))
    ]
    return tables.typed(Votes, pl.concat(votes))


def test_orders_are_compared_within_an_annotator():
    votes = both_orders([1, 1, 0.5, 0.2], [1, 0, 1, 0.6])
    assert gains(votes, of="orders") == pytest.approx({0: 0, 1: 1, 2: 0.5, 3: 0.4})
    assert set(gains(votes).values()) == {0}


def test_people_votes_do_not_count_and_sides_may_be_exchanged():
    votes = said({"llm:one": [1, 0], "llm:two": [1, 1], "human:u": [None, None]})
    turned = tables.typed(Votes, votes.with_columns(preference=1 - pl.col("preference")))
    assert gains(votes) == gains(turned)
    heard = said({"llm:one": [1.0, 0], "llm:two": [1, 1], "human:u": [0, None]})
    assert gains(heard) == {1: 1}


def test_llmbar_orders_route_as_the_reference_figures_have_it(shared):
    """ChatGPT, vanilla: 31.8 % contradict themselves; routing these gives 0.600, the lot 0.619."""
    items = shared("llmbar_items.parquet").filter(pl.col("subset").str.starts_with("LLMBar"))
    given = shared("llmbar_llm_votes.parquet").filter(
        (pl.col("judge_model") == "ChatGPT") & (pl.col("strategy") == "Vanilla")
    )
    rows = items.select("id", "gold").sort("id").with_row_index("at")
    forth, back = (
        rows.join(given.filter(pl.col("order") == order), on="id", how="left").sort("at")["winner"]
        for order in ("ab", "ba")
    )
    votes = both_orders(*((2 - each.cast(pl.Float64)).to_list() for each in (forth, back)))
    made = disagreement(votes, budget={"share": 1.0, "audit": 0.0}, of="orders")
    inconsistent = made.filter(pl.col("gain") > 0.5)
    assert inconsistent.height / rows.height == pytest.approx(0.3179, abs=5e-5)
    at = inconsistent["completion_a"].str.head(6).cast(pl.Int64).to_numpy()
    gold = rows["gold"].cast(pl.Int64).to_numpy()
    right = np.mean([each.cast(pl.Int64).to_numpy() == gold for each in (forth, back)], axis=0)
    assert right.mean() == pytest.approx(0.4411, abs=5e-5)
    right[at] = 1
    assert right.mean() == pytest.approx(0.6, abs=5e-5)
