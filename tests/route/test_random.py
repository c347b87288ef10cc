"""Rows by lot: exact budgets, equal chances, and what every router does with a budget."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.route._budget import Budget, open_rows, spend
from prefdata.route.random import random
from prefdata.tables import Pairs, Scores
from tests.route.planted import said, sides

N = 200
VOTES = said({"llm:one": [1.0] * N, "llm:two": [0.0] * N})


def prices(values):
    rows = sides(len(values))
    ids = tables.pair_ids(rows["completion_a"], rows["completion_b"])
    frame = pl.DataFrame({"subject_id": ids, "value": values})
    named = frame.with_columns(subject=pl.lit("pair"), score=pl.lit("price"))
    return tables.typed(Scores, named)


def spent(gain, budget: Budget, seed=0, scores=None):
    rows = open_rows(said({"llm:one": [1.0] * len(gain)}), None, "human")
    made = spend(
        rows.with_columns(gain=pl.Series(gain, dtype=pl.Float64)), scores, budget=budget,
        annotator="human", reason="test", seed=seed, where="test",
    )  # fmt: skip
    at = pl.col("completion_a").str.head(6).cast(pl.Int64)
    return made.sort("priority").with_columns(at=at)


@pytest.mark.parametrize(
    ("budget", "n"),
    [
        ({"rows": 7}, 7),
        ({"rows": 10 * N}, N),
        ({"rows": 0}, 0),
        ({"share": 0.3}, 60),
        ({"share": 1.0}, N),
        ({"money": 10.0, "price": 0.3}, 33),
        ({"money": 0.1, "price": 0.3}, 0),
    ],
)
def test_a_budget_is_met_exactly(budget, n):
    for audit in (0.0, 0.1, 1.0):
        made = random(VOTES, budget={**budget, "audit": audit})
        assert made.height == n
        assert sorted(made["priority"]) == list(range(1, n + 1))
        found = spent(np.arange(N), {**budget, "audit": audit})
        assert found.height == n
        assert (found["reason"] == "random").sum() == np.ceil(audit * n - 1e-9)


def test_the_lot_falls_on_each_row_as_often_and_does_not_depend_on_the_order_of_rows(shuffled):
    hits = np.zeros(N)
    for seed in range(100):
        made = random(VOTES, budget={"share": 0.25}, seed=seed)
        hits[made["completion_a"].str.head(6).cast(pl.Int64).to_numpy()] += 1
    # Of 100 draws with chance 1/4, over 200 rows: chi-squared of 199 degrees of freedom.
    assert ((hits - 25) ** 2 / 18.75).sum() < 199 + 4 * np.sqrt(2 * 199)
    assert random(shuffled(VOTES, 3), budget={"rows": 9}, seed=5).equals(
        random(VOTES, budget={"rows": 9}, seed=5)
    )


def test_what_a_person_voted_on_is_not_asked_again():
    votes = said({"llm:one": [1.0] * 4, "human:u1": [1.0, None, None, 0.0], "human:u2": [1.0, 1.0]})
    of_all = random(votes, budget={"share": 1.0})
    assert of_all["completion_a"].to_list() == ["000002a"]
    of_one = random(votes, budget={"share": 1.0}, annotator="human:u1")
    assert of_one["completion_a"].to_list() == ["000001a", "000002a"]


def test_rows_are_the_pairs_where_there_are_any():
    rows = sides(5)
    pairs = rows.head(3).select(
        "prompt_id", chosen_id="completion_b", rejected_id="completion_a", margin=1.0,
        soft_label=0.7, n_votes=2,
    )  # fmt: skip
    pairs = pairs.with_columns(tables.pair_ids(pairs["chosen_id"], pairs["rejected_id"]))
    made = random(VOTES, tables.typed(Pairs, pairs), budget={"share": 1.0})
    assert made["completion_a"].to_list() == rows["completion_a"][:3].to_list()


def test_rows_of_highest_gain_for_their_cost_come_first_and_never_cost_more_than_the_money():
    draw = np.random.default_rng(1)
    gain, cost = draw.random(N), draw.uniform(0.5, 3.0, N)
    for money in (5.0, 40.0):
        budget: Budget = {"money": money, "price": "price", "audit": 0.1}
        made = spent(gain, budget, scores=prices(cost))
        assert made["cost"].sum() <= money
        chosen = made.filter(reason="test")["at"].to_numpy()
        worth = gain / cost
        assert (np.diff(worth[chosen]) <= 0).all()
        left = np.setdiff1d(np.arange(N), made["at"].to_numpy())
        assert worth[left].max() <= worth[chosen].min()
        # The next row did not fit.
        assert made["cost"].sum() + cost[left][worth[left].argmax()] > money


def test_the_rows_at_random_say_what_is_true_of_all_rows():
    """Their mean is unbiased, whatever the router is after; that of the others is not."""
    draw = np.random.default_rng(2)
    wrong = draw.random(N) < 0.3
    gain = wrong + draw.random(N)
    cost = np.where(wrong, 1.3, 1.0)
    budgets: list[tuple[Budget, Scores | None]] = [
        ({"share": 0.3, "audit": 0.2}, None),
        ({"money": 100.0, "price": "price", "audit": 0.2}, prices(cost)),
    ]
    for budget, scores in budgets:
        found = [spent(gain, budget, seed, scores) for seed in range(60)]
        audited, routed = (
            np.array([wrong[made.filter(keep)["at"].to_numpy()].mean() for made in found])
            for keep in (pl.col("reason") == "random", pl.col("reason") == "test")
        )
        assert abs(audited.mean() - wrong.mean()) < 4 * audited.std() / np.sqrt(len(found))
        assert routed.mean() > wrong.mean() + 0.1


def test_whoever_stops_early_has_audited_the_same_share():
    made = spent(np.arange(N), {"rows": 100, "audit": 0.2})
    is_random = (made["reason"] == "random").to_numpy()
    first = np.arange(1, 101)
    assert (np.abs(is_random.cumsum() - 0.2 * first) <= 1).all()
    assert is_random[0]


def test_ties_are_drawn_and_a_better_row_is_never_left_for_a_worse_one():
    gain = np.repeat([2.0, 1.0, 0.0], [10, 100, 90])
    some, others = (set(spent(gain, {"rows": 40, "audit": 0.0}, s)["at"]) for s in (0, 1))
    assert set(range(10)) <= some & others
    assert some != others
    assert max(some | others) < 110


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({}, "no limit; give one of rows, share and money"),
        ({"rows": 3, "share": 0.5}, "rows and share; give one"),
        ({"share": 1.5}, r"share and audit are in \[0, 1\]"),
        ({"rows": 3, "audit": 2.0}, r"share and audit are in \[0, 1\]"),
        ({"rows": -1}, "at least 0"),
        ({"money": 3.0}, "not what a row costs"),
        ({"row": 3}, "budget has no 'row'; did you mean"),
        ({"money": 3.0, "price": 0.0}, "200 rows have no finite price above 0"),
        ({"money": 3.0, "price": "prise"}, "no pair has a score 'prise'"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(budget, why):
    with pytest.raises(RecipeError, match=why):
        random(VOTES, None, prices([1.0]), budget=budget)


@pytest.mark.parametrize(
    "budget",
    [{"rows": 2.5}, *({"money": bad, "price": 1.0} for bad in (np.inf, np.nan, -1.0))],
    ids=str,
)
def test_numbers_that_are_none_are_no_budget(budget):
    with pytest.raises(RecipeError, match="rows are a whole number, money a finite one"):
        random(VOTES, budget=budget)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_row_without_a_price_is_named(bad):
    with pytest.raises(RecipeError, match=r"1 rows have no finite price above 0, first .*000003a"):
        spent([1.0] * 5, {"money": 3.0, "price": "price"}, scores=prices([1.0, 1, 1, bad, 1]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_price_for_all_is_a_number(bad):
    with pytest.raises(RecipeError, match="200 rows have no finite price above 0"):
        random(VOTES, budget={"money": 3.0, "price": bad})
