"""Ratings on each person's own scale: scales of people are planted and taken out again."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from prefdata import tables
from prefdata.aggregate.mean_rating import mean_rating
from prefdata.aggregate.within_user import within_user
from prefdata.errors import RecipeError
from prefdata.tables import Ratings


def ratings_of(y, *, known=None, criterion="quality"):
    """Ratings from a matrix (completions, people); those where `known` is false are left out."""
    at, who = np.nonzero(np.ones(y.shape, bool) if known is None else known)
    frame = pl.DataFrame(
        {
            "completion_id": [f"c{n:03}" for n in at],
            "prompt_id": "p",
            "annotator": [f"human:{n:03}" for n in who],
            "criterion": criterion,
            "draw": 0,
            "rating": y[at, who].astype(float),
        }
    )
    return tables.typed(Ratings, frame)


def values(strengths):
    return strengths.sort("completion_id")["strength"].to_numpy()


def planted(seed, n_items=40, n_people=30):
    """Qualities, and ratings of them on scales whose beginning and reach differ by person."""
    draw = np.random.default_rng(seed)
    quality = draw.normal(size=n_items)
    begin, reach = draw.uniform(0.3, 0.7, n_people), np.exp(draw.normal(-3.2, 0.6, n_people))
    y = begin + reach * (quality[:, None] + 0.5 * draw.normal(size=(n_items, n_people)))
    return y.clip(0, 1), quality


def test_offset_and_reach_of_a_person_change_nothing():
    y, _ = planted(0)
    draw = np.random.default_rng(1)
    moved = 0.4 * y + draw.uniform(0, 0.5, y.shape[1])
    stretched = y * draw.uniform(0.3, 1, y.shape[1]) * 0.5 + 0.1
    assert np.allclose(
        values(within_user(ratings_of(y), scale="offset")[0]) * 0.4,
        values(within_user(ratings_of(moved), scale="offset")[0]),
    )
    for scale in ("z", "rank"):
        one = values(within_user(ratings_of(y), scale=scale)[0])
        assert np.allclose(one, values(within_user(ratings_of(stretched), scale=scale)[0]))


def test_only_the_order_of_a_persons_ratings_counts_by_rank():
    y, _ = planted(2)
    one = values(within_user(ratings_of(y), scale="rank")[0])
    assert np.allclose(one, values(within_user(ratings_of(y**3), scale="rank")[0]))


def test_z_is_scipys_and_its_mean_over_people():
    y, _ = planted(3)
    strengths, scores = within_user(ratings_of(y))
    z = stats.zscore(y)
    assert np.allclose(values(strengths), z.mean(1))
    error = strengths.sort("completion_id")["stderr"].to_numpy()
    assert np.allclose(error, stats.sem(z, axis=1))
    spread = scores.filter(pl.col("score") == "rating_spread").sort("subject_id")
    assert np.allclose(spread["value"], y.std(0))


def test_people_have_mean_0_and_spread_1_on_their_own_scale():
    """One completion of a person each, so that its strength is that person's rating."""
    y, _ = planted(4)
    people = y.shape[1]
    wide = ratings_of(y).with_columns(
        completion_id=pl.concat_str("completion_id", "annotator", separator=" ")
    )
    strengths, _ = within_user(tables.typed(Ratings, wide))
    by_person = strengths.with_columns(
        who=pl.col("completion_id").str.split(" ").list.last()
    ).group_by("who")
    told = by_person.agg(mean=pl.mean("strength"), spread=pl.std("strength", ddof=0))
    assert told.height == people
    assert told["mean"].var() < 1e-9
    assert np.allclose(told["spread"], 1)


def test_quality_is_found_better_than_by_pooled_ratings_where_people_see_different_parts():
    mine, pooled = [], []
    for seed in range(8):
        y, quality = planted(seed, n_items=60, n_people=40)
        known = np.random.default_rng(seed).random(y.shape) < 0.2
        ratings = ratings_of(y, known=known)
        there = known.any(1)
        for found, made in ((mine, within_user(ratings)[0]), (pooled, mean_rating(ratings))):
            found.append(stats.spearmanr(values(made), quality[there]).statistic)
    assert np.mean(mine) > np.mean(pooled) + 0.05
    assert np.mean(mine) > 0.8


def test_a_person_who_tells_nothing_apart_says_nothing():
    y, _ = planted(5)
    y[:, 0] = 0.7
    strengths, scores = within_user(ratings_of(y))
    assert np.allclose(values(strengths), stats.zscore(y[:, 1:]).sum(1) / y.shape[1])
    mine = scores.filter((pl.col("score") == "rating_spread") & (pl.col("value") == 0))
    assert mine["subject_id"].to_list() == ["human:000"]


def test_criteria_are_weighed_and_each_has_a_scale_of_its_own():
    y, _ = planted(6)
    other, _ = planted(7)
    both = tables.typed(
        Ratings,
        pl.concat([ratings_of(y), ratings_of(other * 0.1 + 0.9, criterion="style")]),
    )
    strengths, _ = within_user(both, weights={"quality": 3.0})
    expected = (3 * stats.zscore(y).mean(1) + stats.zscore(other).mean(1)) / 4
    assert np.allclose(values(strengths), expected)
    only, _ = within_user(both, criteria=["style"])
    assert np.allclose(values(only), stats.zscore(other).mean(1))


def test_rows_in_any_order_repeated_draws_and_unscored_ratings(shuffled):
    y, _ = planted(8, n_items=12, n_people=5)
    ratings = ratings_of(y)
    again = ratings.with_columns(draw=pl.lit(1, pl.Int64))
    lost = ratings.head(7).with_columns(
        draw=pl.lit(2, pl.Int64), rating=pl.lit(None, pl.Float64), unscored=pl.lit("no number")
    )
    for other in (shuffled(ratings, 1), pl.concat([ratings, again, lost])):
        for mine, its in zip(
            within_user(ratings), within_user(tables.typed(Ratings, other)), strict=True
        ):
            assert mine.sort(mine.columns[:2]).equals(its.sort(its.columns[:2]))


def test_what_cannot_be_meant_is_refused():
    ratings = ratings_of(planted(9)[0])
    with pytest.raises(RecipeError, match="scale = 'zscore'; one of z, rank, offset"):
        within_user(ratings, scale="zscore")
    with pytest.raises(RecipeError, match="criterion 'qualty'"):
        within_user(ratings, criteria=["qualty"])
    assert within_user(Ratings(tables.empty("ratings")))[0].is_empty()
