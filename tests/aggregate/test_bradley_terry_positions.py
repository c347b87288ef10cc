"""Bradley-Terry with position effects: its optimum, planted effects, judges who look at nothing."""

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from prefdata import tables
from prefdata.aggregate._positions import Shown, fit_positions, standard_errors
from prefdata.aggregate.bradley_terry import bradley_terry
from prefdata.aggregate.reliability import reliability
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import score_of


def asked(seed, effects, n_prompts=40, k=3, blind=0, better_first=None):
    """Strengths (prompts, completions) and votes in both orders by judges of planted effects.

    `blind` more always say the first. With `better_first` each comparison is shown in one order,
    that with the better one first with that probability.
    """
    draw = np.random.default_rng(seed)
    theta = draw.normal(size=(n_prompts, k))
    i, j = np.triu_indices(k, 1)
    p, at = (x.ravel() for x in np.indices((n_prompts, len(i))))
    apart = (theta[:, i] - theta[:, j]).ravel()
    frames = []
    for judge, effect in enumerate([*effects, *[np.inf] * blind]):
        orders = [np.full(len(p), 1.0), np.full(len(p), -1.0)]
        if better_first is not None:
            orders = [np.where(draw.random(len(p)) < better_first, 1, -1) * np.sign(apart)]
        for z in orders:
            won = draw.random(len(p)) < expit(apart + effect * z)
            columns = {
                "prompt_id": [f"p{x:03}" for x in p],
                "completion_a": [f"p{x:03}/{i[y]}" for x, y in zip(p, at, strict=True)],
                "completion_b": [f"p{x:03}/{j[y]}" for x, y in zip(p, at, strict=True)],
                "a_first": z > 0,
                "preference": won.astype(float),
            }
            name = f"llm:{'blind' if np.isinf(effect) else 'judge'}{judge}"
            frames.append(pl.DataFrame(columns).with_columns(annotator=pl.lit(name)))
    votes = pl.concat(frames).with_columns(criterion=pl.lit("quality"), draw=pl.lit(0))
    return theta, tables.typed(Votes, votes)


def ordered(votes, **options):
    return bradley_terry(votes, position_effects=True, **options)


def without_blind(votes):
    return Votes(votes.filter(~pl.col("annotator").str.contains("blind")))


def random_shown(seed, n=80, n_items=9, n_annotators=3):
    draw = np.random.default_rng(seed)
    one, other = draw.integers(0, n_items, (2, n))
    kept = one != other
    one, other = one[kept], other[kept]
    share, weight = draw.random(len(one)), draw.exponential(2, len(one))
    return Shown(
        one,
        other,
        draw.integers(0, n_annotators, len(one)),
        draw.choice([-1.0, 0.0, 1.0], len(one)),
        share * weight,
        (1 - share) * weight,
    )


