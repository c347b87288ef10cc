"""Rank centrality: exact shares give exact strengths, another library's answer, planted models."""

import choix
import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from prefdata import tables
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.aggregate.rank_centrality import fit_rank_centrality, rank_centrality
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import exchanged, pair_values, voted_world, votes_of


def played(seed, k, games, theta=None):
    """Games of each two of k items."""
    draw = np.random.default_rng(seed)
    theta = draw.normal(size=k) if theta is None else theta
    i, j = np.triu_indices(k, 1)
    share = 1 / (1 + np.exp(theta[j] - theta[i]))
    wins = draw.binomial(games, share).astype(float)
    return theta - theta.mean(), share, (i, j, wins, games - wins)


@pytest.mark.parametrize("k", [2, 4, 21, 90])
def test_exact_shares_give_exact_strengths_as_bradley_terry_does(k):
    theta, share, (i, j, _, _) = played(0, k, 1)
    found, _ = fit_rank_centrality(i, j, 7 * share, 7 * (1 - share), n_items=k, smoothing=0)
    assert np.allclose(found, theta, atol=1e-9)
    likely = fit_bradley_terry(i, j, 7 * share, 7 * (1 - share), n_items=k, prior=0)
    assert np.allclose(found, likely.strengths, atol=1e-6)


@pytest.mark.parametrize("k", [4, 30, 80])
def test_agrees_with_choix(k):
    """n = 4 is the smallest where directions that are no transposes of each other show."""
    _, _, (i, j, wins, losses) = played(1, k, 12)
    wins, losses = wins + 1, losses + 1
    data = []
    for one, other, won, lost in zip(i, j, wins, losses, strict=True):
        data += [(one, other)] * int(won) + [(other, one)] * int(lost)
    theirs = choix.rank_centrality(k, data)
    found, _ = fit_rank_centrality(i, j, wins, losses, n_items=k, smoothing=0)
    assert np.allclose(found, theirs - theirs.mean(), atol=1e-8)


def test_planted_models_are_ranked():
    """21 models, 100 games on each two: rank correlation with what was planted at least 0.93."""
    taus = []
    for seed in range(10):
        theta, _, games = played(seed, 21, 100)
        found, _ = fit_rank_centrality(*games, n_items=21)
        taus.append(kendalltau(theta, found).statistic)
    assert np.mean(taus) >= 0.93


def test_inflow_is_outflow():
    _, _, (i, j, wins, losses) = played(2, 6, 5)
    found, _ = fit_rank_centrality(i, j, wins, losses, n_items=6, smoothing=1)
    pi = np.exp(found)
    flow = np.zeros((6, 6))
    for one, other, won, lost in zip(i, j, wins, losses, strict=True):
        flow[other, one] = pi[other] * (won + 1) / (won + lost + 2)
        flow[one, other] = pi[one] * (lost + 1) / (won + lost + 2)
    assert np.allclose(flow.sum(0), flow.sum(1))


def test_components_are_apart_and_sizes_do_not_matter():
    _, _, (i, j, wins, losses) = played(3, 5, 9)
    both = [np.concatenate(c) for c in ((i, i + 5), (j, j + 5), (wins, losses), (losses, wins))]
    found, component = fit_rank_centrality(*both, n_items=11)
    alone, _ = fit_rank_centrality(i, j, wins, losses, n_items=5)
    assert np.allclose(found[:5], alone)
    assert np.allclose(found[5:10], fit_rank_centrality(i, j, losses, wins, n_items=5)[0])
    assert found[10] == 0
    assert len(set(component.tolist())) == 3


def test_a_large_component_has_the_strengths_of_a_small_one():
    """A chain of even votes hung on an item moves nothing."""
    theta, share, (i, j, _, _) = played(4, 12, 1)
    chain = np.r_[0, np.arange(12, 100)], np.arange(12, 101)
    half = np.full(89, 0.5)
    games = [
        np.concatenate(c) for c in zip((i, j, share, 1 - share), (*chain, half, half), strict=True)
    ]
    found, _ = fit_rank_centrality(*games, n_items=101, smoothing=0)
    assert np.allclose(found[:12] - found[0], theta - theta[0], atol=1e-8)
    assert np.allclose(found[12:], found[0], atol=1e-8)


def test_the_stage():
    a_better, _, _, votes = voted_world(5, n=100)
    strengths, scores = rank_centrality(votes)
    n = len(a_better)
    value = pair_values(scores, n)
    assert np.allclose(pair_values(rank_centrality(exchanged(votes))[1], n), 1 - value, atol=1e-9)
    mixed = rank_centrality(Votes(votes.sample(fraction=1, shuffle=True, seed=0)))
    for name, one, other in zip(("strengths", "scores"), (strengths, scores), mixed, strict=True):
        assert tables.check(name, one, where="t").equals(tables.check(name, other, where="t"))
    # Of two items alone, pi is in the smoothed shares.
    wins = votes.group_by("completion_a").agg(pl.col("preference").sum(), n=pl.len())
    wins = wins.sort("completion_a")
    expected = (wins["preference"] + 1) / (wins["n"] + 2)
    assert np.allclose(value, expected.to_numpy(), atol=1e-9)


def test_what_is_refused():
    votes = votes_of([0, 0], [0, 1], [1.0, 1.0])
    with pytest.raises(ConvergenceError, match="never lose"):
        rank_centrality(votes, smoothing=0)
    with pytest.raises(RecipeError, match="smoothing is -1"):
        rank_centrality(votes, smoothing=-1)
    assert pair_values(rank_centrality(votes)[1], 1)[0] == pytest.approx(3 / 4)
    assert [t.height for t in rank_centrality(Votes(tables.empty("votes")))] == [0, 0]
