"""Trees of messages as rows: one for each reply of an assistant, with what was said before it.

A tree is nested (each message holds its `replies`, the first stands in the row's column `root`) or
flat (a row a message, which names its `parent`; parents stand before their replies).
"""

from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_validator

Row = dict[str, Any]
Turn = dict[str, str]

# The column of a reply's row that holds the messages before it.
THREAD = "thread"


class Tree(BaseModel):
    """Where a message has its text, its role and its place; `roles` translates the file's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = "text"
    role: str = "role"
    roles: dict[str, str] = {}
    root: str = ""
    replies: str = ""
    id: str = ""
    parent: str = ""

    @model_validator(mode="after")
    def _one_form(self) -> "Tree":
        nested, flat = bool(self.root and self.replies), bool(self.id and self.parent)
        if nested == flat:
            raise ValueError("tree: give root and replies (nested), or id and parent (flat)")
        return self

    @property
    def columns(self) -> list[str]:
        """The file's columns that tell how messages hang together."""
        return [self.root] if self.root else [self.id, self.parent, self.text, self.role]

    def said(self, message: Row) -> Turn | None:
        """A message as a turn, None if it is none."""
        text, role = message.get(self.text), message.get(self.role)
        if not isinstance(text, str) or not isinstance(role, str):
            return None
        return {"role": self.roles.get(role, role), "content": text}


def nested(tree: Tree, row: Row) -> Iterator[Row | str]:
    """The rows of a nested tree; of a message that is none, why."""
    waiting: list[tuple[list[Turn], Any]] = [([], row.get(tree.root))]
    while waiting:
        before, message = waiting.pop()
        turn = tree.said(cast(Row, message)) if isinstance(message, dict) else None
        if turn is None:
            yield f"a message of the tree has no {tree.text} or no {tree.role}"
            continue
        whole = cast(Row, message)
        if turn["role"] == "assistant":
            yield {**whole, THREAD: before}
        replies = whole.get(tree.replies)
        for reply in reversed(cast("list[Any]", replies) if isinstance(replies, list) else []):
            waiting.append(([*before, turn], reply))


def flat(tree: Tree, row: Row, threads: dict[str, list[Turn]]) -> Row | str | None:
    """The row of one message; None for a prompt's, and why for a message that is none.

    `threads` are the conversations that end with each message, and gets this one's.
    """
    turn = tree.said(row)
    if turn is None:
        return f"the message has no {tree.text} or no {tree.role}"
    parent = row.get(tree.parent)
    if parent and parent not in threads:
        return f"the message answers {parent!r}, which does not stand before it"
    before = threads[parent] if parent else []
    threads[str(row.get(tree.id))] = [*before, turn]
    return {**row, THREAD: before} if turn["role"] == "assistant" else None
