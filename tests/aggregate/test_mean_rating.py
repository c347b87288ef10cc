"""Mean rating: means of means, what is missing, and intervals."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.mean_rating import mean_rating
from prefdata.errors import RecipeError
from prefdata.tables import Ratings


def ratings_of(rows):
    """Ratings from (completion, annotator, criterion, draw, rating)."""
    columns = ["completion_id", "annotator", "criterion", "draw", "rating"]
    frame = pl.DataFrame(rows, schema=columns, orient="row", strict=False).with_columns(
        pl.lit("p").alias("prompt_id"),
        pl.concat_str(pl.lit("human:"), "annotator").alias("annotator"),
        pl.when(pl.col("rating").is_null()).then(pl.lit("refused")).alias("unscored"),
    )
    return tables.typed(Ratings, frame)


def strength(rows, **options):
    return mean_rating(ratings_of(rows), **options).row(0, named=True)


def test_the_mean_over_annotators_and_its_standard_error():
    given = [0.1, 0.4, 0.6, 0.9]
    row = strength([("c", str(i), "quality", 0, r) for i, r in enumerate(given)])
    assert row["strength"] == pytest.approx(np.mean(given))
    assert row["stderr"] == pytest.approx(np.std(given, ddof=1) / 2)


def test_who_rates_often_counts_once():
    row = strength([("c", "1", "q", draw, 1.0) for draw in range(9)] + [("c", "2", "q", 0, 0.0)])
    assert row["strength"] == pytest.approx(0.5)


def test_criteria_are_weighed_and_their_errors_go_together():
    """Annotators who are lenient on both criteria: the error is that of their own means."""
    given = {"1": (0.2, 0.3), "2": (0.5, 0.6), "3": (0.9, 0.9)}
    rows = [
        ("c", who, name, 0, r)
        for who, rs in given.items()
        for name, r in zip("xy", rs, strict=True)
    ]
    row = strength(rows, weights={"x": 3.0})
    means = [(3 * x + y) / 4 for x, y in given.values()]
    assert row["strength"] == pytest.approx(np.mean(means))
    assert row["stderr"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(3))


def test_what_is_missing_is_not_zero():
    rows = [("c", "1", "x", 0, 0.8), ("c", "1", "y", 0, None), ("c", "2", "x", 0, None)]
    assert strength(rows)["strength"] == pytest.approx(0.8)
    assert strength(rows, weights={"y": 5.0})["strength"] == pytest.approx(0.8)


def test_a_completion_with_no_rating_has_no_strength():
    made = mean_rating(ratings_of([("c", "1", "x", 0, None), ("d", "1", "x", 0, 0.0)]))
    assert made["completion_id"].to_list() == ["d"]
    assert made["strength"].to_list() == [0.0]


def test_the_error_of_a_single_annotator_is_over_its_draws():
    draws = [0.2, 0.4, 0.9]
    row = strength([("c", "1", "q", i, r) for i, r in enumerate(draws)])
    assert row["stderr"] == pytest.approx(np.std(draws, ddof=1) / np.sqrt(3))
    assert strength([("c", "1", "q", 0, 0.5)])["stderr"] is None


def test_intervals_cover_the_planted_mean():
    draw = np.random.default_rng(0)
    truth = draw.uniform(0.3, 0.7, 200)
    rows = [
        (f"c{i:03}", str(who), "q", 0, float(np.clip(draw.normal(mean, 0.1), 0, 1)))
        for i, mean in enumerate(truth)
        for who in range(20)
    ]
    made = mean_rating(ratings_of(rows)).sort("completion_id")
    apart = np.abs(made["strength"].to_numpy() - truth)
    assert 0.90 <= (apart < 1.96 * made["stderr"].to_numpy()).mean() <= 0.99


def test_the_order_of_rows_does_not_matter():
    draw = np.random.default_rng(1)
    rows = [
        (f"c{i}", str(who), name, 0, float(draw.random()))
        for i in range(20)
        for who in range(4)
        for name in "xyz"
    ]
    ratings = ratings_of(rows)
    shuffled = Ratings(ratings.sample(fraction=1, shuffle=True, seed=2))
    made = tables.check("strengths", mean_rating(ratings), where="here")
    assert made.equals(tables.check("strengths", mean_rating(shuffled), where="here"))
    parts = [
        mean_rating(
            Ratings(ratings.filter(pl.col("completion_id").str.slice(1).cast(int) % 7 == n))
        )
        for n in range(7)
    ]
    assert tables.union("strengths", *parts, where="shards").equals(made)


def test_unknown_criteria_and_bad_weights_are_named():
    ratings = ratings_of([("c", "1", "honesty", 0, 0.5)])
    with pytest.raises(RecipeError, match="did you mean 'honesty'"):
        mean_rating(ratings, criteria=["honest"])
    with pytest.raises(RecipeError, match="above 0"):
        mean_rating(ratings, weights={"honesty": -1.0})


def test_no_ratings_give_no_strengths():
    assert mean_rating(Ratings(tables.empty("ratings"))).is_empty()
