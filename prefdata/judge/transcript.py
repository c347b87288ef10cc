"""Show what others wrote inside a prompt so that it cannot leave its place.

Each message stands in a block fenced by more backticks than any run in any of the texts shown
together, so that none of them can close its own block or forge another. The control tokens of
chat templates (`<|im_end|>`, `[INST]`, `</s>`, ...), which an engine would obey wherever they
stand, are broken by a space; nothing else is changed.
"""

import re
from collections.abc import Iterable

from prefdata.tables import Messages

_RUNS = re.compile("`{3,}")
_CONTROL = re.compile(
    r"<(?=[|｜][^\n<>]{1,60}[|｜]>|/?(?:s|bos|eos|pad|unk)>|(?:start|end)_of_turn>)"
    r"|<(?=</?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])",
    re.IGNORECASE,
)


def fence(*conversations: Messages) -> str:
    """Backticks: at least three, and more than in any run in the texts."""
    texts = (turn["content"] for messages in conversations for turn in messages)
    runs = (len(run) for text in texts for run in _RUNS.findall(text))
    return "`" * max(3, 1 + max(runs, default=0))


def transcript(messages: Messages, fence: str) -> str:
    """A single message as one block; several as a block each, under the names of their roles."""
    blocks = [f"{fence}\n{harmless(turn['content'])}\n{fence}" for turn in messages]
    if len(blocks) == 1:
        return blocks[0]
    roles = [re.sub(r"\W+", " ", turn["role"]).strip() for turn in messages]
    return "\n".join(f"{role}:\n{block}" for role, block in zip(roles, blocks, strict=True))


def one_line(text: str) -> str:
    """What others wrote as a part of a line."""
    return harmless(" ".join(text.split()))


def asking(system: str, lines: Iterable[str]) -> list[dict[str, str]]:
    """The messages that ask, the user's line by line."""
    said = (("system", system), ("user", "\n".join(lines)))
    return [{"role": role, "content": content} for role, content in said]


def harmless(text: str) -> str:
    """A text in which no chat template finds a control token."""
    return _CONTROL.sub(lambda sign: f"{sign[0]} ", text)
