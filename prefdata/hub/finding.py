"""What was found in a version that may not leave: what it is, how often, where, and masked."""

import re

import polars as pl

from prefdata.finding import EXAMPLES, Concern, Finding

SHOWN = 48  # characters of a sample
CLEAR = 2  # of which are to be read


def findings(concern: Concern, found: pl.DataFrame) -> list[Finding]:
    """What was `found`, as (kind, place, sample), a finding a kind, the most frequent first.

    The examples say where, and never what.
    """
    by_kind = found.group_by("kind", maintain_order=True).agg(
        n=pl.col("place").n_unique(),
        places=pl.col("place").head(EXAMPLES),
        samples=pl.col("sample").head(EXAMPLES),
    )
    return [
        Finding(
            concern,
            "error",
            kind,
            n=n,
            examples=tuple(
                {"place": place, "text": masked(sample)}
                for place, sample in zip(places, samples, strict=True)
            ),
        )
        for kind, n, places, samples in by_kind.sort("n", "kind", descending=[True, False]).rows()
    ]


def masked(sample: str) -> str:
    """The form of something that may not be shown: its first characters and its punctuation."""
    line = " ".join(sample.split())[:SHOWN]
    return line[:CLEAR] + re.sub(r"\w", "•", line[CLEAR:])
