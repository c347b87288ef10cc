"""Reliability of annotators that vote more than once on a pair: in both orders, in other draws."""

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad

from prefdata import tables
from prefdata.aggregate.reliability import reliability
from prefdata.tables import Votes
from tests.aggregate.planted import preferences_of, score_of

NAMES = [f"p{i:03}" for i in range(300)]


def world(seed, slopes, n=300, likes=0.0, own=0.0, pair_error=0.0, orders=(True, False)):
    """Differences, and votes in all `orders` of judges: by the difference, what the judge likes
    in first place, its own error on the pair, and the error of all on the pair."""
    draw = np.random.default_rng(seed)
    strength = draw.normal(size=(n, 2))
    difference = strength[:, 0] - strength[:, 1]
    common = draw.normal(size=n) * pair_error
    names = [f"p{i:03}" for i in range(n)]
    made = []
    for judge, slope in enumerate(slopes):
        mine = slope * difference + draw.normal(size=n) * own + common
        for first in orders:
            odds = mine + (likes if first else -likes)
            made.append(votes_of(names, f"llm:m/{judge:02}", first, draw.random(n) < expit(odds)))
    return difference, pl.concat(made)


def expit(x):
    return 1 / (1 + np.exp(-x))


def votes_of(names, who, first, won, draw=0):
    return pl.DataFrame(
        {
            "completion_a": [f"{name}/a" for name in names],
            "completion_b": [f"{name}/b" for name in names],
            "prompt_id": names,
            "annotator": who,
            "a_first": first,
            "draw": draw,
            "preference": np.asarray(won, float),
        }
    )


def fitted(frame, **options):
    frame = frame.with_columns(criterion=pl.lit("quality"), unscored=pl.lit(None, pl.String))
    return reliability(tables.typed(Votes, frame), **options)


def truth_on_odds(p, better):
    """The slope of the truth on the log-odds stated: 1 where they are calibrated."""
    odds = np.log(p / (1 - p))
    low, high = 0.0, 20.0
    for _ in range(60):
        slope = (low + high) / 2
        rises = (odds * (better - expit(slope * odds))).sum() > 0
        low, high = (slope, high) if rises else (low, slope)
    return slope


def value(measures, name):
    return measures.filter(pl.col("measure") == name)["value"].item()


@pytest.mark.parametrize(
    ("n_judges", "slope", "likes"),
    [(1, 1.0, 0.0), (1, 1.0, 1.0), (3, 0.5, 0.0), (3, 1.0, 1.0), (3, 2.0, 0.0), (12, 0.5, 0.0),
     (12, 2.0, 0.0)],
)  # fmt: skip
def test_noise_of_judges_asked_in_both_orders_counts_once(n_judges, slope, likes):
    """More evidence does not flatten: discriminations, strengths and P come out as planted."""
    stated, better, slopes = [], [], []
    for seed in range(3):
        difference, votes = world(seed, [slope] * n_judges, likes=likes)
        strengths, scores, _ = fitted(votes)
        stated.append(preferences_of(scores, NAMES))
        better.append(difference > 0)
        slopes += score_of(scores, "discrimination").values()
        assert strengths["strength"].std() > 0.25
    assert abs(np.mean(slopes) - slope) < 0.2 * max(slope, 1)
    assert 0.75 < truth_on_odds(np.concatenate(stated), np.concatenate(better)) < 1.3


def test_p_is_the_integral_over_the_difference():
    """Of a judge with the discrimination and position effect reported, by adaptive quadrature."""
    _, votes = world(3, [1.5], n=60, likes=0.7)
    _, scores, measures = fitted(votes)
    assert value(measures, "design_effect") == 1
    slope, likes = (
        next(iter(score_of(scores, name).values()))
        for name in ("discrimination", "position_effect")
    )
    p = preferences_of(scores, NAMES[:60])
    by_pair = votes.sort("prompt_id", "a_first")["preference"].to_numpy().reshape(-1, 2)
    for second, first in {tuple(x) for x in by_pair.tolist()}:

        def density(d, first=first, second=second):
            one, other = expit(slope * d + likes), expit(slope * d - likes)
            said = (one if first else 1 - one) * (other if second else 1 - other)
            return said * np.exp(-d * d / 4)

        exact = quad(density, 0, 12)[0] / quad(density, -12, 12)[0]
        rows = (by_pair == (second, first)).all(1)
        assert np.allclose(p[rows], exact, atol=2e-3)


