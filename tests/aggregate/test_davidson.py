"""Davidson: its optimum, planted strengths and nu, and what counting ties otherwise costs."""

import numpy as np
import pytest

from prefdata.aggregate._ties import Counts
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.aggregate.davidson import davidson, fit_davidson, law
from prefdata.errors import ConvergenceError, RecipeError
from tests.aggregate.tied_games import (
    check_coverage,
    check_optimum,
    check_stage,
    counts_of,
    votes_from,
)


def probabilities_at(parameter):
    """P(better), P(tie), P(worse) at a difference, from the paper's formula."""

    def at(d):
        both = np.stack([np.exp(d / 2), np.full_like(d, np.exp(parameter)), np.exp(-d / 2)])
        return both / both.sum(0)

    return at


def fitted(counts, **options):
    return fit_davidson(counts, **options)


fitted.law = law


def test_the_optimum_and_its_errors():
    check_optimum(fitted, probabilities_at, seed=0)


def test_intervals_cover_what_was_planted():
    check_coverage(fitted, probabilities_at, np.log(1.5))


def test_the_stage():
    check_stage(davidson, probabilities_at, np.log(1.5))


def test_planted_world_and_what_dropping_or_halving_ties_costs():
    """40 items, about 12,000 votes: the parameter within 5 %, the slope within 0.05 of 1."""
    draw = np.random.default_rng(3)
    theta = draw.normal(size=40)
    counts = counts_of(draw, theta, probabilities_at(np.log(1.5)), 16)
    found = fit_davidson(counts, n_items=40)
    assert np.exp(found.parameter) == pytest.approx(1.5, rel=0.05)
    assert np.corrcoef(theta, found.strengths)[0, 1] > 0.99
    assert 0.95 <= np.polyfit(theta, found.strengths, 1)[0] <= 1.05
    dropped = fit_bradley_terry(counts.one, counts.other, counts.wins, counts.losses, n_items=40)
    half = counts.wins + counts.ties / 2, counts.losses + counts.ties / 2
    halved = fit_bradley_terry(counts.one, counts.other, *half, n_items=40)
    assert np.polyfit(theta, halved.strengths, 1)[0] < 0.85
    # Decisions alone follow Bradley-Terry here: what dropping costs is precision, not the slope.
    assert 0.95 <= np.polyfit(theta, dropped.strengths, 1)[0] <= 1.05


def test_without_ties_it_is_bradley_terry():
    draw = np.random.default_rng(5)
    counts = counts_of(draw, draw.normal(size=10), probabilities_at(-np.inf), 20)
    assert not counts.ties.any()
    found = fit_davidson(counts, n_items=10, prior=1e-6)
    plain = fit_bradley_terry(
        counts.one, counts.other, counts.wins, counts.losses, n_items=10, prior=1e-6
    )
    assert np.allclose(found.strengths, plain.strengths, atol=1e-4)


def test_prior_0_is_refused_where_there_is_no_optimum():
    one, other, n = np.array([0, 1]), np.array([1, 2]), np.ones(2)
    none = np.zeros(2)
    with pytest.raises(ConvergenceError, match="never lose or tie"):
        fit_davidson(Counts(one, other, n, none, none), n_items=3, prior=0)
    with pytest.raises(ConvergenceError, match="no vote is a tie"):
        fit_davidson(Counts(one, other, n, none, n), n_items=3, prior=0)
    with pytest.raises(ConvergenceError, match="every vote is a tie"):
        fit_davidson(Counts(one, other, none, n, none), n_items=3, prior=0)
    for wins, ties in ((n, none), (none, n)):
        assert np.isfinite(
            fit_davidson(Counts(one, other, wins, ties, none), n_items=3).strengths
        ).all()
    votes = votes_from(Counts(one, other, n, n, n), 3)
    with pytest.raises(RecipeError, match="prior is -1"):
        davidson(votes, prior=-1)
    with pytest.raises(ConvergenceError, match="after 1 iterations"):
        davidson(votes, max_iterations=1)


def test_expected_are_observed_wins_and_ties():
    """Without a prior: each item's wins and half ties, and all ties, are as expected."""
    draw = np.random.default_rng(4)
    counts = counts_of(draw, draw.normal(size=8), probabilities_at(np.log(1.5)), 30)
    found = fit_davidson(counts, n_items=8, prior=0)
    d = found.strengths[counts.one] - found.strengths[counts.other]
    better, tie, worse = probabilities_at(found.parameter)(d)
    n = counts.wins + counts.ties + counts.losses
    for item in range(8):
        here, there = counts.one == item, counts.other == item
        observed = (counts.wins + counts.ties / 2)[here].sum()
        observed += (counts.losses + counts.ties / 2)[there].sum()
        expected = (n * (better + tie / 2))[here].sum() + (n * (worse + tie / 2))[there].sum()
        assert observed == pytest.approx(expected, abs=1e-6)
    assert counts.ties.sum() == pytest.approx((n * tie).sum(), abs=1e-6)
