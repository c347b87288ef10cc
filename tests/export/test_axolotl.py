import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.export.axolotl import axolotl, beside


def test_the_columns_are_the_defaults_of_its_chat_template(world):
    made = world()
    rows = axolotl(made["prompts"], made["completions"], made["pairs"])
    assert rows.columns[:3] == ["messages", "chosen", "rejected"]
    message = pl.Struct({"role": pl.String, "content": pl.String})
    assert rows.schema["chosen"] == rows.schema["rejected"] == message
    assert (rows["chosen"].struct.field("content") > rows["rejected"].struct.field("content")).all()


def test_its_config_trains_on_train_and_tests_on_test(world):
    made = world()
    rows = axolotl(made["prompts"], made["completions"], made["pairs"])
    text = beside({"train": rows, "test": rows})["axolotl.yml"]
    before, after = text.split("test_datasets:")
    assert "path: train.jsonl" in before
    assert "path: test.jsonl" in after
    assert "test_datasets" not in beside({"train": rows})["axolotl.yml"]
    assert "test_datasets" not in beside({"train": rows, "test": rows.clear()})["axolotl.yml"]


def saying(made, *texts):
    """A pair of two texts."""
    said = [[{"role": "assistant", "content": text}] for text in texts]
    series = pl.Series(said, dtype=tables.MESSAGES)
    return {**made, "completions": made["completions"].with_columns(completion=series)}


def test_room_at_both_ends_would_hide_a_text(world):
    made = saying(world(1, 2), " \n worse\n", "the better  one \t")
    [row] = axolotl(made["prompts"], made["completions"], made["pairs"]).rows(named=True)
    assert (row["chosen"]["content"], row["rejected"]["content"]) == ("the better  one", "worse")
    assert row["chosen"]["role"] == "assistant"


@pytest.mark.parametrize("text", ["m", "user", " ss ", "", " \n"])
def test_a_text_that_axolotl_finds_too_early_is_refused(world, text):
    for sides in ((text, "good"), ("good", text)):
        made = saying(world(1, 2), *sides)
        with pytest.raises(TableError, match="would misread 1 "):
            axolotl(made["prompts"], made["completions"], made["pairs"])


def test_a_completion_of_several_messages_would_lose_some(world):
    made = world(2, 2)
    longer = [[{"role": "assistant", "content": str(at)}] * 3 for at in range(4)]
    said = pl.Series(longer, dtype=tables.MESSAGES)
    made["completions"] = made["completions"].with_columns(completion=said)
    with pytest.raises(TableError, match="several messages"):
        axolotl(made["prompts"], made["completions"], made["pairs"])
