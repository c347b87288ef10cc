"""Turn pairs round whose labels are likely the wrong way round."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from prefdata import tables
from prefdata.estimate._about_labels import READINGS, choose, read, turned
from prefdata.tables import Pairs, Scores

SCOPE = "all"  # a share is one of all pairs

Floats = NDArray[np.floating[Any]]


def flip(
    pairs: Pairs,
    scores: Scores,
    *,
    score: str = "label_error",
    share: float | None = None,
    above: float | None = None,
) -> tuple[Pairs, Scores]:
    """Chosen and rejected change places in the pairs whose labels are most in doubt.

    A flipped pair keeps its id. Its `soft_label` becomes the probability that the new label is
    right: that of a flip where the score is one, sigmoid of the margin where it is a difference; at
    least 1/2. Its `margin` becomes the size of a difference, and null where the score is a
    probability: the strengths that gave the old one said the opposite. All scores that are
    oriented to the chosen side are turned with it, `ref_logp_chosen` and all that is named after a
    side changes names with the other side's, and what cannot be told of the turned pair (`ches`,
    `difficulty` ...) is dropped: such stages come after this one. A score `flipped` (1, or 0 again
    where a flipped pair is flipped back) says which pairs were: the first order can be had back.

    Doubt and options are those of select.label_error.

    - `score`: which score speaks about the labels; `name@model` where several models gave one.
    - `share`: flip this share of the pairs that have the score, the most doubtful; in [0, 1].
    - `above`: or flip those whose doubt is above this (0.5 for probabilities of a flip, 0 for
      margins; -0.5 for probabilities that the chosen side is better).

    Raises `RecipeError` as select.label_error does.

    Source: Wang et al. (2024), Secrets of RLHF in Large Language Models Part II (flip the lowest
    strengths, take the size of the strength as the margin).
    """
    own = pl.col("subject_id").is_in(pairs["pair_id"].implode())
    doubts = read(scores.filter(own), score, where="pair.flip")
    ids = choose(doubts, share=share, above=above, where="pair.flip")
    evidence = doubts.with_columns(
        pl.Series("p_right", _right(doubts, READINGS[score.partition("@")[0]] == "signed"))
    )
    size = pl.when(pl.col("p_flipped").is_null()).then(pl.col("value").abs())
    evidence = evidence.select("pair_id", "p_right", size=size)
    rows = pairs.join(evidence, on="pair_id", how="left", maintain_order="left")
    is_flipped = pl.col("pair_id").is_in(ids.implode())

    def where_flipped(new: pl.Expr, old: str) -> pl.Expr:
        return pl.when(is_flipped).then(new).otherwise(pl.col(old)).alias(old)

    changed = rows.with_columns(
        where_flipped(pl.col("rejected_id"), "chosen_id"),
        where_flipped(pl.col("chosen_id"), "rejected_id"),
        where_flipped(pl.col("p_right").clip(0.5, 1), "soft_label"),
        where_flipped(pl.col("size"), "margin"),
    )
    return Pairs(changed.select(pairs.columns)), _noted(scores, ids)


def _right(doubts: pl.DataFrame, is_margin: bool) -> Floats:
    """P(the flipped label is right)."""
    if is_margin:
        return expit(-doubts["value"].to_numpy())
    return doubts["p_flipped"].to_numpy()


def _noted(scores: Scores, ids: pl.Series) -> Scores:
    """Scores turned with their pairs, and `flipped` of each pair that was."""
    after = turned(scores, ids)
    is_note = pl.col("score") == "flipped"
    before = after.filter(is_note).select("subject_id", was="value")
    now = (
        pl.DataFrame({"subject_id": ids})
        .join(before, on="subject_id", how="left")
        .select(
            "subject_id",
            subject=pl.lit("pair"),
            score=pl.lit("flipped"),
            model=pl.lit(None, pl.String),
            value=1 - pl.col("was").fill_null(0.0),
            stderr=pl.lit(None, pl.Float64),
            request_id=pl.lit(None, pl.String),
        )
    )
    kept = after.filter(~(is_note & pl.col("subject_id").is_in(ids.implode())))
    columns = tables.schema("scores").columns
    return Scores(pl.concat([kept.select(*columns), now.select(*columns)]))
