"""GLAD: planted abilities and difficulties, its optimum, symmetries, and another library's."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from crowdkit.aggregation import GLAD

from prefdata import tables
from prefdata.aggregate._labels import labels_of_ratings
from prefdata.aggregate.glad import fit_glad, glad
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import (
    check_symmetries,
    exchanged,
    mixed,
    pair_values,
    ratings_of,
    score_of,
    voted_world,
    votes_of,
)


def able_world(seed, n=400, n_annotators=20, k=2, each=12):
    draw = np.random.default_rng(seed)
    alpha = draw.normal(1, 1, n_annotators)
    log_beta = draw.normal(1, 1, n)
    truth = draw.integers(0, k, n)
    item = np.repeat(np.arange(n), each)
    annotator = np.concatenate([draw.permutation(n_annotators)[:each] for _ in range(n)])
    right = draw.random(len(item)) < 1 / (1 + np.exp(-alpha[annotator] * np.exp(log_beta[item])))
    wrong = (truth[item] + draw.integers(1, k, len(item))) % k
    return truth, alpha, log_beta, (item, annotator, np.where(right, truth[item], wrong))


def of_labels(item, annotator, label):
    ratings = ratings_of(item, annotator, label / label.max())
    (graded,) = labels_of_ratings(ratings, None, None, where="test")
    return graded.labels


def plain_log_density(alpha, log_beta, item, annotator, label):
    """By loops: the classes summed out, and the priors."""
    k = label.max() + 1
    total = np.full((item.max() + 1, k), -np.log(k))
    for i, j, x in zip(item, annotator, label, strict=True):
        right = 1 / (1 + np.exp(-alpha[j] * np.exp(log_beta[i])))
        for t in range(k):
            total[i, t] += np.log(right if t == x else (1 - right) / (k - 1))
    prior = ((alpha - 1) ** 2).sum() / 2 + ((log_beta - 1) ** 2).sum() / 2
    return np.logaddexp.reduce(total, axis=1).sum() - prior


@pytest.mark.parametrize("k", [2, 4])
def test_planted_abilities_and_difficulties_are_recovered(k):
    truth, alpha, log_beta, games = able_world(k, n=1500, k=k)
    found = fit_glad(of_labels(*games))
    assert (found.posterior.argmax(1) == truth).mean() > 0.97
    assert np.corrcoef(alpha, found.ability)[0, 1] > 0.97
    assert np.corrcoef(log_beta, np.log(found.easiness))[0, 1] > 0.6
    assert np.abs(alpha - found.ability)[np.abs(alpha) < 1].max() < 0.3


def test_the_gradient_of_the_plain_density_is_zero():
    _, _, _, games = able_world(1, n=150, k=3)
    found = fit_glad(of_labels(*games), tolerance=1e-6)
    alpha, log_beta = found.ability, np.log(found.easiness)
    assert found.log_density == pytest.approx(plain_log_density(alpha, log_beta, *games))
    h = 1e-4
    for place in range(4):
        e = np.zeros(len(alpha))
        e[place] = h
        up, down = (plain_log_density(alpha + s * e, log_beta, *games) for s in (1, -1))
        assert abs(up - down) / 2 / h < 1e-4
        e = np.zeros(len(log_beta))
        e[place] = h
        up, down = (plain_log_density(alpha, log_beta + s * e, *games) for s in (1, -1))
        assert abs(up - down) / 2 / h < 1e-4


def test_no_less_likely_than_crowd_kits_and_close_to_it():
    truth, _, _, games = able_world(2, n=70)
    frame = pd.DataFrame(dict(zip(("task", "worker", "label"), games, strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = GLAD(n_iter=20).fit(frame)
    alpha = theirs.alphas_.sort_index().to_numpy()
    log_beta = theirs.betas_.sort_index().to_numpy()
    found = fit_glad(of_labels(*games))
    assert found.log_density > plain_log_density(alpha, log_beta, *games) - 1e-6
    assert np.corrcoef(alpha, found.ability)[0, 1] > 0.99
    probability = theirs.probas_.sort_index()[[0, 1]].to_numpy()
    assert np.abs(probability - found.posterior).mean() < 0.02
    assert (found.posterior.argmax(1) == truth).mean() > 0.9


def test_exchanging_a_and_b_exchanges_the_result():
    a_better, _, _, votes = voted_world(5, n=150)
    check_symmetries(lambda v: glad(v, tolerance=1e-6), mixed(votes), len(a_better))


def test_who_is_always_wrong_counts_for_the_other_side():
    a_better, _, _, votes = voted_world(6, n=300, bias=0)
    contrary = exchanged(votes.filter(pl.col("annotator") == "human:0001"))
    others = votes.filter(pl.col("annotator") != "human:0001")
    n = len(a_better)
    straight, turned = (glad(Votes(v))[1] for v in (votes, pl.concat([others, contrary])))
    assert score_of(turned, "ability")["human:0001"] < 0
    assert score_of(straight, "ability")["human:0001"] > 0
    assert ((pair_values(straight, n) > 0.5) == (pair_values(turned, n) > 0.5)).mean() > 0.9


def test_contested_pairs_are_the_difficult_ones():
    pair = np.repeat([0, 1, 2, 3], 10)
    annotator = np.tile(np.arange(10), 4)
    preference = np.concatenate([np.ones(10), np.zeros(10), np.ones(10), np.tile([0, 1], 5)])
    _, scores = glad(votes_of(pair, annotator, preference))
    ids = tables.pair_ids([f"{i:06}a" for i in range(4)], [f"{i:06}b" for i in range(4)])
    difficulty = score_of(scores, "difficulty")
    assert all(difficulty[ids[3]] > difficulty[ids[i]] > 0 for i in range(3))


def test_a_single_vote_is_as_sure_as_the_priors_and_as_crowd_kit():
    """Whoever votes alone neither agrees nor disagrees: the means of the priors are the top."""
    for easiness in (1.0, 0.0):
        _, scores = glad(votes_of([0], [0], [1.0]), easiness=easiness)
        sure = 1 / (1 + np.exp(-np.exp(easiness)))
        assert pair_values(scores, 1)[0] == pytest.approx(sure, abs=1e-6)
    frame = pd.DataFrame({"task": ["t", "u"], "worker": ["w", "v"], "label": [0, 1]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = GLAD().fit(frame).probas_
    assert theirs.loc["t", 0] == pytest.approx(1 / (1 + np.exp(-np.e)), abs=1e-6)


def test_what_is_refused_and_what_few_votes_give():
    votes = voted_world(7, n=60)[3]
    with pytest.raises(RecipeError, match="ability_deviation is 0"):
        glad(votes, ability_deviation=0)
    with pytest.raises(ConvergenceError, match="2 iterations"):
        glad(votes, max_iterations=2)
    one = pair_values(glad(votes_of([0, 1], [0, 1], [1.0, 0.0]))[1], 2)
    assert one[0] > 0.6
    assert one[1] == pytest.approx(1 - one[0])
    assert [made.height for made in glad(Votes(tables.empty("votes")))] == [0, 0]
