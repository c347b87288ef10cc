"""What a check found: how bad, how many, what to do, and the first examples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import polars as pl

Level = Literal["ok", "skipped", "warning", "error"]
EXAMPLES = 3
SHOWN = 160  # characters of an example


@dataclass(frozen=True)
class Finding:
    """`n` of `of` rows (or texts) have what `check` looks for; `says` and `advice` are sentences.

    `examples` are the first, each with its `place` and `text`. `figures` are what was measured.
    """

    check: str
    level: Level
    n: int
    of: int
    says: str
    advice: str = ""
    examples: tuple[Mapping[str, str], ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def share(self) -> float:
        return self.n / self.of if self.of else 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}


def counted(
    check: str,
    rows: pl.DataFrame,
    of: int,
    says: str,
    advice: str,
    *,
    level: Level = "error",
    text: str = "text",
    most: float = 0.0,
) -> Finding:
    """A finding of rows that have a fault: `level` where their share is above `most`.

    `rows` has `place` and, under the name `text`, what is shown of an example.
    """
    n = rows.height
    bad = n > most * of
    examples = tuple(
        {"place": str(place), "text": shown(str(said))}
        for place, said in rows.select("place", text).head(EXAMPLES).iter_rows()
    )
    return Finding(check, level if bad else "ok", n, of, says, advice if n else "", examples)


def skipped(check: str, why: str) -> Finding:
    return Finding(check, "skipped", 0, 0, why)


def shown(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
