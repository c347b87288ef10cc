import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.export.openrlhf import beside, openrlhf


def rows_of(made, **options):
    return openrlhf(made["prompts"], made["completions"], made["pairs"], **options)


def test_conversations_are_whole_and_differ_in_the_last_message_only(world):
    """OpenRLHF takes `chosen[:-1]` for the prompt of both sides."""
    made = world()
    rows = rows_of(made)
    margins = dict(made["pairs"].select("pair_id", "margin").rows())
    for row in rows.rows(named=True):
        assert row["chosen"][:-1] == row["rejected"][:-1]
        assert row["chosen"][-1]["role"] == row["rejected"][-1]["role"] == "assistant"
        assert row["margin"] == margins[row["pair_id"]]
    flags = beside({"train": rows, "test": rows})["arguments.txt"].split()
    assert flags[flags.index("--data.chosen_key") + 1] == "chosen"
    assert flags[flags.index("--eval.dataset") + 1] == "test.jsonl"


def test_without_margins_they_are_zero(world):
    made = world()
    made["pairs"] = made["pairs"].with_columns(margin=None)
    assert (rows_of(made)["margin"] == 0).all()


def test_single_completions_have_a_label_of_one_or_zero(world):
    made = world(4, 3)
    rows = rows_of(made, of="completions")
    assert set(rows["label"]) == {0, 1}
    assert all(row[-1]["role"] == "assistant" for row in rows["response"].to_list())
    assert "--label_key label" in beside({"train": rows})["arguments.txt"]


def test_a_completion_of_several_messages_is_refused(world):
    made = world(2, 2)
    longer = [[{"role": "assistant", "content": str(at)}] * 3 for at in range(4)]
    said = pl.Series(longer, dtype=tables.MESSAGES)
    made["completions"] = made["completions"].with_columns(completion=said)
    with pytest.raises(TableError, match="several messages"):
        rows_of(made)
