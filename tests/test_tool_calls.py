"""Calls of tools: text in our tables, fields in the files of others, there and back."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import tables
from prefdata.errors import TableError
from prefdata.export.binary import binary
from prefdata.export.pairwise import pairwise
from prefdata.sources import Sources, as_pairs, read
from prefdata.tool_calls import as_text

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
    return pairwise(made["prompts"], made["completions"], as_pairs(made["votes"])[0], **options)


@settings(max_examples=40)
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
        made["prompts"], made["completions"], as_pairs(made["votes"])[0], tool_calls="fields"
    )
    assert sum(bool(turns[0]["tool_calls"]) for turns in single["completion"].to_list()) == 1


ADD = {
    "type": "function",
    "function": {"name": "add", "description": "Größe", "parameters": {"type": "object"}},
}


@pytest.mark.parametrize("system", ["use tools", "", None])
@pytest.mark.parametrize("as_json", [True, False])
def test_tools_are_asked_with_and_come_back_as_a_column(tmp_path, system, as_json):
    row = row_of("I add.", calls_of([("add", {"a": 1})]))
    row["prompt"] = [{"role": "system", "content": system}, row["prompt"][1]][system is None :]
    made = imported(tmp_path, {**row, "tools": json.dumps([ADD]) if as_json else [ADD]})
    [prompt] = made["prompts"]["prompt"].to_list()
    assert '"name": "add"' in prompt[0]["content"]  # a judge and a generator see them too
    [fields] = exported(made, tool_calls="fields").rows(named=True)
    assert json.loads(fields["tools"]) == [ADD]
    told = [{"role": turn["role"], "content": turn["content"]} for turn in fields["prompt"]]
    assert told == [turn for turn in row["prompt"] if turn["content"]]
    single = binary(
        made["prompts"], made["completions"], as_pairs(made["votes"])[0], tool_calls="fields"
    )
    assert [json.loads(each) for each in single["tools"]] == [[ADD], [ADD]]
    implicit = exported(made, tool_calls="fields", explicit_prompt=False)
    assert json.loads(implicit["tools"][0]) == [ADD]
    assert "<tools>" not in str(implicit.row(0))
    for at, rows in enumerate((exported(made), exported(made, tool_calls="fields"))):
        rows.write_ndjson(tmp_path / f"again{at}.jsonl")
        sources = Sources.model_validate({"pairs": {"path": f"again{at}.jsonl"}})
        again = read(sources, tmp_path, strict=True).tables
        assert again["prompts"]["prompt_id"].to_list() == made["prompts"]["prompt_id"].to_list()


@pytest.mark.parametrize(
    "content",
    [
        '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
        "<tool_call>\n[1]\n</tool_call>",
        '<tool_call>\n{"name": "a"}\n</tool_call>',
        "<tool_call>\nnot json\n</tool_call>",
        '<tool_call>\n{"name": "a",\n"arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call> and more',
        "\n</tool_call>",
        "<tool_call>\n</tool_call>",
        "<tool_call>\nx\n</tool_call>\n" * 50_000 + "<",
    ],
)
def test_what_a_model_wrote_that_is_no_call_stays_text(tmp_path, content):
    made = imported(tmp_path, row_of(content, []))
    [row] = exported(made, tool_calls="fields").rows(named=True)
    assert row["chosen"][0] == {"role": "assistant", "content": content, "tool_calls": None}


def test_the_same_words_with_other_tools_are_another_prompt(tmp_path):
    row = row_of("", calls_of([("add", {})]))
    ids = {
        imported(tmp_path, {**row, "tools": tools})["prompts"]["prompt_id"][0]
        for tools in ([ADD], [], None, [{**ADD, "strict": True}])
    }
    assert len(ids) == 3  # no tools and an empty list are one


@pytest.mark.parametrize("tools", ["a hammer", 3, ["add"], [{}], '{"name": "add"}'])
def test_tools_that_are_none_are_quarantined(tmp_path, tools):
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row_of("", []), "tools": tools}))
    made = read(Sources.model_validate({"pairs": {"path": "rows.jsonl"}}), tmp_path)
    assert "tools is no list of tools" in made.quarantined["reason"][0]


def test_sides_with_different_tools_have_no_column(world):
    made = world(2, 1)
    offered = [
        [{"role": "system", "content": f'<tools>\n[{{"name": "{name}"}}]\n</tools>'},
         {"role": "user", "content": "?"}] for name in ("add", "take")
    ]  # fmt: skip
    prompts = made["prompts"].with_columns(prompt=pl.Series(offered, dtype=tables.MESSAGES))
    one, other = made["completions"]["completion_id"]
    joint = pl.DataFrame({"chosen_id": [one], "rejected_id": [other], "n_votes": 1})
    joint = joint.with_columns(tables.pair_ids([one], [other]), soft_label=pl.lit(1.0))
    pairs = tables.check("pairs", joint, where="test")
    with pytest.raises(TableError, match="were offered different tools"):
        pairwise(prompts, made["completions"], pairs, explicit_prompt=False, tool_calls="fields")


@pytest.mark.parametrize(
    "call", [{"function": {"name": 3}}, "add(1)", {"function": {"name": "x", "arguments": "{"}}]
)
def test_a_call_that_is_none_is_no_message(tmp_path, call):
    assert as_text("", [call]) is None
    (tmp_path / "rows.jsonl").write_text(json.dumps(row_of("", [call])))
    made = read(Sources.model_validate({"pairs": {"path": "rows.jsonl"}}), tmp_path)
    assert "content is not a text" in made.quarantined["reason"][0]
