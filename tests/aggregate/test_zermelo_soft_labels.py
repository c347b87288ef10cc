"""Zermelo soft labels: his own iteration's fixed point, planted log odds, bounds and evidence."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from prefdata import tables
from prefdata.aggregate.zermelo_soft_labels import zermelo_soft_labels
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import score_of, votes_from


def world(seed, n_prompts, sizes):
    """Prompts of 5 completions with planted strengths; a pair gets one of `sizes` votes."""
    draw = np.random.default_rng(seed)
    theta = draw.normal(size=(n_prompts, 5))
    rows = []
    for prompt in range(n_prompts):
        for i in range(5):
            for j in range(i + 1, 5):
                n = draw.choice(sizes)
                share = 1 / (1 + np.exp(theta[prompt, j] - theta[prompt, i]))
                wins = draw.binomial(n, share)
                ids = f"p{prompt:04}", f"{prompt:04}c{i}", f"{prompt:04}c{j}"
                rows += [(*ids, 1.0)] * wins + [(*ids, 0.0)] * (n - wins)
    return theta, votes_from(rows)


def test_slope_on_planted_strengths():
    """20 votes on every two of 5, 200 prompts: the slope is within [0.90, 1.0]."""
    theta, votes = world(0, 200, [20])
    strengths, _ = zermelo_soft_labels(votes)
    found = strengths.sort("completion_id")["strength"].to_numpy().reshape(200, 5)
    centred = theta - theta.mean(1, keepdims=True)
    assert 0.90 <= np.polyfit(centred.ravel(), found.ravel(), 1)[0] <= 1.0


def test_uneven_votes_are_ranked_better_than_by_win_rates_and_shrink():
    theta, votes = world(1, 200, [1, 2, 20])
    found = zermelo_soft_labels(votes)[0].sort("completion_id")["strength"].to_numpy()
    found = found.reshape(200, 5)
    tau = np.mean([kendalltau(t, f).statistic for t, f in zip(theta, found, strict=True)])
    raw = votes.with_columns(side=pl.concat_list("completion_a", "completion_b")).explode("side")
    raw = raw.with_columns(
        won=pl.when(pl.col("side") == pl.col("completion_a"))
        .then("preference")
        .otherwise(1 - pl.col("preference"))
    )
    rate = raw.group_by("side").agg(pl.mean("won")).sort("side")["won"].to_numpy().reshape(200, 5)
    of_rate = np.mean([kendalltau(t, r).statistic for t, r in zip(theta, rate, strict=True)])
    assert tau > of_rate
    slope = np.polyfit((theta - theta.mean(1, keepdims=True)).ravel(), found.ravel(), 1)[0]
    assert 0.65 < slope < 0.9


def test_zermelos_iteration_ends_there():
    """p_i <- W_i / sum_j n_ij / (p_i + p_j) in a plain loop, to 1e-12."""
    _, votes = world(2, 1, [3])
    won = np.full((5, 5), 0.5) - np.eye(5) / 2
    for a, b, preference in votes.select("completion_a", "completion_b", "preference").iter_rows():
        i, j = int(a[-1]), int(b[-1])
        won[i, j] += preference
        won[j, i] += 1 - preference
    p = np.ones(5)
    for _ in range(5000):
        games = (won + won.T) / (p[:, None] + p)
        p = won.sum(1) / games.sum(1)
        p /= p.sum()
    logs = np.log(p) - np.log(p).mean()
    strengths = zermelo_soft_labels(votes)[0].sort("completion_id")["strength"].to_numpy()
    assert np.allclose(strengths, logs, atol=1e-8)


def test_a_unanimous_pair_has_finite_log_odds():
    votes = votes_from([("p", "a", "b", 1.0)] * 5)
    _, scores = zermelo_soft_labels(votes)
    (logit,) = score_of(scores, "preference_logit").values()
    assert logit == pytest.approx(np.log(5.5 / 0.5))
    assert list(score_of(scores, "preference").values()) == pytest.approx([5.5 / 6])
    assert list(score_of(scores, "n_votes").values()) == [5]
    (bounded,) = score_of(zermelo_soft_labels(votes, max_logit=1)[1], "preference_logit").values()
    assert bounded == 1
    error = scores.filter(pl.col("score") == "preference_logit")["stderr"][0]
    assert error == pytest.approx(np.sqrt(1 / 5.5 + 1 / 0.5))


def test_two_that_were_not_compared_have_a_label_too():
    votes = votes_from([("p", "a", "b", 1.0)] * 9 + [("p", "b", "c", 1.0)] * 9)
    _, scores = zermelo_soft_labels(votes)
    n_votes, logit = score_of(scores, "n_votes"), score_of(scores, "preference_logit")
    (apart,) = tables.pair_ids(["a"], ["c"])
    assert sorted(n_votes.values()) == [0, 9, 9]
    assert logit[apart] == max(logit.values())


def test_without_pseudo_votes_the_graph_must_connect():
    apart = votes_from([("p", "a", "b", p) for p in (1.0, 0.0)] + [("p", "c", "d", 0.5)])
    with pytest.raises(ConvergenceError, match="no finite optimum"):
        zermelo_soft_labels(apart, pseudo_votes=0)
    assert zermelo_soft_labels(apart)[0].height == 4
    for option in ({"pseudo_votes": -1}, {"max_logit": 0}):
        with pytest.raises(RecipeError, match=next(iter(option))):
            zermelo_soft_labels(apart, **option)


def test_invariances():
    _, votes = world(3, 6, [0, 3])
    whole = zermelo_soft_labels(votes)
    mixed = zermelo_soft_labels(Votes(votes.sample(fraction=1, shuffle=True, seed=0)))
    turned = zermelo_soft_labels(Votes(votes.with_columns(preference=1 - pl.col("preference"))))
    for name, one, other in zip(("strengths", "scores"), whole, mixed, strict=True):
        assert tables.check(name, one, where="t").equals(tables.check(name, other, where="t"))
    one, other = (score_of(s, "preference_logit") for s in (whole[1], turned[1]))
    assert all(other[i] == pytest.approx(-one[i], abs=1e-7) for i in one)
    assert [t.height for t in zermelo_soft_labels(Votes(tables.empty("votes")))] == [0, 0]
