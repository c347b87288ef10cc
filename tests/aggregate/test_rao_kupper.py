"""Rao and Kupper: its optimum, what was planted, and what counting ties otherwise costs."""

import numpy as np
import pytest

from prefdata.aggregate._ties import Counts
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.aggregate.rao_kupper import fit_rao_kupper, law, rao_kupper
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
        t = np.exp(parameter)
        better, worse = (1 / (1 + t * np.exp(-s * d)) for s in (1, -1))
        return np.stack([better, (t**2 - 1) * better * worse, worse])

    return at


def fitted(counts, **options):
    return fit_rao_kupper(counts, **options)


fitted.law = law


def test_the_optimum_and_its_errors():
    check_optimum(fitted, probabilities_at, seed=0)


def test_intervals_cover_what_was_planted():
    check_coverage(fitted, probabilities_at, np.log(2.5))


def test_the_stage():
    check_stage(rao_kupper, probabilities_at, np.log(2.5))


def test_planted_world_and_what_dropping_or_halving_ties_costs():
    """40 items, about 12,000 votes: the parameter within 5 %, the slope within 0.05 of 1."""
    draw = np.random.default_rng(3)
    theta = draw.normal(size=40)
    counts = counts_of(draw, theta, probabilities_at(np.log(2.5)), 16)
    found = fit_rao_kupper(counts, n_items=40)
    assert np.exp(found.parameter) == pytest.approx(2.5, rel=0.05)
    assert np.corrcoef(theta, found.strengths)[0, 1] > 0.99
    assert 0.95 <= np.polyfit(theta, found.strengths, 1)[0] <= 1.05
    dropped = fit_bradley_terry(counts.one, counts.other, counts.wins, counts.losses, n_items=40)
    half = counts.wins + counts.ties / 2, counts.losses + counts.ties / 2
    halved = fit_bradley_terry(counts.one, counts.other, *half, n_items=40)
    assert np.polyfit(theta, dropped.strengths, 1)[0] > 1.2
    assert np.polyfit(theta, halved.strengths, 1)[0] < 0.92


def test_of_one_pair_the_shares_are_met():
    """Three outcomes on one pair, two parameters: without a prior the shares are reproduced."""
    counts = Counts(np.array([0]), np.array([1]), np.array([6.0]), np.array([3.0]), np.array([2.0]))
    found = fit_rao_kupper(counts, n_items=2, prior=0)
    shares = probabilities_at(found.parameter)(found.strengths[:1] - found.strengths[1:])
    assert np.allclose(shares[:, 0], np.array([6, 3, 2]) / 11, atol=1e-7)


def test_prior_0_is_refused_where_there_is_no_optimum():
    one, other, n = np.array([0, 1]), np.array([1, 2]), np.ones(2)
    none = np.zeros(2)
    with pytest.raises(ConvergenceError, match="never lose or tie"):
        fit_rao_kupper(Counts(one, other, n, none, none), n_items=3, prior=0)
    with pytest.raises(ConvergenceError, match="no vote is a tie"):
        fit_rao_kupper(Counts(one, other, n, none, n), n_items=3, prior=0)
    with pytest.raises(ConvergenceError, match="every vote is a tie"):
        fit_rao_kupper(Counts(one, other, none, n, none), n_items=3, prior=0)
    for wins, ties in ((n, none), (none, n)):
        assert np.isfinite(
            fit_rao_kupper(Counts(one, other, wins, ties, none), n_items=3).strengths
        ).all()
    votes = votes_from(Counts(one, other, n, n, n), 3)
    with pytest.raises(RecipeError, match="prior is -1"):
        rao_kupper(votes, prior=-1)
    with pytest.raises(ConvergenceError, match="after 1 iterations"):
        rao_kupper(votes, max_iterations=1)


def test_the_slopes_of_the_likelihood_are_zero_for_each_item():
    """Without a prior: what each item's wins and ties pull up is what its losses and ties pull."""
    draw = np.random.default_rng(4)
    counts = counts_of(draw, draw.normal(size=8), probabilities_at(np.log(2.5)), 30)
    found = fit_rao_kupper(counts, n_items=8, prior=0)
    d = found.strengths[counts.one] - found.strengths[counts.other]
    better, _, worse = probabilities_at(found.parameter)(d)
    up = (counts.wins + counts.ties) * (1 - better)
    down = (counts.losses + counts.ties) * (1 - worse)
    for item in range(8):
        here, there = counts.one == item, counts.other == item
        pull = (up - down)[here].sum() + (down - up)[there].sum()
        assert pull == pytest.approx(0, abs=1e-6)
