"""What texts have in common without any model: their groups of three letters.

Each text is the vector of its character trigrams, tf-idf weighted and of length 1; the directions
in which texts differ most (a truncated singular value decomposition) are kept. No label is looked
at.

Source: Deerwester et al. (1990), Indexing by Latent Semantic Analysis; Damashek (1995), Gauging
Similarity with n-Grams, for trigrams in the place of words.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

Floats = NDArray[np.floating[Any]]
SPARSE: Any = sparse
SOLVERS: Any = linalg

WIDTH = 64
# Trigrams share this many columns, by a hash.
BUCKETS = 1 << 15
# The directions are those of so many texts, the first by their ids, and so a random sample.
SAMPLE = 10_000
# Texts that are read at once; what is held does not grow with their number.
AT_ONCE = 4096


def spelling(texts: pl.DataFrame) -> pl.DataFrame:
    """`completion_id` and up to 64 columns of each of `completion_id, text`."""
    rows = texts.sort("completion_id")
    sample = _trigrams(rows["text"].head(SAMPLE))
    smaller: int = min(sample.shape)
    width = min(WIDTH, smaller - 1)
    if width < 1 or sample.nnz == 0:
        return rows.select("completion_id")
    seen_in = np.bincount(sample.indices, minlength=BUCKETS)
    rarity = np.log((1 + sample.shape[0]) / (1 + seen_in)) + 1
    start = np.random.default_rng(0).normal(size=smaller)
    directions = SOLVERS.svds(_weighted(sample, rarity), k=width, v0=start)[2].T
    places = [_weighted(_trigrams(part), rarity) @ directions for part in _parts(rows["text"])]
    names = [f"s{at}" for at in range(width)]
    found = pl.DataFrame(np.concatenate(places), schema=names)
    return rows.select("completion_id").hstack(found)


def _parts(texts: pl.Series) -> Iterator[pl.Series]:
    return (texts.slice(at, AT_ONCE) for at in range(0, len(texts), AT_ONCE))


def _trigrams(texts: pl.Series) -> Any:
    """How often each bucket's trigrams stand in each text, as a sparse matrix."""
    spaced = texts.str.to_lowercase().str.replace_all(r"\s+", " ")
    said = pl.concat_str(pl.lit(" "), pl.col("text").str.strip_chars(), pl.lit(" "))
    plain = pl.DataFrame({"text": spaced}).select(said).to_series()
    letters = np.frombuffer("".join(plain.to_list()).encode("utf-32-le"), np.uint32)
    owner = np.repeat(np.arange(len(plain)), plain.str.len_chars().to_numpy())
    letters = letters.astype(np.uint64)
    mixed = (letters[:-2] * 1_000_003 + letters[1:-1]) * 1_000_003 + letters[2:]
    bucket = (mixed * 0x9E3779B97F4A7C15) >> 49
    within = owner[:-2] == owner[2:]
    shape = len(plain), BUCKETS
    place = owner[:-2][within], bucket[within].astype(np.int64)
    counted = SPARSE.coo_array((np.ones(len(place[0])), place), shape=shape).tocsr()
    counted.sum_duplicates()
    return counted


def _weighted(counts: Any, rarity: Floats) -> Any:
    """1 + log(count) times the rarity of each trigram, each text of length 1."""
    made = counts.copy()
    made.data = (1 + np.log(made.data)) * rarity[made.indices]
    length = np.sqrt(np.asarray(made.multiply(made).sum(1))).ravel()
    made.data /= np.repeat(length, np.diff(made.indptr))
    return made
