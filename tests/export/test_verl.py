import polars as pl
import pytest

from prefdata.errors import TableError
from prefdata.export.verl import verl


def test_prompts_carry_what_their_reward_is_told_by(world):
    made = world(4)
    known = pl.Series(["4", None, "6", None])
    made["prompts"] = made["prompts"].with_columns(reference=known)
    rows = verl(made["prompts"], ability="math")
    assert set(rows.columns) >= {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    told = dict(made["prompts"].select("prompt_id", "reference").rows())
    for row in rows.rows(named=True):
        truth = told[row["prompt_id"]]
        style = "rule" if truth else "model"
        assert row["reward_model"] == {"style": style, "ground_truth": truth or ""}
        assert row["ability"] == "math"
    assert [each["index"] for each in rows["extra_info"]] == [0, 1, 2, 3]


def test_pairs_are_plain_texts(world):
    made = world()
    rows = verl(made["prompts"], made["completions"], made["pairs"], of="pairs")
    assert [rows.schema[name] for name in ("prompt", "chosen", "rejected")] == [pl.String] * 3
    assert (rows["chosen"] > rows["rejected"]).all()
    with pytest.raises(TableError, match="no stage made the table pairs"):
        verl(made["prompts"], of="pairs")
