"""Calls of tools in messages, as text and as fields.

A message here is a role and a text, so a call is text, in the form that many chat templates write:

    <tool_call>
    {"name": "add", "arguments": {"a": 1}}
    </tool_call>

at the end of what the assistant says. As fields, a message has `tool_calls`, each of `type`
"function" with `function.name` and `function.arguments`, JSON as text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import polars as pl

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


def as_fields(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Conversations whose messages have `tool_calls`, null where nothing is called."""
    for column in columns:
        whole = [[_parted(turn) for turn in turns] for turns in frame[column].to_list()]
        frame = frame.with_columns(pl.Series(column, whole, dtype=CALLING))
    return frame


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
