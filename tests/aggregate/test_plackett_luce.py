"""Plackett-Luce: its optimum, planted strengths, Bradley-Terry for two, and another library's."""

from itertools import permutations

import choix
import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.aggregate.plackett_luce import (
    Orders,
    fit_plackett_luce,
    plackett_luce,
    standard_errors,
)
from prefdata.errors import ConvergenceError, RecipeError, TableError
from prefdata.tables import Rankings
from tests.aggregate.planted import by_id


def draw_rankings(draw, theta, n, k):
    """k of the items at random, by the largest of strengths with Gumbel noise."""
    shown = np.stack([draw.permutation(len(theta))[:k] for _ in range(n)])
    noisy = theta[shown] + draw.gumbel(size=shown.shape)
    return np.take_along_axis(shown, np.argsort(-noisy, axis=1), axis=1)


def rankings_of(rows, prompt="p"):
    """Rankings from (ids best first, ranks)."""
    frame = pl.DataFrame(
        {"ranking": [list(r) for r, _ in rows], "ranks": [list(k) for _, k in rows]},
        schema={"ranking": pl.List(pl.String), "ranks": pl.List(pl.Int64)},
    )
    return tables.typed(
        Rankings,
        frame.with_columns(
            prompt_id=pl.lit(prompt),
            annotator=pl.lit("human:1"),
            criterion=pl.lit("q"),
            draw=pl.int_range(pl.len()),
        ),
    )


@pytest.mark.parametrize("k", [3, 6])
def test_agrees_with_choix_without_a_prior(k):
    draw = np.random.default_rng(k)
    items = draw_rankings(draw, draw.normal(size=8), 120, k)
    found = fit_plackett_luce([Orders(items, np.ones(120))], n_items=8, prior=0)
    theirs = choix.ilsr_rankings(8, [tuple(r) for r in items.tolist()], alpha=0, tol=1e-10)
    assert np.allclose(found.strengths, theirs - theirs.mean(), atol=1e-5)


def test_planted_strengths_are_recovered_and_intervals_cover():
    inside, slopes = [], []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        theta = draw.normal(size=8)
        theta -= theta.mean()
        orders = [Orders(draw_rankings(draw, theta, 80, 5), np.ones(80))]
        found = fit_plackett_luce(orders, n_items=8)
        of_item, one, other, apart = standard_errors(found, orders)
        inside += (np.abs(found.strengths - theta) < 1.96 * of_item).tolist()
        away = (found.strengths[one] - found.strengths[other]) - (theta[one] - theta[other])
        inside += (np.abs(away) < 1.96 * apart).tolist()
        slopes.append(np.polyfit(theta, found.strengths, 1)[0])
    assert 0.90 <= np.mean(inside) <= 0.99
    assert 0.95 < np.mean(slopes) < 1.05


def test_rankings_of_two_are_bradley_terry_with_ties_as_halves():
    draw = np.random.default_rng(1)
    rows, wins = [], np.zeros((5, 5))
    for _ in range(80):
        i, j = draw.choice(5, 2, replace=False)
        tied = draw.random() < 0.3
        rows.append(((f"c{i}", f"c{j}"), (1, 1) if tied else (1, 2)))
        wins[i, j] += 0.5 if tied else 1
        wins[j, i] += 0.5 if tied else 0
    one, other = np.triu_indices(5, 1)
    plain = fit_bradley_terry(one, other, wins[one, other], wins[other, one], n_items=5)
    strengths, _ = plackett_luce(rankings_of(rows))
    assert np.allclose(strengths.sort("completion_id")["strength"], plain.strengths, atol=1e-5)


def test_a_tie_is_the_mean_over_the_orders_it_leaves_open():
    """The gradient of the plain mean over orders is zero."""
    rows = [
        ("abcd", (1, 2, 2, 3)),
        ("bdac", (1, 1, 1, 2)),
        ("cab", (1, 2, 3)),
        ("dcba", (1, 2, 3, 3)),
    ]
    strengths, _ = plackett_luce(rankings_of(rows), prior=0.3)
    start = by_id(strengths)

    def order(theta, names):
        left = [np.log(sum(np.exp(theta[m]) for m in names[s:])) for s in range(len(names))]
        return sum(theta[m] - x for m, x in zip(names, left, strict=True))

    def density(theta, shift):
        total = 0.0
        for names, ranks in rows:
            rank = dict(zip(names, ranks, strict=True))
            opened = [o for o in permutations(names) if [rank[m] for m in o] == sorted(ranks)]
            total += np.mean([order(theta, o) for o in opened])
        for value in theta.values():
            x = value + shift
            total -= 0.3 * (np.logaddexp(0, x) + np.logaddexp(0, -x))
        return total

    # The prior's opponent lies where the density is greatest.
    grid = np.linspace(-0.5, 0.5, 20001)
    prior = [
        sum(np.logaddexp(0, v + g) + np.logaddexp(0, -v - g) for v in start.values()) for g in grid
    ]
    shift = grid[int(np.argmin(prior))]
    for name in start:
        up, down = ({**start, name: start[name] + h} for h in (1e-4, -1e-4))
        assert abs(density(up, shift) - density(down, shift)) / 2e-4 < 1e-4


def test_the_stage_and_its_invariances():
    draw = np.random.default_rng(2)
    items = draw_rankings(draw, draw.normal(size=6), 40, 4)
    rows = [
        ([f"c{i}" for i in r], (1, 2, 2, 3) if n % 5 == 0 else (1, 2, 3, 4))
        for n, r in enumerate(items)
    ]
    rankings = rankings_of(rows)
    strengths, scores = plackett_luce(rankings)
    mixed = plackett_luce(Rankings(rankings.sample(fraction=1, shuffle=True, seed=0)))
    for name, one, other in zip(("strengths", "scores"), (strengths, scores), mixed, strict=True):
        assert tables.check(name, one, where="t").equals(tables.check(name, other, where="t"))
    known = by_id(strengths)
    value = dict(scores.select("subject_id", "value").iter_rows())
    (pair,) = tables.pair_ids(["c4"], ["c1"])
    assert value[pair] == pytest.approx(1 / (1 + np.exp(known["c4"] - known["c1"])))
    renamed = plackett_luce(rankings_of([([f"d{9 - int(i[1])}" for i in r], k) for r, k in rows]))
    other = by_id(renamed[0])
    assert all(other[f"d{9 - int(i[1])}"] == pytest.approx(known[i], abs=1e-5) for i in known)


def test_what_is_refused_and_what_few_rankings_give():
    one = rankings_of([("ab", (1, 2))])
    assert by_id(plackett_luce(one)[0])["a"] > 0
    with pytest.raises(ConvergenceError, match="never behind"):
        plackett_luce(one, prior=0)
    with pytest.raises(RecipeError, match="prior is -1"):
        plackett_luce(one, prior=-1)
    with pytest.raises(TableError, match="twice"):
        plackett_luce(rankings_of([("aa", (1, 2))]))
    with pytest.raises(TableError, match="40320 orders"):
        plackett_luce(rankings_of([("abcdefgh", (1,) * 8)]))
    alone = plackett_luce(rankings_of([("a", (1,))]))
    assert (alone[0]["strength"].to_list(), alone[1].height) == ([0.0], 0)
    apart = by_id(plackett_luce(rankings_of([("ab", (1, 2)), ("cd", (2, 2))]))[0])
    assert apart["c"] == pytest.approx(apart["d"], abs=1e-6)
    assert [t.height for t in plackett_luce(Rankings(tables.empty("rankings")))] == [0, 0]