@pytest.mark.parametrize("prior", [0.05, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_expected_wins_are_observed_wins_of_items_and_of_places(seed, prior):
    s = random_shown(seed)
    fit = fit_positions(s, n_items=9, n_annotators=3, prior=prior)
    theta = fit.strengths - fit.anchor
    p = expit(fit.strengths[s.one] - fit.strengths[s.other] + fit.effects[s.annotator] * s.place)
    more = s.wins - (s.wins + s.losses) * p
    for item in range(9):
        left = more[s.one == item].sum() - more[s.other == item].sum()
        assert left == pytest.approx(prior * (2 * expit(theta[item]) - 1), abs=1e-6)
    for who in range(3):
        left = (more * s.place)[s.annotator == who].sum()
        assert left == pytest.approx(prior * (2 * expit(fit.effects[who]) - 1), abs=1e-6)
    assert fit.residual < 1e-6


def test_scikit_learns_logistic_regression_has_the_same_optimum():
    """The prior written as votes for and against each parameter."""
    s, prior = random_shown(7), 0.4
    fit = fit_positions(s, n_items=9, n_annotators=3, prior=prior)
    design = np.zeros((len(s.one), 12))
    rows = np.arange(len(s.one))
    design[rows, s.one], design[rows, s.other] = 1, -1
    design[rows, 9 + s.annotator] = s.place
    x = np.concatenate([design, design, np.eye(12), np.eye(12)])
    y = np.repeat([1, 0, 1, 0], [len(rows), len(rows), 12, 12])
    weight = np.concatenate([s.wins, s.losses, np.full(24, prior)])
    theirs = LogisticRegression(
        C=np.inf, fit_intercept=False, tol=1e-10, max_iter=10_000
    ).fit(x, y, weight).coef_[0]  # fmt: skip
    assert np.allclose(fit.strengths, theirs[:9] - theirs[:9].mean(), atol=1e-4)
    assert np.allclose(fit.effects, theirs[9:], atol=1e-4)


def test_errors_are_those_of_the_whole_information_matrix():
    s, prior = random_shown(8), 0.3
    fit = fit_positions(s, n_items=9, n_annotators=3, prior=prior)
    of_item, of_difference, of_effect = standard_errors(fit, s, prior=prior)
    design = np.zeros((len(s.one), 12))
    rows = np.arange(len(s.one))
    design[rows, s.one], design[rows, s.other] = 1, -1
    design[rows, 9 + s.annotator] = s.place
    x = np.concatenate([fit.strengths - fit.anchor, fit.effects])
    p = expit(design @ x)
    own = 2 * prior * expit(x) * expit(-x)
    matrix = design.T @ (design * ((s.wins + s.losses) * p * (1 - p))[:, None]) + np.diag(own)
    centre = np.eye(12)
    centre[:9, :9] -= 1 / 9
    covariance = centre @ np.linalg.inv(matrix) @ centre.T
    assert np.allclose(np.concatenate([of_item, of_effect]), np.sqrt(np.diag(covariance)))
    apart = design[:, :9] @ covariance[:9, :9] @ design[:, :9].T
    assert np.allclose(of_difference, np.sqrt(np.diag(apart)))


def test_planted_effects_and_strengths_are_covered_over_seeds_0_to_199():
    """With 42 votes a completion; with few, effects as differences come out too far from 0."""
    planted, effects, strengths = np.array([-0.5, 0.0, 1.5]), [], []
    n_prompts, k = 6, 8
    i, j = np.triu_indices(k, 1)
    item = np.arange(n_prompts)[:, None] * k
    one, other = ((item + side).ravel() for side in (i, j))
    who, z = np.repeat(range(3), 2 * len(one)), np.tile(np.repeat([1.0, -1.0], len(one)), 3)
    one, other = np.tile(one, 6), np.tile(other, 6)
    for seed in range(200):
        draw = np.random.default_rng(seed)
        theta = draw.normal(size=(n_prompts, k))
        theta = (theta - theta.mean(1, keepdims=True)).ravel()
        won = draw.random(len(one)) < expit(theta[one] - theta[other] + planted[who] * z)
        shown = Shown(one, other, who, z, won.astype(float), 1.0 - won)
        fit = fit_positions(shown, n_items=n_prompts * k, n_annotators=3)
        of_item, _, of_effect = standard_errors(fit, shown, prior=0.1)
        effects.append(np.abs(fit.effects - planted) < 1.96 * of_effect)
        strengths.append(np.abs(fit.strengths - theta) < 1.96 * of_item)
    assert np.all((np.mean(effects, 0) >= 0.92) & (np.mean(effects, 0) <= 0.98))
    assert 0.92 <= np.mean(strengths) <= 0.98


def test_quality_that_is_mostly_shown_first_is_told_from_the_place():
    """The plain model takes the place for quality, and strengths come out too far apart."""
    theta, votes = asked(1, [1.2] * 8, n_prompts=150, k=4, better_first=0.8)
    truth = (theta - theta.mean(1, keepdims=True)).ravel()
    slopes = [
        np.polyfit(truth, made.sort("completion_id")["strength"], 1)[0]
        for made in (ordered(votes)[0], bradley_terry(votes)[0])
    ]
    assert slopes[0] == pytest.approx(1, abs=0.15)
    assert slopes[1] > slopes[0] + 0.2
    effects = list(score_of(ordered(votes)[1], "position_effect").values())
    assert np.mean(effects) == pytest.approx(1.2, abs=0.1)


@pytest.mark.parametrize("blind", [1, 3])
def test_who_always_says_the_first_has_next_to_no_influence(blind):
    """By much less than their errors, where three of them pull the plain strengths to a half."""
    _, votes = asked(2, [0.0, 0.3, 0.5, -0.2, 0.1], n_prompts=80, k=4, blind=blind)
    changed = {}
    for name, fit in (("plain", bradley_terry), ("ordered", ordered), ("reliable", reliability)):
        with_them, alone = fit(votes), fit(without_blind(votes))
        both = with_them[0].join(alone[0], on="completion_id")
        p = [
            np.array(list(score_of(made[1], "preference").values())) for made in (with_them, alone)
        ]
        moved = (both["strength"] - both["strength_right"]).abs() / both["stderr_right"]
        changed[name] = moved.max(), np.abs(p[0] - p[1]).max()
    assert changed["ordered"][0] < 0.2
    assert changed["ordered"][1] < 0.01
    assert changed["reliable"][0] < 0.1
    assert changed["reliable"][1] < 0.02
    assert changed["plain"][0] > 1
    assert changed["plain"][1] > 0.1
    effects = score_of(ordered(votes)[1], "position_effect")
    assert all((value > 5) == ("blind" in who) for who, value in effects.items())


def test_votes_of_unknown_order_are_those_of_the_plain_model():
    _, votes = asked(3, [0.4, -0.4])
    draw = pl.col("a_first").cast(pl.Int64)
    unknown = Votes(votes.with_columns(a_first=pl.lit(None, pl.Boolean), draw=draw))
    made, plain = ordered(unknown), bradley_terry(unknown)
    assert score_of(made[1], "position_effect") == {}
    for one, other in zip(made, plain, strict=True):
        for column in ("strength", "value", "stderr"):
            if column in one.columns:
                assert np.allclose(one[column], other[column], atol=1e-7)


def test_row_order_does_not_matter_and_turning_the_sides_keeps_the_effects(shuffled):
    _, votes = asked(4, [0.7, -0.3, 0.0])
    made = ordered(votes)
    for one, other in zip(made, ordered(Votes(shuffled(votes, 1))), strict=True):
        assert one.equals(other)
    turned = ordered(
        Votes(votes.with_columns(preference=1 - pl.col("preference"), a_first=~pl.col("a_first")))
    )
    assert np.allclose(made[0]["strength"], -turned[0]["strength"], atol=1e-7)
    effects = [list(score_of(each[1], "position_effect").values()) for each in (made, turned)]
    assert np.allclose(*effects, atol=1e-7)
    for name, table in zip(("strengths", "scores"), made, strict=True):
        tables.check(name, table, where="here")


def test_what_is_refused_and_what_nothing_gives():
    _, votes = asked(5, [0.2], n_prompts=3)
    with pytest.raises(RecipeError, match="prior above 0"):
        ordered(votes, prior=0)
    with pytest.raises(ConvergenceError, match=r"residual .* after 1 iterations"):
        ordered(votes, max_iterations=1)
    assert [made.height for made in ordered(Votes(tables.empty("votes")))] == [0, 0]
