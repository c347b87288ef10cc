"""Texts and messages as conversations: their roles, and the prompt that two sides share."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
import pyarrow

from prefdata.tables import MESSAGES, said
from prefdata.tool_calls import as_text

pa = cast(Any, pyarrow)

LETTERS = {
    "system": "s", "developer": "s", "user": "u", "assistant": "a", "tool": "t", "function": "t",
}  # fmt: skip
ASKED = r"^s*u(?:a(?:t+a)*u)*(?:a(?:t+a)*t+)?$"
ANSWERED = r"^a(?:t+a)*(?:ua(?:t+a)*)*$"


class Settled(NamedTuple):
    """A column in its own type; `wrong` says of a row why it has no value though one is there."""

    value: pl.Series
    wrong: pl.Series


def conversations(cells: pl.Series | list[Any], role: str) -> Settled:
    """A column of texts (one message of `role`) or of messages, as messages."""
    if isinstance(cells, pl.Series):
        if isinstance(cells.dtype, pl.Categorical | pl.Enum):
            cells = cells.cast(pl.String)
        if cells.dtype == pl.String:
            return Settled(_said(cells, role), _nothing(len(cells)))
        cells = cells.to_list()
    cells = [_calling(cell) for cell in cells]
    wrong: list[str | None] = [
        None if type(cell) in (str, type(None)) else _not_messages(cell) for cell in cells
    ]
    words: list[str | None] = [cell if type(cell) is str else None for cell in cells]
    texts = pl.Series(words, dtype=pl.String)
    lists = [
        cast("list[Any]", cell) if type(cell) is list and why is None else None
        for cell, why in zip(cells, wrong, strict=True)
    ]
    spoken = _said(texts, role)
    if any(turns is not None for turns in lists):
        spoken = pl.select(pl.coalesce(spoken, _messages(lists))).to_series()
    return Settled(spoken, pl.Series(wrong, dtype=pl.String))


def _said(texts: pl.Series, role: str) -> pl.Series:
    text = pl.col("text")
    return (
        pl.DataFrame({"text": texts})
        .select(pl.when(text.is_not_null()).then(said(role, "text")).alias("text"))
        .to_series()
    )


def _nothing(height: int) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, height)


def _calling(cell: Any) -> Any:
    """Messages with what they call as text; those with a call that is none stay without content."""
    if type(cell) is not list:
        return cell
    turns = cast("list[Any]", cell)
    return [_written(turn) for turn in turns] if any(map(_calls, turns)) else turns


def _calls(turn: Any) -> list[Any]:
    calls: Any = cast("dict[str, Any]", turn).get("tool_calls") if type(turn) is dict else None
    return cast("list[Any]", calls) if type(calls) is list else []


def _written(turn: Any) -> Any:
    calls = _calls(turn)
    content: Any = turn.get("content") or "" if calls else None
    if type(content) is not str:
        return turn
    return {"role": turn.get("role"), "content": as_text(content, calls)}


def _not_messages(cell: Any) -> str | None:
    """Why a value is neither null, a text nor messages."""
    if cell is None or type(cell) is str:
        return None
    if type(cell) is not list:
        return f"is a {type(cell).__name__}, not a text or messages"
    turns = cast("list[Any]", cell)
    if not turns:
        return "has no messages"
    for turn in turns:
        message = cast("dict[str, object]", turn) if type(turn) is dict else {}
        if type(message.get("role")) is not str:
            return "has a message without role"
        if type(message.get("content")) is not str:
            return "has a message whose content is not a text"
    return None


def _messages(lists: Sequence[Sequence[Mapping[str, str]] | None]) -> pl.Series:
    """Lists of messages as a column; polars takes 40 µs a message where this takes one."""
    lengths = [len(turns or []) for turns in lists]
    flat = [turn for turns in lists for turn in turns or []]
    struct = pa.StructArray.from_arrays(
        [
            pa.array([turn["role"] for turn in flat], pa.large_string()),
            pa.array([turn["content"] for turn in flat], pa.large_string()),
        ],
        ["role", "content"],
    )
    column = pa.LargeListArray.from_arrays(
        pa.array(np.cumsum([0, *lengths]), pa.int64()),
        struct,
        mask=pa.array([turns is None for turns in lists], pa.bool_()),
    )
    return cast(pl.Series, pl.from_arrow(column)).cast(MESSAGES)


def letters(conversation: str) -> pl.Expr:
    """A conversation's roles, a letter each, as in "suau"; "?" for a role that nobody knows."""
    role = pl.element().struct.field("role")
    known = role.replace_strict(LETTERS, default="?", return_dtype=pl.String)
    return pl.col(conversation).list.eval(known).list.join("")


