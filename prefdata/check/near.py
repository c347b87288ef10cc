"""Nearly equal texts: MinHash signatures by rensa, and the exact similarity of what they find.

The similarity of two texts is Jaccard's, of their sets of runs of five characters: 1 for texts that
`plain` makes equal. Hashes of runs only say where to look; what is reported was computed.

Source: Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman,
Ullman, "Mining of Massive Datasets", chapter 3, for the banding.
"""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.errors import SourceError

Hashes = NDArray[np.uint64]

RUN = 5
N_PERM, SEED = 128, 42
# Estimates have a standard error of 0.04 here: look so far below the wanted similarity.
SLACK = 0.12
PRIME, MIX = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15)
BITS = 40  # of a run's hash beside the number of its row: two runs of a pair hardly ever collide
AT_ONCE = 1 << 22  # characters
ROWS = 10_000


def library() -> Any:
    """rensa, or what to install."""
    try:
        return importlib.import_module("rensa")
    except ImportError as error:
        raise SourceError(
            "near-duplicates are found by rensa; install it with: pip install 'prefdata[check]'"
        ) from error


def runs(text: str) -> set[str]:
    """Every run of five characters; a shorter text is one run."""
    return {text[at : at + RUN] for at in range(max(1, len(text) - RUN + 1))}


def jaccard(one: str, other: str) -> float:
    a, b = runs(one), runs(other)
    return len(a & b) / len(a | b)


class Runs(NamedTuple):
    """A hash of every run of some texts, and where those of each text begin and end."""

    hashes: Hashes
    ends: NDArray[np.int64]


def hashed(texts: Sequence[str]) -> Runs:
    """The runs of texts, in order, those that a text repeats too."""
    padded = [text.ljust(RUN, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), np.uint32).astype(np.uint64)
    ends = np.cumsum([0, *map(len, padded)])
    n = max(0, len(codes) - RUN + 1)
    made = np.zeros(n, np.uint64)
    for k in range(RUN):
        made = made * PRIME + codes[k : n + k]
    within = np.ones(len(codes), np.bool_)
    for k in range(1, RUN):
        within[ends[1:] - k] = False  # a run that begins here would end in the next text
    made = (made * MIX) ^ ((made * MIX) >> np.uint64(32))
    counts = np.diff(ends) - RUN + 1
    return Runs(made[within[:n]], np.cumsum([0, *counts]))


def beside(one: pl.Series, other: pl.Series, least: float) -> pl.Series:
    """The similarity of the plain texts in each row; null where it is below `least`."""
    sizes = pl.DataFrame({"a": one.str.len_chars(), "b": other.str.len_chars()})
    short, long = pl.min_horizontal("a", "b"), pl.max_horizontal("a", "b")
    # no two sets of such different sizes are that similar, unless a text repeats itself
    worth = sizes.select(((short > 0) & (short >= least * long * 0.5)).fill_null(False))
    rows = worth.to_series().arg_true()
    first, second = (side.gather(rows).to_list() for side in (one, other))
    parts = sizes[rows].select(((pl.col("a") + pl.col("b")).cum_sum() // AT_ONCE).rle())
    found: dict[int, float] = {}
    start = 0
    for length in parts.to_series().struct.field("len"):
        part = slice(start, start + length)
        about = _similar(first[part], second[part])
        for at in (start + np.flatnonzero(about >= least - 0.01)).tolist():
            value = jaccard(first[at], second[at])
            if value >= least:
                found[int(rows[at])] = value
        start += length
    return pl.Series("similarity", [found.get(at) for at in range(len(one))], pl.Float64)


def _similar(one: Sequence[str], other: Sequence[str]) -> NDArray[np.float64]:
    """The similarity of the texts in each row, from hashes of their runs."""
    sets = [_distinct(hashed(side)) for side in (one, other)]
    both = _once(np.concatenate(sets))
    sizes = [np.bincount(each >> np.uint64(BITS), minlength=len(one)) for each in (*sets, both)]
    return (sizes[0] + sizes[1] - sizes[2]) / np.maximum(sizes[2], 1)


def _distinct(of: Runs) -> Hashes:
    """Each text's runs once, with the number of the text before them."""
    row = np.repeat(np.arange(len(of.ends) - 1, dtype=np.uint64), np.diff(of.ends))
    return _once((row << np.uint64(BITS)) | (of.hashes >> np.uint64(64 - BITS)))


def _once(keys: Hashes) -> Hashes:
    """Sorted and without repeats; `np.unique` goes by a hash table and takes five times as long."""
    keys.sort(kind="stable")  # two sorted halves are merged
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def across(
    one: Sequence[str], other: Sequence[str], least: float
) -> Iterator[tuple[int, int, float]]:
    """Places in the two lists of plain texts that are at least so similar, and how similar."""
    if not one or not other:
        return
    signed = [signatures(texts) for texts in (one, other)]
    places = [_banded(each, bands(least - SLACK)) for each in signed]
    for at in range(0, len(one), ROWS):
        part = places[0].filter(pl.col("at").is_between(at, at + ROWS - 1))
        met = part.join(places[1], on=("band", "key"), suffix="_other").select("at", "at_other")
        pairs = met.unique().sort("at", "at_other").to_numpy()
        for start in range(0, len(pairs), ROWS):
            a, b = pairs[start : start + ROWS].T
            about = (signed[0][a] == signed[1][b]).mean(axis=1)
            for i, j in pairs[start : start + ROWS][about >= least - SLACK].tolist():
                value = jaccard(str(one[i]), str(other[j]))
                if value >= least:
                    yield i, j, value


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """A row a text; two agree in about the share of columns that the texts are similar."""
    made: list[NDArray[np.uint32]] = []
    for start in range(0, len(texts), ROWS):
        part = hashed(texts[start : start + ROWS])
        drawn = library().RMinHash.digest_matrix_from_flat_token_hashes(
            part.hashes, part.ends.astype(np.uint64), N_PERM, SEED
        )
        made.append(np.array(drawn.to_rows(), np.uint32))
    return np.concatenate(made)


def _banded(signed: NDArray[np.uint32], n_bands: int) -> pl.DataFrame:
    """`at, band, key`: texts with one key in one band have equal signatures in it."""
    rows = signed.reshape(len(signed), n_bands, -1)
    key = np.zeros(rows.shape[:2], np.uint64)
    for k in range(rows.shape[2]):
        key = key * MIX + rows[:, :, k]
    at, band = np.indices(key.shape)
    return pl.DataFrame({"at": at.ravel(), "band": band.ravel(), "key": key.ravel()})


def bands(threshold: float) -> int:
    """The fewest bands that find 99.9 % of what is exactly `threshold` similar."""
    for n in (2**k for k in range(1, 8)):
        rows = N_PERM // n
        if 1 - (1 - threshold**rows) ** n >= 0.999:
            return n
    return N_PERM
