"""What was found of one thing that a build may need."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

# "ok"; "absent", of what only some recipes need; "warning", of what will be in the way some time;
# "error", of what is in the way now.
State = Literal["ok", "absent", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """`about` what, of which `part`; what was found, and what to `do` about it."""

    part: str
    about: str
    state: State
    found: str
    do: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
