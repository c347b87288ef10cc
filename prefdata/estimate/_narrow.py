"""Evidence about pairs that needs no other pair and no model: a few numbers of each."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from prefdata.estimate._evidence import Evidence, lengths, oriented, scaled
from prefdata.estimate._given import given
from prefdata.stage import keys
from prefdata.tables import Completions, Pairs, Prompts, Ratings, Scores, Votes

ABOUT = ("key", "group", "chose_a")


def narrow(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    scores: Scores | None,
    votes: Votes | None,
    ratings: Ratings | None,
    *,
    with_lengths: bool,
    margins: Sequence[str],
    annotators: Sequence[str],
    raters: Sequence[str],
) -> pl.DataFrame:
    """`key, group, chose_a` and the evidence about each pair, of one shard, unscaled.

    Its columns are named by their block, as `margins_0`.
    """
    rows = oriented(pairs, prompts)
    blocks = given(rows, scores, votes, ratings, margins, annotators, raters)
    if with_lengths:
        blocks["lengths"] = lengths(rows, completions)
    evidence = [
        pl.Series(f"{name}_{at}", column)
        for name, block in blocks.items()
        for at, column in enumerate(block.T)
    ]
    return rows.select("chose_a").with_columns(
        keys(rows["pair_id"]).alias("key"), keys(rows["group"]).alias("group"), *evidence
    )


def evidence_of(rows: pl.DataFrame) -> Evidence:
    """What `narrow` gives of all shards as evidence, in the order of the pairs' keys."""
    rows = rows.sort("key")
    names = sorted(name for name in rows.columns if name not in ABOUT)
    of_block = [name.rpartition("_")[0] for name in names]
    block = np.unique(of_block, return_inverse=True)[1] if names else np.zeros(0)
    x = np.zeros((rows.height, len(names)))
    for at, name in enumerate(names):
        x[:, at] = scaled(rows[name].to_numpy()[:, None], each_column=True)[:, 0]
    groups = rows["group"].rank("dense").to_numpy().astype(np.int64) - 1
    about = rows.select("key")
    return Evidence(about, x, block.astype(np.int64), rows["chose_a"].to_numpy(), groups)
