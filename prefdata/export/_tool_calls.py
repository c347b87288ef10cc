"""Calls of tools in messages, as text and as fields.

A message here is a role and a text, so a call is text, in the form that many chat templates write:

    <tool_call>
    {"name": "add", "arguments": {"a": 1}}
    </tool_call>

at the end of what the assistant says; and the tools that may be called are text at the end of the
first system message, so that they belong to what was asked:

    <tools>
    [{"type": "function", "function": {"name": "add", ...}}]
    </tools>

As fields, a message has `tool_calls`, each of `type` "function" with `function.name` and
`function.arguments`, JSON as text, and a row has `tools`, the list as JSON.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import polars as pl

from prefdata.errors import TableError

ToolCalls = Literal["text", "fields"]
CALLING = pl.List(
    pl.Struct(
        {
            "role": pl.String,
            "content": pl.String,
            "tool_calls": pl.List(
                pl.Struct(
                    {
                        "type": pl.String,
                        "function": pl.Struct({"name": pl.String, "arguments": pl.String}),
                    }
                )
            ),
        }
    )
)
BLOCK = re.compile(r"<tool_call>\n(.*)\n</tool_call>")
ENDING = re.compile(r"(?s)^(.*?)\n?((?:<tool_call>\n[^\n]*\n</tool_call>\n?)+)$")

TOOLS = re.compile(r"(?s)^(.*?)\n?<tools>\n([^\n]*)\n</tools>$")


def as_text(content: str, calls: Sequence[Any]) -> str | None:
    """What is said and then called as one text; None where a call is none."""
    blocks = [content] if content else []
    for call in calls:
        function = _function(call)
        if function is None:
            return None
        said = json.dumps(function, ensure_ascii=False)
        blocks.append(f"<tool_call>\n{said}\n</tool_call>")
    return "\n".join(blocks)


def _function(call: Any) -> dict[str, Any] | None:
    whole = _object(call)
    function = _object(whole.get("function", whole))
    name: Any = function.get("name")
    arguments: Any = function.get("arguments") or {}
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": arguments}


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def tools_of(cell: Any) -> str | None:
    """A list of tools, or its JSON, as JSON on one line; None for what is no such list."""
    try:
        found = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        return None
    if not isinstance(found, list) or any(not _object(each) for each in cast("list[Any]", found)):
        return None
    return json.dumps(found, ensure_ascii=False)


def offering(turns: Sequence[Mapping[str, str]], tools: str) -> list[Mapping[str, str]]:
    """A prompt whose first system message, which it may lack, ends with the tools."""
    block = f"<tools>\n{tools}\n</tools>"
    if turns[0]["role"] != "system":
        return [{"role": "system", "content": block}, *turns]
    content = turns[0]["content"]
    return [{"role": "system", "content": f"{content}\n{block}" if content else block}, *turns[1:]]


def as_fields(frame: pl.DataFrame, *columns: str, where: str) -> pl.DataFrame:
    """Conversations whose messages have `tool_calls`, null where nothing is called.

    Where a row has tools there is a column `tools`; `TableError` where the conversations of a row
    have different ones.
    """
    tools: list[str | None] = [None] * frame.height
    for column in columns:
        whole: list[list[dict[str, Any]]] = []
        for at, turns in enumerate(frame[column].to_list()):
            offered, rest = _offered(turns)
            if offered and tools[at] not in (None, offered):
                raise TableError(
                    f"{where}: the sides of pair {frame['pair_id'][at]} were offered different "
                    'tools, which one column cannot hold; use tool_calls = "text"'
                )
            tools[at] = offered or tools[at]
            whole.append([_parted(turn) for turn in rest])
        frame = frame.with_columns(pl.Series(column, whole, dtype=CALLING))
    if any(tools):
        frame = frame.with_columns(pl.Series("tools", tools, dtype=pl.String))
    return frame


def _offered(turns: Sequence[Mapping[str, str]]) -> tuple[str | None, Sequence[Mapping[str, str]]]:
    """The tools that a conversation begins with, and the conversation without them."""
    first = turns[0]["content"] if turns and turns[0]["role"] == "system" else ""
    found = TOOLS.match(first)
    if found is None or tools_of(found[2]) is None:
        return None, turns
    left = [{"role": "system", "content": found[1]}] if found[1] else []
    return found[2], [*left, *turns[1:]]


def _parted(turn: Mapping[str, str]) -> dict[str, Any]:
    found = ENDING.match(turn["content"]) if turn["role"] == "assistant" else None
    if found is None:
        return {**turn, "tool_calls": None}
    try:
        functions = [json.loads(block) for block in BLOCK.findall(found[2])]
        calls = [
            {
                "type": "function",
                "function": {
                    "name": each["name"],
                    "arguments": json.dumps(each["arguments"], ensure_ascii=False),
                },
            }
            for each in functions
        ]
    except (ValueError, KeyError, TypeError):
        return {**turn, "tool_calls": None}
    return {"role": turn["role"], "content": found[1], "tool_calls": calls}
