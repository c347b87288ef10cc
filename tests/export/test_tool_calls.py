"""Calls of tools: text in our tables, fields in the files of others, there and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.export._tool_calls import as_text
from prefdata.export.binary import binary
from prefdata.export.pairwise import pairwise
from prefdata.sources import Sources, as_pairs, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=3), each, max_size=2)
    ),
    max_leaves=4,
)
CALLS = st.lists(
    st.tuples(
        st.text("abc_", min_size=1), st.dictionaries(st.text(max_size=3), VALUES, max_size=2)
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def calls_of(named):
    return [
        {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for name, arguments in named
    ]


def row_of(content, calls):
    return {
        "prompt": [
            {"role": "system", "content": "use tools"},
            {"role": "user", "content": "1 + 1?"},
        ],
        "chosen": [
            {"role": "assistant", "content": content, "tool_calls": calls},
            {"role": "tool", "content": "2"},
            {"role": "assistant", "content": "It is 2."},
        ],
        "rejected": [{"role": "assistant", "content": "It is 3."}],
    }


def imported(folder, row, name="rows.jsonl"):
    (folder / name).write_text(json.dumps(row))
    sources = Sources.model_validate({"pairs": {"path": name}})
    return read(sources, folder, strict=True).tables


def exported(made, **options):
    return pairwise(made["prompts"], made["completions"], as_pairs(made["votes"]), **options)


@given(st.sampled_from(["", "I add.", "Two\nlines"]), CALLS)
def test_what_is_called_comes_back_as_it_was(tmp_path_factory, content, named):
    folder = tmp_path_factory.mktemp("calls")
    row = row_of(content, calls_of(named))
    [found] = exported(imported(folder, row), tool_calls="fields").rows(named=True)
    first, tool, last = found["chosen"]
    assert first["content"] == content
    told = [
        (each["function"]["name"], json.loads(each["function"]["arguments"]))
        for each in first["tool_calls"]
    ]
    assert told == [(name, arguments) for name, arguments in named]
    assert (tool["role"], tool["tool_calls"]) == ("tool", None)
    assert (last["content"], last["tool_calls"]) == ("It is 2.", None)


def test_fields_and_text_are_one_completion(tmp_path):
    """A file with fields, and its export as text read again, give the same ids."""
    one = imported(tmp_path, row_of("I add.", calls_of([("add", {"a": 1})])))
    rows = exported(one)
    assert rows["chosen"][0][0]["content"].startswith("I add.\n<tool_call>\n")
    rows.write_ndjson(tmp_path / "again.jsonl")
    sources = Sources.model_validate({"pairs": {"path": "again.jsonl"}})
    other = read(sources, tmp_path, strict=True).tables
    assert one["completions"].equals(other["completions"])
    fields = exported(one, tool_calls="fields")
    fields.write_ndjson(tmp_path / "fields.jsonl")
    sources = Sources.model_validate({"pairs": {"path": "fields.jsonl"}})
    assert read(sources, tmp_path, strict=True).tables["completions"].equals(one["completions"])


def test_arguments_may_be_an_object_and_content_may_be_missing(tmp_path):
    call = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    made = imported(tmp_path, row_of(None, call))
    [row] = exported(made, tool_calls="fields").rows(named=True)
    assert row["chosen"][0]["content"] == ""
    assert json.loads(row["chosen"][0]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    single = binary(
        made["prompts"], made["completions"], as_pairs(made["votes"]), tool_calls="fields"
    )
    assert sum(bool(turns[0]["tool_calls"]) for turns in single["completion"].to_list()) == 1


@pytest.mark.parametrize(
    "call", [{"function": {"name": 3}}, "add(1)", {"function": {"name": "x", "arguments": "{"}}]
)
def test_a_call_that_is_none_is_no_message(tmp_path, call):
    assert as_text("", [call]) is None
    (tmp_path / "rows.jsonl").write_text(json.dumps(row_of("", [call])))
    made = read(Sources.model_validate({"pairs": {"path": "rows.jsonl"}}), tmp_path)
    assert "content is not a text" in made.quarantined["reason"][0]
