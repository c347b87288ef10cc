"""What was found in a version that may not leave: what it is, how often, where, and masked."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

Concern = Literal["secrets", "personal", "licence"]
EXAMPLES = 3
SHOWN = 48  # characters of a sample
CLEAR = 2  # of which are to be read


@dataclass(frozen=True)
class Example:
    place: str
    sample: str


@dataclass(frozen=True)
class Finding:
    """`n` texts hold what `kind` names; the examples say where, and never what."""

    concern: Concern
    kind: str
    n: int
    examples: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def findings(concern: Concern, found: pl.DataFrame) -> list[Finding]:
    """What was `found`, as (kind, place, sample), a finding a kind, the most frequent first."""
    by_kind = found.group_by("kind", maintain_order=True).agg(
        n=pl.col("place").n_unique(),
        places=pl.col("place").head(EXAMPLES),
        samples=pl.col("sample").head(EXAMPLES),
    )
    return [
        Finding(
            concern,
            kind,
            n,
            tuple(Example(p, masked(s)) for p, s in zip(places, samples, strict=True)),
        )
        for kind, n, places, samples in by_kind.sort("n", "kind", descending=[True, False]).rows()
    ]


def masked(sample: str) -> str:
    """The form of something that may not be shown: its first characters and its punctuation."""
    line = " ".join(sample.split())[:SHOWN]
    return line[:CLEAR] + re.sub(r"\w", "•", line[CLEAR:])
