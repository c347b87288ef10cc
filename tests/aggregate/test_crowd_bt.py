"""Crowd-BT: planted strengths and reliabilities, its optimum, and what Bradley-Terry loses."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from prefdata import tables
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.aggregate.crowd_bt import crowd_bt, fit_crowd_bt
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import (
    check_symmetries,
    mixed,
    pair_values,
    score_of,
    voted_world,
    votes_of,
)


def crowd(seed, k=20, n_annotators=15, n=6000, eta=None):
    draw = np.random.default_rng(seed)
    theta = draw.normal(scale=1.5, size=k)
    eta = (
        draw.choice([0.95, 0.8, 0.5, 0.1], n_annotators, p=[0.4, 0.3, 0.2, 0.1])
        if eta is None
        else eta
    )
    one, annotator = draw.integers(0, k, n), draw.integers(0, n_annotators, n)
    other = (one + draw.integers(1, k, n)) % k
    share = 1 / (1 + np.exp(theta[other] - theta[one]))
    share = eta[annotator] * share + (1 - eta[annotator]) * (1 - share)
    wins = draw.random(n) < share
    games = np.where(wins, one, other), np.where(wins, other, one), annotator, np.ones(n)
    return theta - theta.mean(), eta, games


def test_planted_strengths_and_reliabilities_are_recovered():
    theta, eta, games = crowd(0, n=20_000)
    found = fit_crowd_bt(*games, n_items=20, n_annotators=15)
    assert np.abs(found.reliability - eta).max() < 0.06
    assert 0.93 < np.polyfit(theta, found.strengths, 1)[0] < 1.07
    assert kendalltau(theta, found.strengths).statistic > 0.9


def test_plain_bradley_terry_is_drawn_to_zero_and_ranks_worse():
    better, slopes = [], []
    for seed in range(8):
        theta, _, games = crowd(seed, n=1500)
        found = fit_crowd_bt(*games, n_items=20, n_annotators=15).strengths
        winner, loser, _, ones = games
        plain = fit_bradley_terry(winner, loser, ones, 0 * ones, n_items=20).strengths
        better.append(kendalltau(theta, found).statistic - kendalltau(theta, plain).statistic)
        slopes.append(np.polyfit(theta, plain, 1)[0])
    assert np.mean(better) > 0
    assert np.mean(slopes) < 0.7


def test_the_gradient_of_the_plain_density_is_zero():
    _, _, games = crowd(1, k=6, n_annotators=4, n=200)
    found = fit_crowd_bt(*games, n_items=6, n_annotators=4, tolerance=1e-6)
    theta, odds = (
        found.strengths - found.anchor,
        np.log(found.reliability / (1 - found.reliability)),
    )

    def density(x):
        theta, eta = x[:6], 1 / (1 + np.exp(-x[6:]))
        total = 4 * np.log(eta).sum() + np.log(1 - eta).sum()
        total -= 0.1 * (np.logaddexp(0, theta) + np.logaddexp(0, -theta)).sum()
        for i, j, k, _ in zip(*games, strict=True):
            p = 1 / (1 + np.exp(theta[j] - theta[i]))
            total += np.log(eta[k] * p + (1 - eta[k]) * (1 - p))
        return total

    x = np.concatenate([theta, odds])
    assert found.log_density == pytest.approx(density(x))
    for e in np.eye(10) * 1e-4:
        assert abs(density(x + e) - density(x - e)) / 2e-4 < 1e-4


def test_reliable_annotators_give_bradley_terry():
    """Where all are held to be right it is Bradley-Terry with the same prior."""
    _, _, games = crowd(2, k=8, n=400, eta=np.ones(15))
    winner, loser, _, ones = games
    options = {"right": 1e9, "wrong": 1e-3}
    found = fit_crowd_bt(*games, n_items=8, n_annotators=15, tolerance=1e-3, **options)
    plain = fit_bradley_terry(winner, loser, ones, 0 * ones, n_items=8)
    assert np.allclose(found.strengths, plain.strengths, atol=1e-3)


def test_the_stage_and_its_symmetries():
    a_better, right, _, votes = voted_world(3, n=120, bias=0)
    check_symmetries(lambda v: crowd_bt(v, tolerance=1e-7), mixed(votes), len(a_better))
    strengths, scores = crowd_bt(votes)
    assert ((pair_values(scores, 120) > 0.5) == a_better).mean() > 0.85
    reliability = np.array([v for _, v in sorted(score_of(scores, "reliability").items())])
    assert np.corrcoef(reliability, right)[0, 1] > 0.8
    assert strengths["stderr"].is_not_null().all()


def test_intervals_cover_planted_strengths():
    inside = []
    for seed in range(20):
        theta, _, games = crowd(seed, k=15, n=4000)
        winner, loser, annotator, _ = games
        frame = pl.DataFrame({"w": winner, "l": loser, "j": annotator}).with_columns(
            completion_a=pl.format("c{}", pl.min_horizontal("w", "l") + 10),
            completion_b=pl.format("c{}", pl.max_horizontal("w", "l") + 10),
            preference=(pl.col("w") < pl.col("l")).cast(pl.Float64),
            annotator=pl.format("human:{}", "j"),
            criterion=pl.lit("q"),
            draw=pl.int_range(pl.len()),
            prompt_id=pl.lit("p"),
        )
        votes = tables.typed(Votes, frame.drop("w", "l", "j"))
        made = crowd_bt(votes)[0].sort("completion_id")
        away = np.abs(made["strength"].to_numpy() - theta)
        inside.append((away < 1.96 * made["stderr"].to_numpy()).mean())
    assert 0.90 <= np.mean(inside) <= 0.99


def test_what_is_refused_and_what_few_votes_give():
    votes = voted_world(7, n=40)[3]
    for option in ("prior", "right", "wrong"):
        with pytest.raises(RecipeError, match=f"{option} is 0"):
            crowd_bt(votes, **{option: 0})
    with pytest.raises(ConvergenceError, match="1 iterations"):
        crowd_bt(votes, max_iterations=1)
    assert pair_values(crowd_bt(votes_of([0], [0], [1.0]))[1], 1)[0] > 0.6
    assert [made.height for made in crowd_bt(Votes(tables.empty("votes")))] == [0, 0]
