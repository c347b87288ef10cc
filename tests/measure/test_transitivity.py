"""Circles of three: counted by hand, a quarter of them among coins, none of a single scale."""

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.measure.transitivity import transitivity


def table(rows: list[tuple[int, int, int, float | None]], annotator: str = "human:1") -> Any:
    """Votes of (prompt, completion, completion, preference for the first), in no special order."""
    made = [
        {
            "prompt_id": f"p{prompt:04}",
            "completion_a": f"p{prompt:04}c{min(one, other)}",
            "completion_b": f"p{prompt:04}c{max(one, other)}",
            "annotator": annotator,
            "criterion": "helpfulness",
            "draw": 0,
            "preference": p if p is None or one < other else 1 - p,
            "unscored": "error: planted" if p is None else None,
        }
        for prompt, one, other, p in rows
    ]
    return t.check(
        "votes",
        pl.DataFrame(made, schema_overrides={"preference": pl.Float64, "unscored": pl.String}),
        where="test",
    )


def measured(measures: pl.DataFrame, name: str, subject: str = "human:1") -> dict[str, Any]:
    rows = measures.filter(pl.col("measure") == name, pl.col("subject") == subject)
    return rows.row(0, named=True)


CIRCLE = [(0, 0, 1, 1.0), (0, 1, 2, 1.0), (0, 2, 0, 1.0)]
CHAIN = [(1, 0, 1, 1.0), (1, 1, 2, 1.0), (1, 0, 2, 1.0)]
TIED = [(2, 0, 1, 1.0), (2, 1, 2, 0.5), (2, 0, 2, 1.0)]
OPEN = [(3, 0, 1, 1.0), (3, 1, 2, 1.0), (3, 0, 2, None)]


def test_circles_chains_ties_and_what_is_missing_are_four_things():
    measures = transitivity(table(CIRCLE + CHAIN + TIED + OPEN))
    t.check("measures", measures, where="test")
    circles, tied = (measured(measures, name) for name in ("cycle_rate", "tied_triples"))
    assert (circles["value"], circles["n"]) == (0.5, 2)
    assert (tied["value"], tied["n"]) == (pytest.approx(1 / 3), 3)
    assert "0.25" in circles["note"]


@pytest.mark.parametrize("turned", [[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]])
def test_a_circle_is_one_whatever_its_completions_are_called(turned: list[int]):
    votes = table([(0, turned[i], turned[j], p) for _, i, j, p in CIRCLE])
    assert measured(transitivity(votes), "cycle_rate")["value"] == 1


def test_two_orders_that_contradict_each_other_are_a_tie():
    votes = table(CIRCLE)
    swapped = votes.with_columns(draw=pl.lit(1, pl.Int64), preference=1 - pl.col("preference"))
    measures = transitivity(t.check("votes", pl.concat([votes, swapped]), where="test"))
    assert measured(measures, "tied_triples")["value"] == 1
    assert measured(measures, "cycle_rate")["value"] is None


def planted(seed: int, n: int, accuracy: float, size: int = 5) -> Any:
    """Somebody with one scale who gives each verdict rightly with a probability."""
    draw = np.random.default_rng(seed)
    rows = [
        (prompt, one, other, float(draw.random() < accuracy))
        for prompt in range(n)
        for one, other in combinations(range(size), 2)
    ]
    return table(rows, f"llm:{accuracy}")


def test_a_scale_has_no_circle_and_coins_have_a_quarter(shuffled: Any):
    votes = [planted(1, 150, accuracy) for accuracy in (1.0, 0.9, 0.5)]
    measures = transitivity(t.check("votes", pl.concat(votes), where="test"))
    sure, fair, coin = (
        measured(measures, "cycle_rate", f"llm:{accuracy}") for accuracy in (1.0, 0.9, 0.5)
    )
    assert sure["value"] == 0
    assert sure["n"] == 1500
    # A circle is where the long comparison alone is wrong, or just the two short ones are.
    assert fair["low"] < 0.9**2 * 0.1 + 0.1**2 * 0.9 < fair["high"]
    assert coin["low"] < 0.25 < coin["high"]
    mixed = transitivity(shuffled(t.check("votes", pl.concat(votes), where="test"), 3))
    assert mixed.equals(measures)


def test_intervals_cover_what_coins_have():
    covered = 0
    for seed in range(60):
        coin = measured(transitivity(planted(seed, 40, 0.5, 4)), "cycle_rate", "llm:0.5")
        covered += coin["low"] <= 0.25 <= coin["high"]
    assert covered >= 53  # fewer in one case of 100, of 60 draws at 95 %


def test_a_criterion_without_votes_is_named_and_no_votes_have_no_measures():
    with pytest.raises(RecipeError, match="helpfulness"):
        transitivity(table(CIRCLE), criteria=["helpfullness"])
    assert transitivity(table(CIRCLE).clear()).is_empty()
