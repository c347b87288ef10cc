"""What was found of one thing that was looked at: how bad it is, in a sentence, and what to do.

The checks of a dataset, of what a push sends, of sources and of an installation all end in it. Only
the standard library is loaded here, so that commands can name what they choose from.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

# "absent", of what only some recipes need; "skipped", of what could not be looked at; "warning", of
# what will be in the way some time; "error", of what is in the way now.
Level = Literal["ok", "absent", "skipped", "warning", "error"]
FailOn = Literal["error", "warning", "never"]
EXAMPLES = 3


class Concern(StrEnum):
    """What a push is refused for, and may be allowed."""

    SECRETS = "secrets"
    PERSONAL = "personal"
    LICENCE = "licence"


@dataclass(frozen=True)
class Finding:
    """`says` and `advice` are sentences on what was looked at: `check`, of a `part` of the whole.

    Where rows or texts were counted, `n` of `of` have it. `examples` are the first of these, each
    with its `place` and `text`; `figures` are what else was measured.
    """

    check: str
    level: Level
    says: str
    advice: str = ""
    n: int = 0
    of: int = 0
    examples: tuple[Mapping[str, str], ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    part: str = ""

    @property
    def share(self) -> float:
        return self.n / self.of if self.of else 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}

    def __str__(self) -> str:
        return f"{self.part or self.check}: {self.says}"
