"""Davidson: its optimum, planted strengths and nu, and what counting ties otherwise costs."""

import numpy as np
import pytest

from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.aggregate.davidson import davidson, fit_davidson, law
from tests.aggregate.tied_games import (
    check_coverage,
    check_optimum,
    check_planted,
    check_refusals,
    check_stage,
    counts_of,
)

PLANTED = np.log(1.5)


def probabilities_at(parameter):
    """P(better), P(tie), P(worse) at a difference, from the paper's formula."""

    def at(d):
        both = np.stack([np.exp(d / 2), np.full_like(d, np.exp(parameter)), np.exp(-d / 2)])
        return both / both.sum(0)

    return at


def test_the_optimum_and_its_errors():
    check_optimum(fit_davidson, law, probabilities_at, seed=0)


def test_intervals_cover_what_was_planted():
    check_coverage(fit_davidson, law, probabilities_at, PLANTED)


def test_the_stage():
    check_stage(davidson, probabilities_at, PLANTED)


def test_what_is_refused():
    check_refusals(davidson, fit_davidson)


def test_planted_world_and_what_dropping_or_halving_ties_costs():
    dropped, halved = check_planted(fit_davidson, probabilities_at, PLANTED)
    assert halved < 0.85
    # Decisions alone follow Bradley-Terry here: what dropping costs is precision, not the slope.
    assert 0.95 <= dropped <= 1.05


def test_without_ties_it_is_bradley_terry():
    draw = np.random.default_rng(5)
    counts = counts_of(draw, draw.normal(size=10), probabilities_at(-np.inf), 20)
    assert not counts.ties.any()
    found = fit_davidson(counts, n_items=10, prior=1e-6)
    plain = fit_bradley_terry(
        counts.one, counts.other, counts.wins, counts.losses, n_items=10, prior=1e-6
    )
    assert np.allclose(found.strengths, plain.strengths, atol=1e-4)


def test_expected_are_observed_wins_and_ties():
    """Without a prior: each item's wins and half ties, and all ties, are as expected."""
    draw = np.random.default_rng(4)
    counts = counts_of(draw, draw.normal(size=8), probabilities_at(PLANTED), 30)
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
