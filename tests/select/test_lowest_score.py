"""The lowest of a score: how many, ties by id, and what is refused."""

import math

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.select.lowest_score import in_parts, lowest_score
from prefdata.stage import drive_parts
from prefdata.tables import Pairs, Scores


def pairs_of(n: int) -> Pairs:
    frame = pl.DataFrame(
        {
            "pair_id": [f"pair{i:03}" for i in range(n)],
            "chosen_id": [f"a{i}" for i in range(n)],
            "rejected_id": [f"b{i}" for i in range(n)],
            "soft_label": 0.75,
            "n_votes": 1,
        }
    )
    return tables.typed(Pairs, frame)


def scores_of(values: list[float], model: str = "m") -> pl.DataFrame:
    frame = pl.DataFrame({"value": values}).with_row_index("at")
    frame = frame.select(
        subject_id=pl.format("pair{}", pl.col("at").cast(pl.String).str.zfill(3)),
        subject=pl.lit("pair"),
        score=pl.lit("ln_ches"),
        model=pl.lit(model),
        value="value",
    )
    return tables.check("scores", frame, where="test")


def test_a_shard_may_have_the_score_by_another_model_only():
    pairs = pairs_of(6)
    wanted, other = scores_of([3.0, 1.0, 2.0]), scores_of([0.0] * 6, model="other")
    scores = tables.union("scores", wanted, other, where="test")
    how = {"score": "ln_ches@m", "count": 2}
    at_once, dropped = lowest_score(pairs, Scores(scores), **how)
    ids = [pl.col("subject_id").is_in(part["pair_id"].implode()) for part in (pairs[:3], pairs[3:])]
    shards = [(pairs[:3], scores.filter(ids[0])), (pairs[3:], scores.filter(ids[1]))]
    made = list(drive_parts(in_parts(**how), lambda: shards))
    assert pl.concat([kept for kept, _ in made]).equals(at_once)
    assert pl.concat([gone for _, gone in made]).sort("key").equals(dropped.sort("key"))
    assert at_once["pair_id"].to_list() == ["pair001", "pair002"]


def test_the_papers_filter_keeps_nineteen_of_380_the_lowest():
    values = [float((7 * i) % 380) for i in range(380)]
    kept, _ = lowest_score(pairs_of(380), scores_of(values), score="ln_ches", keep=0.05)
    assert kept.height == 19
    assert {values[int(each[4:])] for each in kept["pair_id"]} == set(map(float, range(19)))


def test_equal_values_go_by_id_whatever_the_order(shuffled):
    pairs, scores = pairs_of(10), scores_of([1.0] * 10)
    kept, _ = lowest_score(pairs, scores, score="ln_ches", count=3)
    assert kept.equals(pairs[:3])
    mixed, _ = lowest_score(shuffled(pairs, 1), shuffled(scores, 2), score="ln_ches", count=3)
    assert sorted(mixed["pair_id"]) == sorted(kept["pair_id"])


def test_a_pair_without_the_score_is_not_kept_and_one_at_least_is():
    kept, dropped = lowest_score(
        pairs_of(10), scores_of([3.0, 1.0, 2.0]), score="ln_ches", keep=0.1
    )
    assert kept["pair_id"].to_list() == ["pair001"]
    tables.check("dropped", dropped, where="test")
    assert dropped["key"].sort().to_list() == [f"pair{at:03}" for at in range(3, 10)]
    assert dropped["reason"].unique().to_list() == ["it has no score 'ln_ches'"]
    kept, _ = lowest_score(pairs_of(10), scores_of([3.0, 1.0, 2.0]), score="ln_ches", keep=1)
    assert kept.height == 3


@pytest.mark.parametrize(
    "how",
    [{}, {"keep": 0.1, "count": 2}, {"keep": 0.0}, {"keep": 1.5}, {"keep": math.nan}, {"count": 0}],
)
def test_a_number_that_says_nothing_is_refused(how):
    with pytest.raises(RecipeError, match="keep"):
        lowest_score(pairs_of(3), scores_of([1.0, 2.0, 3.0]), score="ln_ches", **how)


def test_a_score_that_nobody_or_two_models_gave_is_refused():
    one, other = scores_of([1.0, 2.0]), scores_of([2.0, 1.0], model="n")
    with pytest.raises(RecipeError, match="ln_ches"):
        lowest_score(pairs_of(2), one, score="ln_chess", count=1)
    both = pl.concat([one, other])
    with pytest.raises(RecipeError, match="ln_ches@"):
        lowest_score(pairs_of(2), both, score="ln_ches", count=1)
    kept, _ = lowest_score(pairs_of(2), both, score="ln_ches@n", count=1)
    assert kept["pair_id"].to_list() == ["pair001"]
    with pytest.raises(RecipeError, match="no pair has a score 'ln_ches' by 'o'; there is: m, n"):
        lowest_score(pairs_of(2), both, score="ln_ches@o", count=1)


def test_a_score_of_completions_alone_is_none_of_pairs():
    scores = scores_of([1.0, 2.0]).with_columns(subject=pl.lit("completion"))
    with pytest.raises(RecipeError, match="no pair has a score 'ln_ches'; there is none"):
        lowest_score(pairs_of(2), scores, score="ln_ches", count=1)


def test_where_no_pair_was_scored_none_is_dropped_without_a_word():
    nothing = scores_of([1.0]).clear()
    with pytest.raises(RecipeError, match=r"none of 3 pairs has a score 'ln_ches'"):
        lowest_score(pairs_of(3), nothing, score="ln_ches", keep=0.5)
    kept, dropped = lowest_score(pairs_of(0), nothing, score="ln_ches", keep=0.5)
    assert kept.is_empty()
    assert dropped.is_empty()


def test_a_count_above_the_pairs_keeps_all_that_are_scored():
    kept, _ = lowest_score(pairs_of(5), scores_of([1.0, 3.0, 2.0]), score="ln_ches", count=50)
    assert kept["pair_id"].to_list() == ["pair000", "pair001", "pair002"]
