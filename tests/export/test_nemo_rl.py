import polars as pl
import pytest

from prefdata.errors import TableError
from prefdata.export.nemo_rl import nemo_rl


def test_a_pair_is_ranked_zero_and_one(world):
    made = world()
    rows = nemo_rl(made["prompts"], made["completions"], made["pairs"])
    for row in rows.rows(named=True):
        assert [each["rank"] for each in row["completions"]] == [0, 1]
        chosen, rejected = (each["completion"][0]["content"] for each in row["completions"])
        assert chosen > rejected
        assert row["context"][-1]["role"] == "user"


def test_lists_have_the_best_first_and_ties_share_a_rank(world):
    made = world(3, 4)
    strengths = made["strengths"].with_columns(pl.col("strength").clip(-0.5, 0.5))
    rows = nemo_rl(made["prompts"], made["completions"], None, strengths, of="lists")
    known = dict(
        made["completions"].join(strengths, on="completion_id")
        .select(pl.col("prompt_id") + pl.col("completion").list[0].struct["content"], "strength")
        .rows()
    )  # fmt: skip
    for row in rows.rows(named=True):
        assert [each["rank"] for each in row["completions"]] == [0, 0, 1, 1]
        values = [
            known[row["prompt_id"] + each["completion"][0]["content"]]
            for each in row["completions"]
        ]
        assert values == sorted(values, reverse=True)


def test_what_is_not_there_is_named(world):
    made = world()
    with pytest.raises(TableError, match="no stage made the table strengths"):
        nemo_rl(made["prompts"], made["completions"], made["pairs"], of="lists")
