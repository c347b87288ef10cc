"""Labels in doubt are dropped, the most doubtful first."""

from collections.abc import Callable

import polars as pl
import pytest

from prefdata.errors import RecipeError
from prefdata.select.label_error import in_parts, label_error
from prefdata.stage import drive_parts
from prefdata.tables import Pairs, Scores
from tests.pair.planted import both, score, some

World = Callable[..., dict[str, pl.DataFrame]]


def test_a_share_of_the_most_doubtful_goes(world: World):
    pairs = some(world)
    scores = score(pairs, "label_error", [0.9, 0.1, 0.5, 0.51, 0.0, 1.0])
    kept = label_error(pairs, scores, share=1 / 3)
    assert kept.equals(pairs[[1, 2, 3, 4]])


def test_what_is_above_a_bound_goes_and_what_is_at_it_stays(world: World):
    pairs = some(world)
    scores = score(pairs, "label_error", [0.9, 0.1, 0.5, 0.51, 0.0, 1.0])
    assert label_error(pairs, scores, above=0.5).equals(pairs[[1, 2, 4]])


def test_a_margin_is_doubted_where_it_is_low(world: World):
    pairs = some(world, 4)
    scores = score(pairs, "ensemble_margin", [-3.0, 0.01, -0.01, 3.0])
    assert label_error(pairs, scores, score="ensemble_margin", above=0).equals(pairs[[1, 3]])
    lowest = label_error(pairs, scores, score="ensemble_margin", share=0.25)
    assert lowest.equals(pairs[[1, 2, 3]])


def test_pairs_without_the_score_are_kept_and_those_of_others_do_not_count(world: World):
    pairs = some(world)
    others = Pairs(world()["pairs"].slice(6, 6))
    mine = score(Pairs(pairs.head(2)), "label_error", [0.9, 0.2])
    theirs = score(others, "label_error", [1.0] * 6)
    assert label_error(pairs, both(mine, theirs), share=0.5).equals(pairs[1:])


def test_nothing_is_dropped_for_no_share(world: World):
    pairs = some(world)
    assert label_error(pairs, score(pairs, "label_error", [1.0] * 6), share=0.0).equals(pairs)


def test_row_order_decides_nothing(world: World, shuffled: Callable[..., pl.DataFrame]):
    pairs = some(world)
    scores = score(pairs, "label_error", [0.5] * 6)
    one = label_error(pairs, scores, share=0.5)
    other = label_error(Pairs(shuffled(pairs, 1)), Scores(shuffled(scores, 2)), share=0.5)
    assert one.sort("pair_id").equals(other.sort("pair_id"))


def test_a_share_outside_its_range_is_refused(world: World):
    pairs = some(world)
    with pytest.raises(RecipeError, match="share"):
        label_error(pairs, score(pairs, "label_error", [0.5] * 6), share=1.5)


@pytest.mark.parametrize("how", [{"share": 0.4}, {"above": 0.45}])
def test_parts_change_nothing(world: World, how: dict[str, float]):
    """A part may have no pair with the score, only others; ties go by their ids over all parts."""
    pairs = Pairs(world()["pairs"])
    scored = Pairs(pairs[:12])
    mine = score(scored, "label_error", [0.5, 0.4] * 6)
    scores = both(mine, score(pairs, "ensemble_margin", [1.0] * pairs.height))
    shards = [(pairs[at : at + 3], scores) for at in range(0, pairs.height, 3)]
    kept = pl.concat(drive_parts(in_parts(**how), lambda: reversed(shards)))  # pyright: ignore
    at_once = label_error(pairs, scores, **how)  # pyright: ignore
    assert kept.sort("pair_id").equals(at_once.sort("pair_id"))
    assert 0 < pairs.height - kept.height < 12
