"""MACE: planted competence and spam, its optimum, its symmetries, and another library's answer."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from crowdkit.aggregation import MACE

from prefdata import tables
from prefdata.aggregate._labels import labels_of_ratings
from prefdata.aggregate.mace import fit_mace, mace
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import (
    check_symmetries,
    draw_labels,
    mixed,
    pair_values,
    ratings_of,
    score_of,
    voted_world,
    votes_of,
)


def spammed_world(seed, n=3000, n_annotators=12, k=3, each=7):
    draw = np.random.default_rng(seed)
    competence = draw.uniform(0.1, 0.9, n_annotators)
    spam = draw.dirichlet(np.ones(k), n_annotators)
    truth = draw.integers(0, k, n)
    knows = competence[:, None, None] * np.eye(k)
    confusion = knows + ((1 - competence)[:, None] * spam)[:, None, :]
    return truth, competence, spam, draw_labels(draw, truth, confusion, each)


def of_labels(item, annotator, label, k=3):
    ratings = ratings_of(item, annotator, label / (k - 1))
    (graded,) = labels_of_ratings(ratings, None, None, where="test")
    return graded.labels


def plain_log_likelihood(competence, spam, item, annotator, label):
    """By loops, classes being equally likely; and the posterior."""
    k = spam.shape[1]
    total = np.full((item.max() + 1, k), -np.log(k))
    for i, j, x in zip(item, annotator, label, strict=True):
        for t in range(k):
            total[i, t] += np.log(competence[j] * (t == x) + (1 - competence[j]) * spam[j, x])
    return np.logaddexp.reduce(total, axis=1).sum(), total


def test_planted_competence_and_spam_are_recovered():
    truth, competence, spam, games = spammed_world(0)
    found, knows, guesses = fit_mace(of_labels(*games))
    assert np.abs(knows - competence).max() < 0.06
    assert np.abs(((1 - knows)[:, None] * guesses) - (1 - competence)[:, None] * spam).max() < 0.05
    assert (found.posterior.argmax(1) == truth).mean() > 0.85


def test_the_density_never_falls_and_its_gradient_ends_at_zero():
    _, _, _, games = spammed_world(1, n=300)
    found, knows, guesses = fit_mace(of_labels(*games), prior=0.5, tolerance=1e-10)
    assert (np.diff(found.density) > -1e-8).all()
    reached, total = plain_log_likelihood(knows, guesses, *games)
    assert found.log_likelihood == pytest.approx(reached)
    posterior = np.exp(total - np.logaddexp.reduce(total, axis=1, keepdims=True))
    assert np.allclose(posterior, found.posterior, atol=1e-8)

    def density(shift, j, direction):
        """Along a change of the log odds of competence, or of the log of one spam."""
        logit = np.log(knows / (1 - knows))
        theta, xi = knows.copy(), guesses.copy()
        if direction < 0:
            theta[j] = 1 / (1 + np.exp(-logit[j] - shift))
        else:
            xi[j, direction] *= np.exp(shift)
            xi[j] /= xi[j].sum()
        prior = 0.5 * (np.log(theta).sum() + np.log(1 - theta).sum() + np.log(xi).sum())
        return plain_log_likelihood(theta, xi, *games)[0] + prior

    for j, direction in ((0, -1), (3, -1), (5, 0), (7, 2)):
        slope = (density(1e-4, j, direction) - density(-1e-4, j, direction)) / 2e-4
        assert abs(slope) < 1e-3


@pytest.mark.parametrize("seed", [2, 3])
def test_no_less_likely_than_crowd_kits_best_of_several_and_no_less_right(seed):
    truth, _, _, (item, annotator, label) = spammed_world(seed, n=250)
    theirs = MACE(n_restarts=2, n_iter=30, method="em", random_state=seed)
    theirs.fit(pd.DataFrame({"task": item, "worker": annotator, "label": label}))
    _, workers = pd.factorize(annotator)
    _, names = pd.factorize(label)
    competence, spam = np.zeros(12), np.zeros((12, 3))
    # Of two states the second is knowing.
    competence[workers] = theirs.spamming_[:, 1]
    rows = np.zeros_like(theirs.thetas_)
    rows[:, names] = theirs.thetas_
    spam[workers] = rows
    reached, _ = plain_log_likelihood(competence, spam, item, annotator, label)
    found, _, _ = fit_mace(of_labels(item, annotator, label), prior=0)
    assert found.log_likelihood > reached - 1e-3
    right = found.posterior.argmax(1) == truth
    assert right.mean() >= (theirs.labels_.sort_index().to_numpy() == truth).mean() - 0.02


def test_a_judge_that_always_says_the_first_knows_nothing():
    a_better, _, _, votes = voted_world(4, n=400, each=5)
    n = len(a_better)
    first = np.random.default_rng(0).random(n) < 0.5
    judge = votes_of(np.arange(n), np.full(n, 99), first.astype(float), first)
    _, scores = mace(Votes(pl.concat([votes, judge])))
    assert score_of(scores, "competence")["human:0099"] < 0.02
    assert score_of(scores, "position_effect")["human:0099"] > 0.95
    value = pair_values(scores, n)
    without = pair_values(mace(votes)[1], n)
    assert np.abs(value - without).max() < 0.05


@pytest.mark.parametrize("options", [{}, {"position_effects": False}], ids=str)
def test_exchanging_a_and_b_exchanges_the_result(options):
    a_better, _, _, votes = voted_world(5, n=150)
    check_symmetries(lambda v: mace(v, tolerance=1e-9, **options), mixed(votes), len(a_better))


def test_abstaining_is_spam():
    votes = voted_world(6, n=200)[3]
    silent = pl.int_range(pl.len()) % 5 == 0
    votes = tables.typed(
        Votes,
        votes.with_columns(
            preference=pl.when(~silent).then("preference"),
            unscored=pl.when(silent).then(pl.lit("abstained")),
        ),
    )
    wanted, left_out = (
        score_of(mace(votes, abstentions=a)[1], "competence") for a in (True, False)
    )
    assert all(wanted[name] < left_out[name] for name in wanted)


def test_what_is_refused_and_what_few_votes_give():
    votes = voted_world(7, n=60)[3]
    with pytest.raises(RecipeError, match="prior is -1"):
        mace(votes, prior=-1)
    with pytest.raises(ConvergenceError, match="after 3 iterations"):
        mace(votes, max_iterations=3, tolerance=1e-12)
    one = pair_values(mace(votes_of([0, 1], [0, 1], [1.0, 0.0]))[1], 2)
    assert one[0] > 0.6
    assert one[1] == pytest.approx(1 - one[0])
    assert [made.height for made in mace(Votes(tables.empty("votes")))] == [0, 0]
