"""Trees of messages as rows: one for each reply of an assistant, with what was said before it.

A tree is nested (each message holds its `replies`, the first stands in the row's column `root`),
flat (a row a message, which names its `parent`; parents stand before their replies), or a dialogue
(the row's column `dialogue` lists all messages in order; where several answer one, it goes on with
the one that is `kept`).
"""

from collections.abc import Iterable, Iterator
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
    dialogue: str = ""
    kept: str = ""

    @model_validator(mode="after")
    def _one_form(self) -> "Tree":
        forms = ((self.root, self.replies), (self.id, self.parent), (self.dialogue, self.kept))
        if [all(form) for form in forms].count(True) != 1:
            raise ValueError(
                "tree: give root and replies (nested), id and parent (flat), or dialogue and kept"
            )
        return self

    @property
    def columns(self) -> list[str]:
        """The file's columns that tell how messages hang together."""
        if self.root or self.dialogue:
            return [self.root or self.dialogue]
        return [self.id, self.parent, self.text, self.role]

    def said(self, message: Row) -> Turn | None:
        """A message as a turn, None if it is none."""
        text, role = message.get(self.text), message.get(self.role)
        if not isinstance(text, str) or not isinstance(role, str):
            return None
        return {"role": self.roles.get(role, role), "content": text}


def grown(tree: Tree, row: Row, threads: dict[str, list[Turn]]) -> Iterable[Row | str | None]:
    """The rows that a file's row becomes; `threads` are those of a flat tree (see `flat`)."""
    if tree.root:
        return nested(tree, row)
    return spoken(tree, row) if tree.dialogue else [flat(tree, row, threads)]


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


def spoken(tree: Tree, row: Row) -> Iterator[Row | str]:
    """The rows of a dialogue, as far as it can be followed, and why no further."""
    before: list[Turn] = []
    answer: Turn | None = None
    messages = row.get(tree.dialogue)
    for message in cast("list[Any]", messages) if isinstance(messages, list) else [None]:
        turn = tree.said(cast(Row, message)) if isinstance(message, dict) else None
        if turn is None:
            yield f"a message of {tree.dialogue} has no {tree.text} or no {tree.role}"
            return
        if turn["role"] == "assistant":
            yield {**row, **cast(Row, message), THREAD: list(before)}
            answer = turn if cast(Row, message).get(tree.kept) else answer
            continue
        if before and before[-1]["role"] == "user" and answer is None:
            yield f"{tree.dialogue} goes on, but no answer before has {tree.kept}"
            return
        before += [*([answer] if answer else []), turn]
        answer = None


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
