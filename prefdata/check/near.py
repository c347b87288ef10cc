"""Nearly equal texts: MinHash signatures by rensa, and the exact similarity of what they find.

The similarity of two texts is Jaccard's, of their sets of runs of five characters: 1 for texts that
`plain` makes equal. MinHash only says where to look; what is reported was computed.

Source: Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman,
Ullman, "Mining of Massive Datasets", chapter 3, for the banding.
"""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from prefdata.check.data import plain
from prefdata.errors import SourceError

RUN = 5
N_PERM, SEED = 128, 42
# Estimates have a standard error of 0.04 here: look so far below the wanted similarity.
SLACK = 0.12


def library() -> Any:
    """rensa, or what to install."""
    try:
        return importlib.import_module("rensa")
    except ImportError as error:
        raise SourceError(
            "near-duplicates are found by rensa; install it with: pip install 'prefdata[check]'"
        ) from error


def plain_texts(texts: pl.Series) -> list[str]:
    frame = pl.DataFrame({"text": texts.fill_null("")})
    return frame.select(plain("text")).to_series().to_list()


def runs(text: str) -> set[str]:
    """Every run of five characters; a shorter text is one run."""
    return {text[at : at + RUN] for at in range(max(1, len(text) - RUN + 1))}


def jaccard(one: str, other: str) -> float:
    a, b = runs(one), runs(other)
    return len(a & b) / len(a | b)


def signatures(texts: Sequence[str]) -> list[Any]:
    rensa = library()
    made: list[Any] = []
    for text in texts:
        signature = rensa.RMinHash(num_perm=N_PERM, seed=SEED)
        signature.update(sorted(runs(text)))
        made.append(signature)
    return made


def beside(one: pl.Series, other: pl.Series, least: float) -> pl.Series:
    """The similarity of the texts in each row; null where it is below `least`."""
    found: list[float | None] = []
    for a, b in zip(plain_texts(one), plain_texts(other), strict=True):
        lengths = sorted((len(a), len(b)))
        # no two sets of such different sizes are that similar, unless a text repeats itself
        worth = lengths[0] >= least * lengths[1] * 0.5 and bool(a) and bool(b)
        value = jaccard(a, b) if worth else 0.0
        found.append(value if value >= least else None)
    return pl.Series("similarity", found, pl.Float64)


def across(
    one: Sequence[str], other: Sequence[str], least: float
) -> Iterator[tuple[int, int, float]]:
    """Places in the two lists of plain texts that are at least so similar, and how similar."""
    rensa = library()
    index = rensa.RMinHashLSH(
        threshold=least - SLACK, num_perm=N_PERM, num_bands=bands(least - SLACK)
    )
    for at, signature in enumerate(signatures(one)):
        index.insert(at, signature)
    for at, signature in enumerate(signatures(other)):
        for found in sorted(set(index.query(signature))):
            value = jaccard(str(one[found]), other[at])
            if value >= least:
                yield found, at, value


def bands(threshold: float) -> int:
    """The fewest bands that find 99.9 % of what is exactly `threshold` similar."""
    for n in (2**k for k in range(1, 8)):
        rows = N_PERM // n
        if 1 - (1 - threshold**rows) ** n >= 0.999:
            return n
    return N_PERM
