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
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import polars as pl

from prefdata.errors import TableError

ToolCalls = Literal["text", "fields"]
NO_FIELDS = 'plain strings have no fields; use tool_calls = "text" or format = "conversational"'
FUNCTION = pl.Struct({"name": pl.String, "arguments": pl.String})
CALLS = pl.List(pl.Struct({"type": pl.String, "function": FUNCTION}))
CALLING = pl.List(pl.Struct({"role": pl.String, "content": pl.String, "tool_calls": CALLS}))
OPENS, CLOSES = "<tool_call>\n", "\n</tool_call>"
TOOLS_OPEN, TOOLS_CLOSE = "<tools>\n", "\n</tools>"


def as_text(content: str, calls: Sequence[Any]) -> str | None:
    """What is said and then called as one text; None where a call is none."""
    blocks = [content] if content else []
    for call in calls:
        function = _function(call)
        if function is None:
            return None
        said = json.dumps(function, ensure_ascii=False)
        blocks.append(f"{OPENS}{said}{CLOSES}")
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
    block = f"{TOOLS_OPEN}{tools}{TOOLS_CLOSE}"
    if turns[0]["role"] != "system":
        return [{"role": "system", "content": block}, *turns]
    content = turns[0]["content"]
    return [{"role": "system", "content": f"{content}\n{block}" if content else block}, *turns[1:]]


def as_fields(frame: pl.DataFrame, *columns: str, where: str) -> pl.DataFrame:
    """Conversations whose messages have `tool_calls`, null where nothing is called.

    Where a row has tools there is a column `tools`; `TableError` where the conversations of a row
    have different ones.
    """
    tools: dict[int, str] = {}
    for column in columns:
        turn = pl.element().struct
        content = turn.field("content")
        speaks_of = content.str.contains_any([CLOSES, TOOLS_CLOSE])
        plain = (
            pl.col(column).list.eval(turn.with_fields(tool_calls=pl.lit(None, CALLS))).cast(CALLING)
        )
        some = frame.select(pl.col(column).list.eval(speaks_of).list.any())[column].arg_true()
        whole: list[list[dict[str, Any]]] = []
        for at, turns in zip(some, frame[column].gather(some).to_list(), strict=True):
            offered, rest = _offered(turns)
            if offered and tools.setdefault(at, offered) != offered:
                raise TableError(
                    f"{where}: the sides of pair {frame['pair_id'][at]} were offered different "
                    'tools, which one column cannot hold; use tool_calls = "text"'
                )
            whole.append([_parted(turn) for turn in rest])
        own = pl.DataFrame({"at": some, "own": pl.Series(whole, dtype=CALLING)})
        fields = frame.select(plain.alias("plain")).with_row_index("at").join(
            own.cast({"at": pl.UInt32}), on="at", how="left", maintain_order="left"
        )  # fmt: skip
        frame = frame.with_columns(fields.select(pl.coalesce("own", "plain").alias(column)))
    if tools:
        told = [tools.get(at) for at in range(frame.height)]
        frame = frame.with_columns(pl.Series("tools", told, dtype=pl.String))
    return frame


def _offered(turns: Sequence[Mapping[str, str]]) -> tuple[str | None, Sequence[Mapping[str, str]]]:
    """The tools that a conversation begins with, and the conversation without them."""
    first = turns[0]["content"] if turns[0]["role"] == "system" else ""
    said, opened, rest = first.rpartition(TOOLS_OPEN)
    tools = rest.removesuffix(TOOLS_CLOSE)
    if not opened or tools == rest or "\n" in tools or tools_of(tools) is None:
        return None, turns
    left = said.removesuffix("\n")
    return tools, [*([{"role": "system", "content": left}] if left else []), *turns[1:]]


def _parted(turn: Mapping[str, str]) -> dict[str, Any]:
    said, blocks = _blocks(turn["content"]) if turn["role"] == "assistant" else ("", [])
    try:
        functions = [json.loads(block) for block in blocks]
    except ValueError:
        functions = []
    if not functions or any(_function(each) != each for each in functions):
        return {**turn, "tool_calls": None}
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
    return {"role": turn["role"], "content": said, "tool_calls": calls}


def _blocks(content: str) -> tuple[str, list[str]]:
    """What is said before the calls that a text ends with, and what stands in each of these."""
    blocks: list[str] = []
    end = len(content)
    while True:
        last = end - content.endswith("\n", 0, end)
        start = content.rfind(OPENS, 0, last)
        inner = content[start + len(OPENS) : last - len(CLOSES)]
        if start < 0 or not content.endswith(CLOSES, 0, last) or "\n" in inner:
            return content[:last] if blocks else content, blocks[::-1]
        blocks.append(inner)
        end = start