def test_who_always_says_the_first_has_no_influence():
    _, votes = world(4, [1.0] * 3)
    names = [f"p{i:03}" for i in range(300)]
    always = [
        votes_of(names, f"llm:m/first{k}", first, [first] * 300)
        for k in range(5)
        for first in (True, False)
    ]
    without = fitted(votes)[1]
    scores = fitted(pl.concat([votes, *always]), copies=2.0)[1]
    slopes = score_of(scores, "discrimination")
    assert all(abs(slopes[f"llm:m/first{k}"]) < 0.2 for k in range(5))
    assert np.abs(preferences_of(scores, NAMES) - preferences_of(without, NAMES)).max() < 0.08
    assert min(score_of(scores, "position_effect")[f"llm:m/first{k}"] for k in range(5)) > 2


def test_an_error_that_each_repeats_is_not_the_truth():
    difference, votes = world(0, [1.0] * 8, own=1.5)
    _, scores, measures = fitted(votes)
    assert abs(value(measures, "own_error") - 1.5) < 0.4
    assert abs(np.mean(list(score_of(scores, "discrimination").values())) - 1) < 0.25
    p = preferences_of(scores, NAMES)
    assert ((p > 0.5) == (difference > 0)).mean() > 0.8
    assert truth_on_odds(p, difference > 0) > 0.8, "not surer than right"


def test_an_error_that_all_share_is_told_from_the_truth_by_who_sees_more_of_it():
    """The majority follows the error; the two that see most of the truth are found."""
    slopes = [0.2] * 6 + [2.5, 3.0]
    difference, votes = world(1, slopes, pair_error=2.0)
    _, scores, measures = fitted(votes)
    assert abs(value(measures, "pair_error") - 2) < 0.6
    found = np.array(list(score_of(scores, "discrimination").values()))
    assert np.corrcoef(found, slopes)[0, 1] > 0.95
    share = votes.group_by("prompt_id").agg(pl.mean("preference")).sort("prompt_id")["preference"]
    better = difference > 0
    p = preferences_of(scores, NAMES)
    assert ((p > 0.5) == better).mean() > ((share.to_numpy() > 0.5) == better).mean() + 0.1


def test_no_shared_error_is_found_where_there_is_none():
    for seed, orders in ((0, (True, False)), (1, (True,))):
        _, votes = world(seed, [0.5, 1.0, 1.5, 2.0], orders=orders)
        measures = fitted(votes)[2]
        assert value(measures, "pair_error") == value(measures, "own_error") == 0


def test_the_same_replies_again_make_nobody_surer():
    """Three draws without chance say what one says."""
    difference, votes = world(5, [1.0] * 6, orders=(True,))
    again = pl.concat([votes.with_columns(draw=pl.lit(k)) for k in range(3)])
    once, thrice = (preferences_of(fitted(v)[1], NAMES) for v in (votes, again))
    better = difference > 0
    assert truth_on_odds(thrice, better) > 0.6
    assert np.corrcoef(once, thrice)[0, 1] > 0.95


def test_order_of_rows_and_sides_do_not_matter_with_shared_errors(shuffled):
    _, votes = world(6, [0.2, 0.2, 2.0, 2.5], n=80, pair_error=2.0)
    base, mixed = fitted(votes), fitted(shuffled(votes, 1))
    assert value(base[2], "pair_error") > 0
    assert np.array_equal(preferences_of(base[1], NAMES[:80]), preferences_of(mixed[1], NAMES[:80]))
    turned = votes.with_columns(preference=1 - pl.col("preference"), a_first=~pl.col("a_first"))
    assert np.allclose(
        preferences_of(fitted(turned)[1], NAMES[:80]),
        1 - preferences_of(base[1], NAMES[:80]),
        atol=1e-6,
    )
