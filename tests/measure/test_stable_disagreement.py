"""Stable disagreement: units that people differ about are told from people who err."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.stable_disagreement import (
    Labels,
    fit_halves,
    spread,
    stable_disagreement,
)
from prefdata.tables import Ratings, Votes


def ratings_of(y, *, known=None, criterion="safety"):
    """Ratings from a matrix (completions, people); those where `known` is false are left out."""
    at, who = np.nonzero(np.ones(y.shape, bool) if known is None else known)
    frame = pl.DataFrame(
        {
            "completion_id": [f"c{n:04}" for n in at],
            "prompt_id": [f"p{n:04}" for n in at],
            "annotator": [f"human:{n:03}" for n in who],
            "criterion": criterion,
            "draw": 0,
            "rating": y[at, who].astype(float),
        }
    )
    return tables.typed(Ratings, frame)


def told(measures):
    return {row["measure"]: row for row in measures.to_dicts()}


def differing(seed, n_units=300, n_people=40):
    """Units whose share of yes is 0.1 or 0.5: on half of them people differ."""
    draw = np.random.default_rng(seed)
    is_split = draw.random(n_units) < 0.5
    p = np.where(is_split, 0.5, 0.1)
    return (draw.random((n_units, n_people)) < p[:, None]).astype(float), is_split


def erring(seed, n_units=300, n_people=40):
    """One truth for all, and everyone wrong at the same rate: the more they vary is chance."""
    draw = np.random.default_rng(seed)
    truth = draw.random(n_units) < 0.5
    wrong = draw.random((n_units, n_people)) < 0.25
    return (truth[:, None] ^ wrong).astype(float)


def test_units_that_people_differ_about_are_found():
    y, is_split = differing(0)
    scores, measures = stable_disagreement(ratings=ratings_of(y), n_splits=30)
    found = told(measures)
    assert found["stable_disagreement_ratings"]["low"] > 0.3
    assert abs(found["permuted_disagreement_ratings"]["value"]) < 0.05
    value = scores.sort("subject_id")["value"].to_numpy()
    assert value[is_split].mean() > value[~is_split].mean() + 0.1


def test_the_reliability_is_the_share_of_variance_that_another_panel_repeats():
    """Two panels of the same size, drawn anew: what Spearman and Brown foretell."""
    y, _ = differing(1, n_units=2000)
    measures = told(stable_disagreement(ratings=ratings_of(y), n_splits=5)[1])
    p = np.where(differing(1, n_units=2000)[1], 0.5, 0.1)
    other = (np.random.default_rng(99).random(y.shape) < p[:, None]).astype(float)
    met = np.corrcoef(y.var(1, ddof=1), other.var(1, ddof=1))[0, 1]
    assert measures["disagreement_reliability_ratings"]["value"] == pytest.approx(met, abs=0.04)


def test_people_who_err_alike_everywhere_show_nothing_stable():
    scores, measures = stable_disagreement(ratings=ratings_of(erring(0)), n_splits=10)
    row = told(measures)["stable_disagreement_ratings"]
    assert row["low"] <= 0 <= row["high"]
    assert scores["value"].std() < 0.02


@pytest.mark.parametrize(("world", "r"), [(erring, 0.0), (differing, None)])
def test_the_interval_covers_over_200_worlds(world, r):
    """Where half of the units are split r is that of as many units as one likes."""
    if r is None:
        r = halves(differing(1000, n_units=10_000, n_people=20)[0]).r
        assert r > 0.2
    found = []
    for seed in range(200):
        y = world(seed, n_units=120, n_people=20)
        found.append(halves(y[0] if isinstance(y, tuple) else y, seed))
    covered = [abs(each.r - r) <= 1.96 * each.error for each in found]
    assert 0.9 <= np.mean(covered) <= 0.99
    assert abs(np.mean([each.r for each in found]) - r) < 0.02


def halves(y, seed=0):
    unit, person = (at.ravel() for at in np.indices(y.shape))
    labels = Labels(unit, person, y.ravel(), np.arange(len(y)))
    return fit_halves(labels, n_splits=8, draw=np.random.default_rng(seed))


def test_correlating_all_people_with_themselves_would_call_noise_stable():
    """What a cheap version does: the same people in both halves."""
    y = erring(3)
    halves = y.var(1, ddof=1), y[:, :30].var(1, ddof=1)
    assert np.corrcoef(*halves)[0, 1] > 0.5


def test_habits_of_people_are_no_disagreement_about_units():
    """Half of the people say yes nearly always: they disagree with the others everywhere."""
    draw = np.random.default_rng(4)
    p = np.where(np.arange(40) < 20, 0.95, 0.05)
    y = (draw.random((300, 40)) < p).astype(float)
    row = told(stable_disagreement(ratings=ratings_of(y), n_splits=20)[1])
    assert row["stable_disagreement_ratings"]["low"] < 0.02


def test_dices_disagrees_about_the_same_items(shared):
    frame = shared("dices350_123raters.parquet")
    said = {"No": 0.0, "Unsure": 0.5, "Yes": 1.0}
    y = np.array([[said[each] for each in row] for row in frame["votes"].to_list()])
    scores, measures = stable_disagreement(ratings=ratings_of(y))
    found = told(measures)
    assert found["stable_disagreement_ratings"]["low"] > 0.5
    assert found["disagreement_reliability_ratings"]["value"] > 0.75
    permuted = found["permuted_disagreement_ratings"]
    assert abs(permuted["value"]) < 0.05
    assert permuted["low"] < 0 < permuted["high"] < found["stable_disagreement_ratings"]["low"]
    assert scores.height == 190


def test_the_spread_is_numpys():
    draw = np.random.default_rng(5)
    unit, value = draw.integers(0, 20, 200), draw.random(200)
    mine = spread(unit, value, 20)
    assert np.allclose(mine, [value[unit == at].var(ddof=1) for at in range(20)])
    assert np.isnan(spread(np.array([0]), np.array([1.0]), 2)).all()


def test_order_of_rows_draws_and_gaps(shuffled):
    y, _ = differing(6, n_units=60, n_people=12)
    known = np.random.default_rng(6).random(y.shape) < 0.7
    ratings = ratings_of(y, known=known)
    twice = tables.typed(
        Ratings, pl.concat([ratings, ratings.with_columns(draw=pl.lit(1, pl.Int64))])
    )
    one = stable_disagreement(ratings=ratings, n_splits=5)
    for other in (shuffled(ratings, 3), twice):
        for mine, its in zip(one, stable_disagreement(ratings=other, n_splits=5), strict=True):
            assert mine.equals(its)


def test_votes_are_units_of_two_and_unscored_ones_are_none():
    y, _ = differing(7, n_units=80, n_people=20)
    at, who = np.nonzero(np.ones(y.shape, bool))
    frame = pl.DataFrame(
        {
            "completion_a": [f"a{n:03}" for n in at],
            "completion_b": [f"b{n:03}" for n in at],
            "prompt_id": [f"p{n // 2:03}" for n in at],
            "annotator": [f"human:{n:03}" for n in who],
            "criterion": "quality",
            "draw": 0,
            "preference": y[at, who],
        }
    )
    lost = frame.head(20).with_columns(
        criterion=pl.lit("quality"),
        draw=1,
        preference=pl.lit(None, pl.Float64),
        unscored=pl.lit("no verdict"),
    )
    scores, measures = stable_disagreement(
        tables.typed(Votes, pl.concat([frame, lost], how="diagonal")), n_splits=5
    )
    by_ratings = stable_disagreement(ratings=ratings_of(y), n_splits=5)[1]
    value = told(measures)["stable_disagreement_votes"]["value"]
    assert value == told(by_ratings)["stable_disagreement_ratings"]["value"]
    assert scores["subject"].unique().to_list() == ["pair"]
    assert set(scores["subject_id"]) == set(
        tables.pair_ids(frame["completion_b"], frame["completion_a"])
    )


def test_what_cannot_be_known_is_null_with_its_reason():
    y = np.ones((10, 8))
    _, measures = stable_disagreement(ratings=ratings_of(y), n_splits=3)
    row = told(measures)["stable_disagreement_ratings"]
    assert row["value"] is None
    assert "alike" in row["note"]
    _, measures = stable_disagreement(ratings=ratings_of(y[:, :2]), n_splits=3)
    assert "two annotators" in told(measures)["stable_disagreement_ratings"]["note"]
    with pytest.raises(RecipeError, match="n_splits = 0"):
        stable_disagreement(ratings=ratings_of(y), n_splits=0)
    assert stable_disagreement()[1].is_empty()
