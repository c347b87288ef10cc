import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.select.similar_ratings import similar_ratings


def rated(grades, criterion="helpfulness", completion="c"):
    """A rating of each annotator, in grades from 0 to 4."""
    n = len(grades)
    frame = pl.DataFrame({
        "completion_id": [completion] * n, "prompt_id": ["p"] * n,
        "annotator": [f"human:{at}" for at in range(n)], "criterion": [criterion] * n,
        "draw": [0] * n, "rating": [grade / 4 for grade in grades],
    })  # fmt: skip
    return tables.check("ratings", frame, where="test")


def grades_of(ratings):
    return sorted(round(4 * each) for each in ratings["rating"])


def test_the_three_most_agreeing_of_five():
    assert grades_of(similar_ratings(rated([0, 3, 4, 4, 3]))) == [3, 3, 4]  # the median is 3
    assert grades_of(similar_ratings(rated([0, 2, 4]), max_spread=0.5)) == []
    assert grades_of(similar_ratings(rated([0, 2, 2]), max_spread=0.5)) == [0, 2, 2]


def test_one_criterion_may_say_whose_ratings_stay():
    both = pl.concat([rated([0, 4, 4, 4]), rated([3, 0, 1, 4], "verbosity")])
    by_one = similar_ratings(both, criterion="helpfulness")
    assert grades_of(by_one.filter(criterion="verbosity")) == [0, 1, 4]  # of those three
    alone = similar_ratings(both)
    assert grades_of(alone.filter(criterion="verbosity")) in ([0, 1, 3], [1, 3, 4])
    with pytest.raises(TableError, match="did you mean 'verbosity'"):
        similar_ratings(both, criterion="verbosty")


def test_planted_spammers_cost_less():
    """Truth plus noise with a fifth of the annotators at random: the error falls, by no gold."""
    draw = np.random.default_rng(7)
    n = 300
    truth = draw.integers(0, 5, n)
    grades = np.clip(np.rint(truth[:, None] + draw.normal(0, 0.6, (n, 5))), 0, 4).astype(int)
    spam = draw.random((n, 5)) < 0.2
    grades[spam] = draw.integers(0, 5, spam.sum())
    ratings = pl.concat(
        rated([*map(int, row)], completion=f"{at:04}") for at, row in enumerate(grades)
    )

    def error(table):
        by = table.group_by("completion_id").agg(pl.col("rating").mean() * 4).sort("completion_id")
        known = truth[by["completion_id"].cast(pl.Int64).to_numpy()]
        return np.abs(by["rating"].to_numpy() - known).mean()

    alike = similar_ratings(ratings)
    near = similar_ratings(ratings, max_spread=0.5)
    first = ratings.filter(pl.col("annotator").is_in(["human:0", "human:1", "human:2"]))
    assert error(alike) < error(first)  # three at random, not three alike
    assert error(near) <= error(alike) < error(ratings)
