import json

import polars as pl
import pytest

from prefdata.errors import RecipeError
from prefdata.export.curriculum import beside, curriculum
from prefdata.order.curriculum import curriculum as staged


def rows_of(made, scores=None, **options):
    scores = staged(made["pairs"]) if scores is None else scores
    return curriculum(made["prompts"], made["completions"], made["pairs"], scores, **options)


def test_stages_run_from_easy_to_hard_and_have_each_prompt_once(world):
    made = world(20, 3)
    rows = rows_of(made)
    assert rows["stage"].is_sorted()
    assert dict(rows.select("stage", "difficulty").rows()) == {1: "easy", 2: "medium", 3: "hard"}
    assert not rows.select("stage", "prompt_id").is_duplicated().any()
    means = rows.group_by("stage").agg(pl.col("margin").mean()).sort("stage")["margin"].to_list()
    assert means == [2.0, 1.0, 1.0]


def test_within_a_stage_the_order_is_drawn(world):
    made = world(30, 2)
    one, other = (rows_of(made, seed=seed)["pair_id"].to_list() for seed in (1, 2))
    assert sorted(one) == sorted(other)
    assert one != other
    assert one == rows_of(made, seed=1)["pair_id"].to_list()


def test_the_schedule_names_splits_and_whose_reference(world):
    rows = rows_of(world(10, 3))
    parts = {f"stage_{at}": rows.filter(stage=at) for at in (1, 2, 3)}
    schedule = json.loads(beside({**parts, "test": rows})["schedule.json"])
    assert [each["split"] for each in schedule] == ["stage_1", "stage_2", "stage_3"]
    assert [each["n"] for each in schedule] == [10, 10, 10]
    assert [each["reference"] for each in schedule] == ["initial", *["previous_stage"] * 2]


def test_what_is_harder_than_wanted_is_left_out(world):
    made = world(5, 4)
    assert set(rows_of(made, max_stages=2)["stage"]) == {1, 2}
    with pytest.raises(RecipeError, match="at least 1"):
        rows_of(made, max_stages=0)
    with pytest.raises(RecipeError, match="no pair has a score 'stage'"):
        rows_of(made, staged(made["pairs"]).filter(pl.col("score") == "ease"))
