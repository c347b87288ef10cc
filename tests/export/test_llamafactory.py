import json

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.export.llamafactory import beside, llamafactory


def rows_of(made, **options):
    return llamafactory(made["prompts"], made["completions"], made["pairs"], **options)


def asked(made, *roles):
    turns = [{"role": role, "content": f"{role} {at}"} for at, role in enumerate(roles)]
    prompts = pl.Series([turns] * made["prompts"].height, dtype=tables.MESSAGES)
    return {**made, "prompts": made["prompts"].with_columns(prompt=prompts)}


def aligned(row, entry):
    """What LLaMA-Factory's converter checks, written down from its documentation."""
    tags, columns = entry["tags"], entry["columns"]
    messages = row[columns["messages"]]
    if messages[0][tags["role_tag"]] == tags["system_tag"]:
        messages = messages[1:]
    odd = (tags["user_tag"], tags["observation_tag"])
    even = (tags["assistant_tag"], tags["function_tag"])
    for at, message in enumerate(messages):
        assert message[tags["role_tag"]] in (odd, even)[at % 2]
    assert len(messages) % 2 == (1 if entry.get("ranking") else 0)


@pytest.mark.parametrize("roles", [("user",), ("system", "user"), ("user", "assistant", "user")])
def test_its_own_info_reads_the_rows(world, roles):
    made = asked(world(4, 2), *roles)
    info = json.loads(beside({"train": rows_of(made)})["dataset_info.json"])["prefdata_train"]
    assert info["ranking"]
    for row in rows_of(made).rows(named=True):
        aligned(row, info)
        assert row[info["columns"]["chosen"]]["role"] == "assistant"
        assert row[info["columns"]["rejected"]]["content"]


def test_single_completions_are_tagged_for_kto(world):
    rows = rows_of(world(4, 3), of="completions")
    info = json.loads(beside({"train": rows, "test": rows})["dataset_info.json"])
    assert info.keys() == {"prefdata_train", "prefdata_test"}
    assert info["prefdata_test"]["file_name"] == "test.jsonl"
    entry = info["prefdata_train"]
    assert rows.schema[entry["columns"]["kto_tag"]] == pl.Boolean
    for row in rows.rows(named=True):
        aligned(row, entry)


def test_what_it_would_skip_in_silence_is_an_error(world):
    with pytest.raises(TableError, match="do not take turns"):
        rows_of(asked(world(2, 2), "user", "user"))
