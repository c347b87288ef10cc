"""Figures and the words of others as Markdown."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from prefdata.measure._wilson import Z95, wilson

# What turns the direction of writing, and what begins markup: a text of others keeps none of it.
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
CODE = re.compile("(?:`[^`]*`(?:, )?)+")
BARE_ANGLE = re.compile(r"(?<!\\)([<>])")
MARKUP = re.compile(r"([\\`*_\[\]<>~$])")


def grid(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell(each) for each in line)} |" for line in lines)


def cell(said: Any) -> str:
    """What stands in a cell: on one line, and no HTML where it is not code."""
    text = "" if said is None else " ".join(str(said).replace("|", "\\|").split())
    return text if CODE.fullmatch(text) else BARE_ANGLE.sub(r"\\\1", text)


def literal(text: str) -> str:
    """A text of others that is shown as it is, and is no markup."""
    return MARKUP.sub(r"\\\1", TURNS.sub("", " ".join(text.split())))


def code(text: str) -> str:
    """A name of somebody's as code, on one line, which nothing in it ends."""
    return f"`{TURNS.sub('', ' '.join(text.replace('`', chr(39)).split()))}`"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def interval(row: Mapping[str, Any]) -> str:
    """The stated interval, else that of value and standard error; empty where neither is known."""
    low, high, value, error = (row[name] for name in ("low", "high", "value", "stderr"))
    if (low is None or high is None) and value is not None and error is not None:
        low, high = value - Z95 * error, value + Z95 * error
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def share(k: int, n: int) -> str:
    """A share with Wilson's 95 % interval."""
    if n == 0:
        return ""
    low, high = wilson(k / n, float(n))
    return f"{number(k / n)} ({number(low)} to {number(high)})"


def plural(n: int, name: str) -> str:
    return f"{n:,} {name if n != 1 else name.removesuffix('s')}"