def disordered(conversation: str, *, asks: bool) -> pl.Expr:
    """Why a conversation's roles are out of order; null where they are in order.

    A prompt may begin with system messages, then user and assistant take turns (tools after an
    assistant), and the last waits for an answer; a completion begins and ends with an assistant.
    """
    roles = letters(conversation)
    order = "a prompt ends with a user" if asks else "a completion begins and ends with assistant"
    shown = pl.col(conversation).list.eval(pl.element().struct.field("role")).list.join(", ")
    return (
        pl.when(roles.str.contains(ASKED if asks else ANSWERED)).then(None)
        .when(roles.str.contains("?", literal=True))
        .then(pl.format("{} has an unknown role: {}", pl.lit(conversation), shown))
        .otherwise(
            pl.format("{} has its roles out of order ({}): {}", pl.lit(conversation),
                      pl.lit(order), shown)
        )
    )  # fmt: skip


def shared_prompts(chosen: pl.Series, rejected: pl.Series) -> pl.Series:
    """How many messages two conversations have in common as their prompt; 0 if none.

    That is as many leading messages as are equal and leave both to go on with an assistant: so
    prompt + chosen is the whole conversation, and no side is left without a message.
    """
    n = pl.zeros(len(chosen), pl.Int64, eager=True)
    equal = pl.repeat(True, len(chosen), dtype=pl.Boolean, eager=True)
    for k in range(max(chosen.list.len().max() or 0, 1)):  # pyright: ignore[reportArgumentType, reportCallIssue]
        one, other = (side.list.get(k, null_on_oob=True) for side in (chosen, rejected))
        answers = (one.struct.field("role") == "assistant") & (
            other.struct.field("role") == "assistant"
        )
        n = n.set((equal & answers).fill_null(False), k)
        equal = (equal & (one == other)).fill_null(False)
        if not equal.any():
            break
    return n


class Shared(NamedTuple):
    """A prompt with the two completions of it; None where two texts have none in common."""

    prompt: str | None
    chosen: str
    rejected: str


def shared_text(chosen: str, rejected: str) -> Shared:
    """The longest common beginning of two texts as the prompt, and how each goes on.

    It is cut back to the beginning of a word (of alphabets that part words by spaces), and the
    space goes with the completions: "a bl" is no prompt of "ue" and "ack". An end may be empty.
    """
    n = longest = _common(chosen, rejected)
    while n > 0 and (_inside_word(chosen, n) or _inside_word(rejected, n)):
        n -= 1
    n = n or longest
    if n < min(len(chosen), len(rejected)) and chosen[n - 1 : n] == " ":
        n -= 1
    if not chosen[:n].strip():
        return Shared(None, chosen, rejected)
    return Shared(chosen[:n], chosen[n:], rejected[n:])


def _common(one: str, other: str) -> int:
    """The length of the longest common prefix, by halving: comparing slices is cheap."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _inside_word(text: str, n: int) -> bool:
    return 0 < n < len(text) and _of_word(text[n - 1]) and _of_word(text[n])


def _of_word(letter: str) -> bool:
    # From U+2E80 on stand the scripts that write no spaces between words.
    joins = letter in "'’_" or unicodedata.combining(letter) > 0
    return joins or (letter.isalnum() and ord(letter) < 0x2E80)
