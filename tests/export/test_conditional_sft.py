import json

import pytest

from prefdata.errors import RecipeError
from prefdata.export.conditional_sft import beside, conditional_sft


def of_pairs(made, **options):
    return conditional_sft(made["prompts"], made["completions"], made["pairs"], **options)


def test_pairs_are_two_rows_each_and_come_back(world):
    made = world()
    rows = of_pairs(made)
    assert rows["class_id"].mean() == 0.5
    again = rows.filter(class_id=1).join(rows.filter(class_id=0), on="pair_id", suffix="_0")
    back = {
        (row["pair_id"], row["completion_id"], row["completion_id_0"])
        for row in again.rows(named=True)
    }
    assert back == set(made["pairs"].select("pair_id", "chosen_id", "rejected_id").rows())
    assert (again["prompt"] == again["prompt_0"]).all()


def test_a_completion_of_several_pairs_has_a_row_for_each(world):
    made = world(1, 3)
    rows = of_pairs(made)
    assert rows.height == 6
    assert rows["completion_id"].n_unique() == 3


def test_classes_by_strength_follow_the_edges(world):
    made = world(5, 3)  # strengths -1, 0, 1
    rows = conditional_sft(
        made["prompts"], made["completions"], None, made["strengths"], edges=[-0.5, 0.5]
    )
    known = dict(made["strengths"].select("completion_id", "strength").rows())
    assert rows.height == 15
    for row in rows.rows(named=True):
        assert row["class_id"] == known[row["completion_id"]] + 1
        assert row["control_token"] == f"<|quality_{row['class_id']}|>"
    with pytest.raises(RecipeError, match="rising"):
        conditional_sft(made["prompts"], made["completions"], None, made["strengths"], edges=[1, 0])


def test_the_tokens_are_told_with_what_they_start_from(world):
    tokens = json.loads(beside({"train": of_pairs(world())})["control_tokens.json"])
    assert [each["starts_from"] for each in tokens] == ["bad", "good"]
    assert [each["class_id"] for each in tokens] == [0, 1]
