"""What is true of both models of ties, checked in each one's test file."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate._ties import Counts, standard_errors
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import votes_from


def counts_of(draw, theta, probabilities, n, pairs=None):
    """n votes on each two items, by P(better), P(tie), P(worse) at a difference."""
    i, j = np.triu_indices(len(theta), 1) if pairs is None else pairs
    p = np.stack(probabilities(theta[i] - theta[j]), 1)
    drawn = np.array([draw.multinomial(n, row) for row in p]).astype(float)
    return Counts(i, j, drawn[:, 0], drawn[:, 1], drawn[:, 2])


def votes_of_counts(counts):
    """The votes of counts, all on one prompt."""
    rows = []
    for one, other, *each in zip(
        counts.one, counts.other, counts.wins, counts.ties, counts.losses, strict=True
    ):
        for preference, n in zip((1.0, 0.5, 0.0), each, strict=True):
            rows += [("p", f"c{one:03}", f"c{other:03}", preference)] * int(n)
    return votes_from(rows)


def plain_log_likelihood(theta, probabilities, counts, prior):
    """From the model's formula, with the prior's votes."""
    p = np.log(probabilities(theta[counts.one] - theta[counts.other]))
    even = np.log(probabilities(np.zeros(1)))[:, 0]
    votes = (p * np.stack([counts.wins, counts.ties, counts.losses])).sum()
    shared = prior * (even[1] + even[0] / 2 + even[2] / 2)
    return votes + shared - prior * (np.logaddexp(0, theta) + np.logaddexp(0, -theta)).sum()


def check_optimum(fit, law, probabilities_at, seed):
    """The gradient of the plain likelihood is zero; errors are those of its Hessian."""
    draw, prior = np.random.default_rng(seed), 0.3
    counts = counts_of(draw, draw.normal(size=5), probabilities_at(0.5), 12)
    found = fit(counts, n_items=5, prior=prior)
    x = np.append(found.strengths - found.anchor, found.parameter)

    def f(x):
        return plain_log_likelihood(x[:-1], probabilities_at(x[-1]), counts, prior)

    h = 1e-4
    e = np.eye(6) * h
    gradient = [(f(x + a) - f(x - a)) / 2 / h for a in e]
    assert np.allclose(gradient, 0, atol=1e-5)
    assert found.residual < 1e-6
    hessian = [
        [(f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)) / 4 / h**2 for a in e]
        for b in e
    ]
    covariance = np.linalg.inv(-np.array(hessian))
    centre = np.eye(5) - 1 / 5
    of_item, of_difference, of_parameter = standard_errors(found, counts, law, prior=prior)
    among = centre @ covariance[:5, :5] @ centre
    assert np.allclose(of_item**2, np.diag(among), rtol=1e-3)
    apart = np.eye(5)[counts.one] - np.eye(5)[counts.other]
    assert np.allclose(of_difference**2, np.einsum("ki,ij,kj->k", apart, among, apart), rtol=1e-3)
    assert np.isclose(of_parameter**2, covariance[5, 5], rtol=1e-3)


def check_coverage(fit, law, probabilities_at, parameter):
    """95 % intervals over 200 worlds that share the parameter, one component each."""
    draw = np.random.default_rng(0)
    k, n_worlds = 5, 200
    i, j = np.triu_indices(k, 1)
    pairs = tuple((np.arange(n_worlds)[:, None] * k + side).ravel() for side in (i, j))
    theta = draw.normal(scale=0.7, size=(n_worlds, k))
    theta = (theta - theta.mean(1, keepdims=True)).ravel()
    counts = counts_of(draw, theta, probabilities_at(parameter), 20, pairs)
    found = fit(counts, n_items=n_worlds * k)
    of_item, _, of_parameter = standard_errors(found, counts, law, prior=0.1)
    assert 0.90 <= (np.abs(found.strengths - theta) < 1.96 * of_item).mean() <= 0.99
    assert abs(found.parameter - parameter) < 3 * of_parameter
    assert of_parameter < 0.1


def check_planted(fit, probabilities_at, parameter):
    """40 items, about 12,000 votes: the parameter within 5 %, the slope within 0.05 of 1.

    Gives the slopes of Bradley-Terry strengths with ties dropped, and with each as two halves.
    """
    draw = np.random.default_rng(3)
    theta = draw.normal(size=40)
    counts = counts_of(draw, theta, probabilities_at(parameter), 16)
    found = fit(counts, n_items=40)
    assert np.exp(found.parameter) == pytest.approx(np.exp(parameter), rel=0.05)
    assert np.corrcoef(theta, found.strengths)[0, 1] > 0.99
    assert 0.95 <= np.polyfit(theta, found.strengths, 1)[0] <= 1.05
    half = counts.ties / 2
    ways = (counts.wins, counts.losses), (counts.wins + half, counts.losses + half)
    plain = (fit_bradley_terry(counts.one, counts.other, *way, n_items=40) for way in ways)
    return [np.polyfit(theta, each.strengths, 1)[0] for each in plain]


def check_refusals(stage, fit):
    """A prior of 0 where there is no optimum, which any other prior has; and what is no option."""
    one, other, n = np.array([0, 1]), np.array([1, 2]), np.ones(2)
    none = np.zeros(2)
    for wins, ties, losses, why in (
        (n, none, none, "never lose or tie"),
        (n, none, n, "no vote is a tie"),
        (none, n, none, "every vote is a tie"),
    ):
        counts = Counts(one, other, wins, ties, losses)
        with pytest.raises(ConvergenceError, match=why):
            fit(counts, n_items=3, prior=0)
        assert np.isfinite(fit(counts, n_items=3).strengths).all()
    votes = votes_of_counts(Counts(one, other, n, n, n))
    with pytest.raises(RecipeError, match="prior is -1"):
        stage(votes, prior=-1)
    with pytest.raises(ConvergenceError, match="after 1 iterations"):
        stage(votes, max_iterations=1)


def check_stage(stage, probabilities_at, parameter):
    """Invariances, and that the table says what the model says."""
    draw = np.random.default_rng(1)
    votes = votes_of_counts(counts_of(draw, draw.normal(size=6), probabilities_at(parameter), 9))
    whole = [
        tables.check(n, t, where="t")
        for n, t in zip(("strengths", "scores"), stage(votes), strict=True)
    ]
    mixed = stage(Votes(votes.sample(fraction=1, shuffle=True, seed=0)))
    for name, one, other in zip(("strengths", "scores"), whole, mixed, strict=True):
        assert tables.check(name, other, where="t").equals(one)
    turned, scores = stage(Votes(votes.with_columns(preference=1 - pl.col("preference"))))
    assert np.allclose(turned["strength"], -whole[0]["strength"], atol=1e-7)

    def score(table, name):
        return table.filter(pl.col("score") == name).sort("subject_id")["value"].to_numpy()

    assert np.allclose(score(scores, "preference"), 1 - score(whole[1], "preference"), atol=1e-7)
    assert np.allclose(score(scores, "tie"), score(whole[1], "tie"), atol=1e-7)
    first = (
        votes.select("completion_a", "completion_b").unique().sort("completion_a", "completion_b")
    )
    strength = dict(whole[0].select("completion_id", "strength").iter_rows())
    d = np.array([strength[a] - strength[b] for a, b in first.iter_rows()])
    shown = whole[1].filter(pl.col("subject") == "annotator")["value"][0]
    better, tie, _ = probabilities_at(np.log(shown))(d)
    ids = tables.pair_ids(first["completion_a"], first["completion_b"])
    for name, expected in (("preference", better + tie / 2), ("tie", tie)):
        known = dict(
            whole[1].filter(pl.col("score") == name).select("subject_id", "value").iter_rows()
        )
        assert np.allclose([known[i] for i in ids], expected, atol=1e-7)
    assert [t.height for t in stage(Votes(tables.empty("votes")))] == [0, 0]
