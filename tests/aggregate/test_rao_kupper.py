"""Rao and Kupper: its optimum, what was planted, and what counting ties otherwise costs."""

import numpy as np
import pytest

from prefdata.aggregate._ties import Counts
from prefdata.aggregate.rao_kupper import fit_rao_kupper, law, rao_kupper
from tests.aggregate.tied_games import (
    check_coverage,
    check_optimum,
    check_planted,
    check_refusals,
    check_stage,
    counts_of,
)

PLANTED = np.log(2.5)


def probabilities_at(parameter):
    """P(better), P(tie), P(worse) at a difference, from the paper's formula."""

    def at(d):
        t = np.exp(parameter)
        better, worse = (1 / (1 + t * np.exp(-s * d)) for s in (1, -1))
        return np.stack([better, (t**2 - 1) * better * worse, worse])

    return at


def test_the_optimum_and_its_errors():
    check_optimum(fit_rao_kupper, law, probabilities_at, seed=0)


def test_intervals_cover_what_was_planted():
    check_coverage(fit_rao_kupper, law, probabilities_at, PLANTED)


def test_the_stage():
    check_stage(rao_kupper, probabilities_at, PLANTED)


def test_what_is_refused():
    check_refusals(rao_kupper, fit_rao_kupper)


def test_planted_world_and_what_dropping_or_halving_ties_costs():
    dropped, halved = check_planted(fit_rao_kupper, probabilities_at, PLANTED)
    assert dropped > 1.2
    assert halved < 0.92


def test_of_one_pair_the_shares_are_met():
    """Three outcomes on one pair, two parameters: without a prior the shares are reproduced."""
    counts = Counts(np.array([0]), np.array([1]), np.array([6.0]), np.array([3.0]), np.array([2.0]))
    found = fit_rao_kupper(counts, n_items=2, prior=0)
    shares = probabilities_at(found.parameter)(found.strengths[:1] - found.strengths[1:])
    assert np.allclose(shares[:, 0], np.array([6, 3, 2]) / 11, atol=1e-7)


def test_the_slopes_of_the_likelihood_are_zero_for_each_item():
    """Without a prior: what each item's wins and ties pull up is what its losses and ties pull."""
    draw = np.random.default_rng(4)
    counts = counts_of(draw, draw.normal(size=8), probabilities_at(PLANTED), 30)
    found = fit_rao_kupper(counts, n_items=8, prior=0)
    d = found.strengths[counts.one] - found.strengths[counts.other]
    better, _, worse = probabilities_at(found.parameter)(d)
    up = (counts.wins + counts.ties) * (1 - better)
    down = (counts.losses + counts.ties) * (1 - worse)
    for item in range(8):
        here, there = counts.one == item, counts.other == item
        pull = (up - down)[here].sum() + (down - up)[there].sum()
        assert pull == pytest.approx(0, abs=1e-6)
