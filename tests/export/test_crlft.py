import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.export.crlft import crlft


def generated(made, names=("gpt-4", "small")):
    ids = made["completions"].sort("completion_id")
    frame = ids.select(
        "completion_id",
        "prompt_id",
        draw=0,
        generator=pl.Series([names[at % len(names)] for at in range(ids.height)]),
    )
    return tables.check("samples", frame, where="test")


def test_only_what_the_assistant_says_in_the_completion_weighs(world):
    made = world(2, 2)
    asked = [{"role": "system", "content": "be kind"},
             {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hey"},
             {"role": "user", "content": "so"}]  # fmt: skip
    made["prompts"] = made["prompts"].with_columns(
        prompt=pl.Series([asked] * 2, dtype=tables.MESSAGES)
    )
    rows = crlft(made["prompts"], made["completions"], None, made["pairs"])
    for row in rows.rows(named=True):
        assert row["system"] == "be kind"
        assert [item["role"] for item in row["items"]] == ["user", "assistant", "user", "assistant"]
        weight = 1.0 if row["condition"] == "good" else 0.1
        assert [item["weight"] for item in row["items"]] == [0.0, 0.0, 0.0, weight]
        assert "be kind" not in str(row["items"])  # the condition's text stands there only once


def test_a_completion_chosen_here_and_rejected_there_is_of_both_classes(world):
    made = world(1, 3)
    rows = crlft(made["prompts"], made["completions"], None, made["pairs"])
    assert rows.height == 4
    assert rows.filter(pl.col("completion_id").is_duplicated()).height == 2


def test_classes_by_generator(world):
    made = world(3, 2)
    samples = generated(made)
    rows = crlft(
        made["prompts"], made["completions"], samples,
        classes={"gpt-4": "GPT4", "small": "GPT3"}, weights={"GPT4": 1.0, "GPT3": 0.25},
    )  # fmt: skip
    who = dict(samples.select("completion_id", "generator").rows())
    for row in rows.rows(named=True):
        expert = who[row["completion_id"]] == "gpt-4"
        assert row["condition"] == ("GPT4" if expert else "GPT3")
        assert row["items"][-1]["weight"] == (1.0 if expert else 0.25)
    with pytest.raises(RecipeError, match="did you mean 'gpt-4'"):
        crlft(made["prompts"], made["completions"], samples, classes={"gpt4": "x"})
    with pytest.raises(RecipeError, match="at least 0"):
        crlft(made["prompts"], made["completions"], None, made["pairs"], weights={"good": -1})


def test_a_weighted_count_learns_each_class_by_itself_and_their_mixture_without(world):
    """The optimum of a table of counts: a good source is right in 95 of 100, a bad one in 60."""
    made = world(200, 2)
    samples = generated(made)
    rows = crlft(
        made["prompts"], made["completions"], samples,
        classes={"gpt-4": "GPT4", "small": "GPT3"}, weights={"GPT4": 1.0, "GPT3": 0.1},
    )  # fmt: skip
    counted = rows.with_columns(
        weight=pl.col("items").list.last().struct.field("weight"),
        at=pl.int_range(pl.len()).over("condition") % 100,
    ).with_columns(right=(pl.col("at") < pl.when(condition="GPT4").then(95).otherwise(60)))
    right = (pl.col("weight") * pl.col("right")).sum() / pl.col("weight").sum()
    by_class = dict(counted.group_by("condition").agg(right=right).rows())
    assert by_class == pytest.approx({"GPT4": 0.95, "GPT3": 0.6})
    n = dict(counted.group_by("condition").len().rows())
    mixed = (n["GPT4"] * 0.95 + 0.1 * n["GPT3"] * 0.6) / (n["GPT4"] + 0.1 * n["GPT3"])
    assert counted.select(right=right).item() == pytest.approx(mixed)
