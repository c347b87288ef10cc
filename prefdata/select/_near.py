"""Nearly equal texts: MinHash signatures by rensa, and the similarity of what they find.

The similarity of two texts is Jaccard's, of their sets of runs of five characters: 1 for texts that
`plain` makes equal. A signature has 128 numbers, of which two texts have about as many in common as
they are similar; bands of them say where to look, and what is reported was computed from the texts.

Source: Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman,
Ullman, "Mining of Massive Datasets", chapter 3, for the banding; Li, König (2010), "b-Bit Minwise
Hashing", for keeping one byte of each number.
"""

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.errors import SourceError

Hashes = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RUN = 5
N_PERM, SEED = 128, 42
# Estimates have a standard error of 0.04 here: look so far below the wanted similarity.
SLACK = 0.12
FOUND = 0.998  # of what is just as similar as wanted
PRIME, MIX = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15)
BITS = 40  # of a run's hash beside the number of its row: two runs of a pair hardly ever collide
AT_ONCE = 1 << 18  # characters: what is worked on stays in the processor's cache
ROWS = 1000
LINKS = 1 << 16  # signatures that are compared at once
# Of the texts that share a band's key each is compared with so many; where they are many they are
# mostly alike, and each has the next few to be compared with.
NEIGHBOURS, MOST = 4, 64


def library() -> Any:
    """rensa, or what to install."""
    try:
        return importlib.import_module("rensa")
    except ImportError as error:
        raise SourceError(
            "near-duplicates are found by rensa; install it with: pip install 'prefdata[check]'"
        ) from error


def plain(texts: pl.Series) -> pl.Series:
    """Texts without what no reader sees or minds: case, spacing, forms of one letter."""
    rows = pl.DataFrame({"text": texts})
    is_ascii = pl.col("text").str.len_bytes() == pl.col("text").str.len_chars()
    others = rows.with_row_index("at").filter(~is_ascii)
    if others.height:
        said = others.select(
            "at",
            said=pl.col("text").str.normalize("NFKC").str.replace_all(r"\p{Cf}+", ""),
        )
        rows = rows.with_columns(
            text=rows["text"].scatter(said["at"], said["said"])  # ASCII has one form already
        )
    said = pl.col("text").str.to_lowercase().str.replace_all(r"\s{2,}|[^\S ]", " ")
    return rows.select(said.str.strip_chars()).to_series().alias(texts.name)


def runs(text: str) -> set[str]:
    """Every run of five characters; a shorter text is one run."""
    return {text[at : at + RUN] for at in range(max(1, len(text) - RUN + 1))}


def jaccard(one: str, other: str) -> float:
    a, b = runs(one), runs(other)
    return len(a & b) / len(a | b)


class Runs(NamedTuple):
    """A hash of every run of some texts, and where those of each text begin and end."""

    hashes: Hashes
    ends: Ints

    def by(self, n: int) -> "Runs":
        """Of every `n` texts together."""
        return Runs(self.hashes, self.ends[::n])


def hashed(texts: pl.Series) -> Runs:
    """The runs of texts, in order, those that a text repeats too."""
    padded = texts.str.pad_end(RUN, "\0")
    codes, ends = _codes(padded)
    n = max(0, len(codes) - RUN + 1)
    made = np.zeros(n, np.uint64)
    for k in range(RUN):
        made *= PRIME
        made += codes[k : n + k]
    within = np.ones(len(codes), np.bool_)
    for k in range(1, RUN):
        within[ends[1:] - k] = False  # a run that begins here would end in the next text
    made *= MIX
    made ^= made >> np.uint64(32)
    counts = np.diff(ends) - RUN + 1
    return Runs(made[within[:n]], np.concatenate([[0], np.cumsum(counts)]))


def _codes(texts: pl.Series) -> tuple[NDArray[Any], Ints]:
    """The characters of texts as numbers, and where each text begins and ends."""
    arrow = cast(Any, texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()))
    offsets, data = cast("tuple[Any, Any]", arrow.buffers()[1:])
    ends = np.frombuffer(offsets, np.int64)[arrow.offset : arrow.offset + len(texts) + 1]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    raw = raw[ends[0] : ends[-1]]
    if not (raw & 128).any():
        return raw, ends - ends[0]
    codes = np.frombuffer(raw.tobytes().decode().encode("utf-32-le"), np.uint32)
    return codes, np.concatenate([[0], np.cumsum(texts.str.len_chars().to_numpy())]).astype(
        np.int64
    )


def beside(one: pl.Series, other: pl.Series, least: float) -> pl.Series:
    """The similarity of the plain texts in each row; null where it is below `least`."""
    sizes = pl.DataFrame({"a": one.str.len_chars(), "b": other.str.len_chars()})
    short, long = pl.min_horizontal("a", "b"), pl.max_horizontal("a", "b")
    # no two sets of such different sizes are that similar, unless a text repeats itself
    worth = sizes.select(((short > 0) & (short >= least * long * 0.5)).fill_null(False))
    rows = worth.to_series().arg_true()
    first, second = one.gather(rows), other.gather(rows)
    about = similar(pl.DataFrame([first.alias("a")]), pl.DataFrame([second.alias("a")]))
    found: dict[int, float] = {}
    for at in np.flatnonzero(about >= least - 0.01).tolist():
        value = jaccard(first[at], second[at])
        if value >= least:
            found[int(rows[at])] = value
    return pl.Series("similarity", [found.get(at) for at in range(len(one))], pl.Float64)


