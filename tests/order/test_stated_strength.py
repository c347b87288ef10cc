import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.order.stated_strength import stated_strength


def graded(made, degree, against=False):
    """The world's votes with this degree of 3, for the chosen side or against it."""
    p = 0.5 + degree / 6
    towards = pl.when(pl.col("preference") == (0.0 if against else 1.0)).then(p).otherwise(1 - p)
    return made["votes"].with_columns(preference=towards)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_degree_of_a_graded_vote_comes_back(world, degree):
    made = world()
    scores = stated_strength(made["pairs"], graded(made, degree))
    assert scores.height == made["pairs"].height
    assert scores["value"].to_list() == pytest.approx([degree] * scores.height)


def test_swapping_the_sides_changes_the_sign(world):
    made = world()
    swapped = made["pairs"].rename({"chosen_id": "rejected_id", "rejected_id": "chosen_id"})
    swapped = swapped.select(made["pairs"].columns)
    votes = graded(made, 2)
    assert stated_strength(swapped, votes)["value"].to_list() == pytest.approx([-2.0] * 18)
    assert (stated_strength(made["pairs"], graded(made, 1, against=True))["value"] < 0).all()


def test_votes_are_averaged_before_the_sign_is_taken(world):
    made = world(1, 2)
    one, other = graded(made, 3), graded(made, 1, against=True).with_columns(draw=pl.lit(1))
    votes = tables.check("votes", pl.concat([one, other.cast({"draw": pl.Int64})]), where="test")
    assert stated_strength(made["pairs"], votes)["value"].to_list() == pytest.approx([1.0])
    with pytest.raises(RecipeError, match="at least 1"):
        stated_strength(made["pairs"], votes, degrees=0)
