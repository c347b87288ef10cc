"""Conversations that a file holds as one text, with a marker before each turn."""

import re
from collections.abc import Mapping
from typing import Any

Turn = dict[str, str]


def parted(cells: list[Any], markers: Mapping[Any, str], *, asks: bool) -> list[Any]:
    """Texts with a marker in them as messages; other cells as they are.

    `markers` are by role. What stands before the first marker is said by the user. With `asks` (a
    prompt) a last turn that is empty only calls for the answer, and is none.
    """
    roles = {marker: role for role, marker in markers.items()}
    longest_first = sorted(roles, key=len, reverse=True)
    pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
    return [_turns(cell, pattern, roles, asks) for cell in cells]


def _turns(cell: Any, pattern: re.Pattern[str], roles: Mapping[str, str], asks: bool) -> Any:
    if not isinstance(cell, str) or not pattern.search(cell):
        return cell
    before, *rest = pattern.split(cell)
    turns = [{"role": "user", "content": before.strip()}] if before.strip() else []
    for marker, text in zip(rest[::2], rest[1::2], strict=True):
        turns.append({"role": roles[marker], "content": text.strip()})
    if asks and turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()
    return turns
