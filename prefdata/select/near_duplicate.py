"""Pairs that are nearly a pair that is kept: they count twice in training, and leak into tests.

Two pairs are near-duplicates when the texts of their prompts, and those of their two completions
taken together, are both at least so similar (see `_near`). Of pairs that are linked in this way,
directly or through others, the one with the smallest id is kept.

Source: Broder (1997), On the resemblance and containment of documents; Lee et al. (2022),
Deduplicating Training Data Makes Language Models Better (MinHash, then the components of what was
compared).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from prefdata.errors import RecipeError
from prefdata.select import _near as near
from prefdata.stage import Parts, keys, whole
from prefdata.tables import Completions, Dropped, Pairs, Prompts, text_of, with_sides

SCOPE = "all"
SPARSE, GRAPH = cast(Any, sparse), cast(Any, csgraph)

ROWS = 1000  # pairs whose runs are hashed together
AT_ONCE = 200_000  # links that are compared by their texts in one pass
PROMPT = np.uint64(0x5851F42D4C957F2D)  # tells the runs of a prompt from those of a completion
LEAST = 0.5
SAME = "nearly the same as a pair that is kept"

Ints = NDArray[np.int64]


def near_duplicate(
    pairs: Pairs, completions: Completions, prompts: Prompts, *, similarity: float = 0.8
) -> tuple[Pairs, Dropped]:
    """Keep one of the pairs that are nearly the same, unchanged; the others are in `dropped`.

    Labels are not looked at: of a pair and its opposite one is kept, too.

    Options:
    - `similarity`: from which on two texts are nearly the same, the share of runs of five
      characters that they have in common; in [0.5, 1]. At 1 texts differ in case or spacing only.
      Of links that are just as similar 0.2 % may be missed.

    Raises `RecipeError` for a `similarity` out of range, `SourceError` where rensa is missing.
    """
    return whole(in_parts(similarity=similarity), pairs, completions, prompts)


def in_parts(*, similarity: float = 0.8) -> Parts[tuple[Pairs, Dropped]]:
    """The same in parts: signatures of all pairs are held, texts only of those that are alike."""
    if not LEAST <= similarity <= 1:
        raise RecipeError(
            f"select.near_duplicate: similarity = {similarity}; expected a share of at least "
            f"{LEAST} and at most 1"
        )
    sketches = yield sketch
    first = sketches.select("key", "same").with_row_index("at").sort("key")
    first = first.unique("same", keep="first", maintain_order=True)
    links = _links(sketches, first["at"].to_numpy().astype(np.int64), similarity)
    del sketches
    known = first["key"]
    real = [np.zeros((2, 0), np.int64)]
    for some in np.array_split(links, max(1, -(-links.shape[1] // AT_ONCE)), axis=1):
        texts = yield partial(texts_of, wanted=known.gather(np.unique(some)))
        real.append(some[:, _are_near(texts, known, some, similarity)])
    kept = _kept(np.concatenate(real, axis=1), len(known))
    return partial(keep, first=known.filter(pl.Series(kept)).sort())


def texts_of(
    pairs: Pairs, completions: Completions, prompts: Prompts, *, wanted: pl.Series | None = None
) -> pl.DataFrame:
    """`key, prompt, one, other`: the plain texts of pairs, all or those of some keys."""
    rows = with_sides(pairs).select(
        "prompt_id", "completion_a", "completion_b", key=keys(pairs["pair_id"])
    )
    if wanted is not None:
        rows = rows.filter(pl.col("key").is_in(wanted.implode()))
    of = {
        "prompt": ("prompt_id", prompts, "prompt_id", "prompt"),
        "one": ("completion_a", completions, "completion_id", "completion"),
        "other": ("completion_b", completions, "completion_id", "completion"),
    }
    for name, (column, table, key, messages) in of.items():
        named = rows[column].unique()
        known = table.filter(pl.col(key).is_in(named.implode()))
        said = known.select(pl.col(key).alias(column), text_of(messages).alias(name))
        said = said.with_columns(near.plain(said[name]).alias(name))
        rows = rows.join(said, on=column, how="left", maintain_order="left")
    return rows.select("key", *(pl.col(name).fill_null("") for name in of))


def sketch(pairs: Pairs, completions: Completions, prompts: Prompts) -> pl.DataFrame:
    """`key, same, signature`: of each pair a hash and a signature of its texts."""
    texts = texts_of(pairs, completions, prompts)
    sides = pl.min_horizontal("one", "other"), pl.max_horizontal("one", "other").alias("higher")
    signed = near.signatures(_runs(texts.drop("key")))
    return texts.select(
        "key",
        same=pl.struct("prompt", *sides).hash(seed=0),
        signature=pl.Series(signed, dtype=pl.Array(pl.UInt8, near.N_PERM)),
    )


def _runs(texts: pl.DataFrame) -> Iterator[near.Runs]:
    """The runs of each row's texts together, those of the prompt told apart."""
    for start in range(0, texts.height, ROWS):
        part = texts.slice(start, ROWS)
        made = near.hashed(near.interleaved(part))
        is_prompt = np.arange(len(made.ends) - 1) % part.width == 0
        made.hashes[np.repeat(is_prompt, np.diff(made.ends))] ^= PROMPT
        yield made.by(part.width)


def _links(sketches: pl.DataFrame, order: Ints, similarity: float) -> Ints:
    """Two rows of places in `order`: pairs whose signatures are alike, each two once."""
    signed = sketches["signature"].to_numpy()
    seen = [np.zeros(0, np.uint64)]
    for one, other in near.within(signed, order, similarity):
        low, high = (each(one, other).astype(np.uint64) for each in (np.minimum, np.maximum))
        seen.append((low << np.uint64(32)) | high)
    links = np.unique(np.concatenate(seen))
    return np.stack([links >> np.uint64(32), links & np.uint64(0xFFFFFFFF)]).astype(np.int64)


def _are_near(
    texts: pl.DataFrame, known: pl.Series, links: Ints, similarity: float
) -> NDArray[np.bool_]:
    """Of each link whether the texts are that similar."""
    sides = [
        pl.DataFrame({"key": known.gather(side)}).join(texts, on="key", maintain_order="left")
        for side in links
    ]
    found = np.ones(links.shape[1], np.bool_)
    for names in (["prompt"], ["one", "other"]):
        one, other = (side.select(names) for side in sides)
        found &= near.similar(one, other) >= similarity
    return found


def _kept(links: Ints, n: int) -> NDArray[np.bool_]:
    """Whether each of `n` is the first of those that it is linked with."""
    graph = SPARSE.coo_array((np.ones(links.shape[1], np.bool_), (links[0], links[1])), (n, n))
    component: Ints = GRAPH.connected_components(graph, directed=False)[1]
    kept = np.zeros(n, np.bool_)
    kept[np.unique(component, return_index=True)[1]] = True
    return kept


def keep(
    pairs: Pairs, completions: Completions, prompts: Prompts, *, first: pl.Series
) -> tuple[Pairs, Dropped]:
    """Of one shard the pairs whose keys are among `first`."""
    is_kept = keys(pairs["pair_id"]).is_in(first.implode())
    dropped = pairs.filter(~is_kept).select(
        pl.lit("pairs").alias("table"),
        pl.col("pair_id").alias("key"),
        pl.lit("select.near_duplicate").alias("stage"),
        pl.lit(SAME).alias("reason"),
    )
    return Pairs(pairs.filter(is_kept)), Dropped(dropped)