def similar(one: pl.DataFrame, other: pl.DataFrame) -> Floats:
    """The similarity of the texts in each row, all columns of a row together, from hashes of runs.

    The columns are texts, without nulls, the same in both.
    """
    n = pl.sum_horizontal(pl.all().str.len_chars())
    sizes = one.select(n).to_series() + other.select(n).to_series()
    made = [np.zeros(0)]
    start = 0
    for length in (sizes.cum_sum() // AT_ONCE).rle().struct.field("len"):
        made.append(_similar(one.slice(start, length), other.slice(start, length)))
        start += length
    return np.concatenate(made)


def _similar(one: pl.DataFrame, other: pl.DataFrame) -> Floats:
    keys = np.concatenate([_numbered(side) | np.uint64(at) for at, side in enumerate((one, other))])
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    both = keys[1:][(keys[1:] ^ keys[:-1]) == 1]
    n_all, n_both = (
        np.bincount((each >> np.uint64(BITS)).astype(np.int64), minlength=one.height)
        for each in (keys, both)
    )
    return n_both / np.maximum(n_all - n_both, 1)


def _numbered(side: pl.DataFrame) -> Hashes:
    """The runs of each row with its number before them, and the last bit free."""
    of = hashed(interleaved(side)).by(side.width)
    row = np.repeat(np.arange(side.height, dtype=np.uint64), np.diff(of.ends))
    return (row << np.uint64(BITS)) | (of.hashes >> np.uint64(65 - BITS) << np.uint64(1))


def interleaved(rows: pl.DataFrame) -> pl.Series:
    """The texts of each row after each other."""
    return rows.select(pl.concat_list(pl.all())).to_series().explode()


def across(one: pl.Series, other: pl.Series, least: float) -> Iterator[tuple[int, int, float]]:
    """Places in two series of plain texts that are at least so similar, and how similar."""
    signed = [signatures(hashed_in_parts(texts)) for texts in (one, other)]
    return alike(one, other, signed[0], signed[1], least)


def alike(
    one: pl.Series, other: pl.Series, signed: Bytes, others: Bytes, least: float
) -> Iterator[tuple[int, int, float]]:
    """The same of texts whose signatures are known."""
    for a, b in between(signed, others, least):
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            value = jaccard(str(one[i]), str(other[j]))
            if value >= least:
                yield i, j, value


def hashed_in_parts(texts: pl.Series) -> Iterator[Runs]:
    """The runs of some texts after those of others."""
    for start in range(0, len(texts), ROWS):
        yield hashed(texts.slice(start, ROWS))


def signatures(parts: Iterator[Runs]) -> Bytes:
    """A row a text; two agree in about the share of columns that the texts are similar."""
    made = [np.zeros((0, N_PERM), np.uint8)]
    for part in parts:
        drawn = library().RMinHash.digest_matrix_from_flat_token_hashes(
            part.hashes, part.ends.astype(np.uint64), N_PERM, SEED
        )
        made.append(np.array(drawn.to_rows(), np.uint32).astype(np.uint8))
    return np.concatenate(made)


def within(signed: Bytes, order: Ints, least: float) -> Iterator[tuple[Ints, Ints]]:
    """Places in `order` of texts whose signatures agree about so much; `order` are places in
    `signed`. Each link once a band."""
    rank = np.arange(len(order), dtype=np.uint64)
    for key in _bands(signed, least):
        keyed = (key[order] << np.uint64(32)) | rank
        keyed.sort()
        band, at = keyed >> np.uint64(32), (keyed & np.uint64(0xFFFFFFFF)).astype(np.int64)
        for step in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero(band[step:] == band[:-step])
            yield from _agreeing(signed, signed, at[same], at[same + step], least, order, order)


def between(one: Bytes, other: Bytes, least: float) -> Iterator[tuple[Ints, Ints]]:
    """Places in two lists whose signatures agree about so much, each two once."""
    seen: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    own, others = np.arange(len(one)), np.arange(len(other))
    for key, key_other in zip(_bands(one, least), _bands(other, least), strict=True):
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        low, high = (np.searchsorted(ordered, key_other, side) for side in ("left", "right"))
        n = np.minimum(high - low, MOST)
        b = np.repeat(others, n)
        a = order[np.repeat(low, n) + _counting(n)]
        for i, j in _agreeing(one, other, a, b, least, own, others):
            seen.append((i.astype(np.uint64) << np.uint64(32)) | j.astype(np.uint64))
    links = np.unique(np.concatenate(seen))
    for start in range(0, len(links), LINKS):
        part = links[start : start + LINKS]
        yield (
            (part >> np.uint64(32)).astype(np.int64),
            (part & np.uint64(0xFFFFFFFF)).astype(np.int64),
        )


def _counting(n: Ints) -> Ints:
    """0, 1, ... for each number."""
    return np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)


def _agreeing(
    one: Bytes, other: Bytes, a: Ints, b: Ints, least: float, places: Ints, others: Ints
) -> Iterator[tuple[Ints, Ints]]:
    for start in range(0, len(a), LINKS):
        i, j = a[start : start + LINKS], b[start : start + LINKS]
        # one byte of a number agrees by chance in one of 256
        about = ((one[places[i]] == other[others[j]]).mean(axis=1) - 1 / 256) / (1 - 1 / 256)
        near = about >= least - SLACK
        yield i[near], j[near]


def _bands(signed: Bytes, least: float) -> Iterator[NDArray[np.uint64]]:
    """A key of 32 bits of each text for each band: texts with one key have it in common."""
    width = band(least)
    for start in range(0, N_PERM - width + 1, width):
        key = np.zeros(len(signed), np.uint64)
        for at in range(start, start + width):
            key = key * MIX + signed[:, at]
        yield key * MIX >> np.uint64(32)


def band(least: float) -> int:
    """The most numbers in a band with which nearly all that is so similar is found."""
    widths = range(N_PERM // 2, 1, -1)
    enough = (w for w in widths if 1 - (1 - least**w) ** (N_PERM // w) >= FOUND)
    return next(enough, 1)
