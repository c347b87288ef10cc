import polars as pl
import pytest
from datasets import load_from_disk

from prefdata.errors import RecipeError, TableError
from prefdata.export.reward_augmented import reward_augmented
from prefdata.stage import saving
from prefdata.version.writing import write


@pytest.fixture
def rated(world):
    """Pairs whose better side has 0.9 or 0.5, the other 0.5 or 0.1."""
    made = world(6, 3)
    strength = (0.4 * pl.col("strength") + 0.5).round(3)
    return {**made, "strengths": made["strengths"].with_columns(strength=strength)}


def rows_of(made, **options):
    tables_ = (made[name] for name in ("prompts", "completions", "pairs", "strengths"))
    return reward_augmented(*tables_, **options)


@pytest.mark.parametrize("placed", ["system", "user"])
def test_each_pair_stands_once_as_it_is_and_once_turned_round(rated, placed):
    rows = rows_of(rated, placed=placed)
    pairs = set(rated["pairs"].select("pair_id", "chosen_id", "rejected_id").rows())
    as_is, turned = (
        set(rows.filter(reversed=says).select("pair_id", *sides).rows())
        for says, sides in (
            (False, ("chosen_id", "rejected_id")), (True, ("rejected_id", "chosen_id")),
        )
    )  # fmt: skip
    assert as_is == turned == pairs
    said = dict(rated["completions"].select("completion_id", "completion").rows())
    for row in rows.rows(named=True):
        assert (
            row["chosen"] == said[row["chosen_id"]]
        )  # the texts are turned round, not the ids only
        assert row["rejected"] == said[row["rejected_id"]]


def test_the_goal_is_the_score_of_what_is_chosen(rated):
    rows = rows_of(rated)
    assert (rows["goal"] == rows["score_chosen"]).all()
    assert (rows["reward_chosen"] == 0).all()
    assert (rows["reward_rejected"] < 0).all()
    goals = sorted(rows["goal"])
    scores = sorted(
        [
            *rows.filter(reversed=False)["score_chosen"],
            *rows.filter(reversed=False)["score_rejected"],
        ]
    )
    assert goals == scores


def test_the_goal_is_said_without_decimals_where_it_is_meant(rated):
    for row in rows_of(rated).rows(named=True):
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row["prompt"][0]["content"].endswith(f"Overall score: {row['goal']:.0f}")
    for row in rows_of(rated, placed="user").rows(named=True):
        [message] = row["prompt"]
        assert f"Overall score: {row['goal']:.0f}\n\nquestion" in message["content"]


def test_equal_scores_would_contradict_each_other(rated):
    flat = rated["strengths"].with_columns(strength=pl.lit(0.5))
    assert rows_of({**rated, "strengths": flat}).is_empty()
    close = rated["strengths"].with_columns(strength=0.5 + 0.001 * pl.col("strength"))
    assert rows_of({**rated, "strengths": close}).is_empty()
    assert not rows_of({**rated, "strengths": close}, decimals=4).is_empty()
    with pytest.raises(RecipeError, match="rises"):
        rows_of(rated, scale=(10, 1))
    outside = rated["strengths"].with_columns(strength=pl.lit(2.0))
    with pytest.raises(TableError, match=r"use aggregate\.mean_rating"):
        rows_of({**rated, "strengths": outside})


@pytest.mark.parametrize("placed", ["system", "user"])
def test_a_test_split_holds_its_pairs_as_they_were(rated, placed, tmp_path):
    """Nothing turned round, no goal said: what a model is asked there is what it will be asked."""
    asked = [
        {"role": "system", "content": "Be\nkind."},
        {"role": "user", "content": "Overall score: 7\n\nWhy?"},
    ]
    longer = pl.Series(
        [asked, *rated["prompts"]["prompt"][1:]], dtype=rated["prompts"].schema["prompt"]
    )
    made = {**rated, "prompts": rated["prompts"].with_columns(prompt=longer)}
    rows = rows_of(made, placed=placed, decimals=1)
    written = write(
        tmp_path, "goals", tables=made, exports={"goals": rows},
        savings={"goals": saving(reward_augmented)}, recipe_text="", resolved={},
        splits={"test": 0.4}, seed=2,
    )  # fmt: skip
    splits = load_from_disk(str(written.path / "goals"))
    before = dict(made["prompts"].select("prompt_id", "prompt").rows())
    known = dict(made["pairs"].select("pair_id", "chosen_id").rows())
    assert len(splits["test"]) > 0
    for row in splits["test"]:
        assert row["prompt"] == before[row["prompt_id"]]
        assert row["chosen_id"] == known[row["pair_id"]]
    assert len(set(splits["test"]["pair_id"])) == len(splits["test"])
    assert sorted(splits["train"]["reversed"]) == sorted(
        [False, True] * (len(splits["train"]) // 2)
    )
    assert not set(splits["train"]["prompt_id"]) & set(splits["test"]["prompt_id"])
    told = ["Overall score: " in str(row["prompt"]) for row in splits["train"]]
    assert all(told)
