"""What the votes of a version show at a glance: who agrees with whom, and what moves them.

These are counts, drawn on the report of every version, whether or not a stage measured anything.
What a number rests on, held against confounders and groups of prompts, is the measures' business
(`measure.agreement`, `position_bias`, `length_bias`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.measure._wilson import wilson
from prefdata.tables import SIDES, empty, with_sides

MOST = 12  # annotators in a matrix
# Principles vote as annotators, by the hundred and under digests: here they are one.
PRINCIPLES = "all principles"


@dataclass(frozen=True)
class Share:
    """`k` of `n`, of an annotator, with Wilson's 95 % interval."""

    of: str
    k: int
    n: int

    @property
    def value(self) -> float:
        return self.k / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.value, float(self.n))


@dataclass(frozen=True)
class Matrix:
    """How often two annotators gave the same verdict on what both compared; `n` how many these are.

    A verdict is the side that an annotator's scored votes prefer on the whole, or a tie.
    """

    names: tuple[str, ...]
    same: NDArray[np.float64]
    n: NDArray[np.int64]


def agreement(frames: Mapping[str, pl.DataFrame]) -> Matrix:
    """Of the annotators with the most votes, principles aside, and the label of the pairs."""
    said = _scored(frames).filter(pl.col("annotator") != PRINCIPLES)
    label = with_sides(frames.get("pairs", empty("pairs")).filter(pl.col("annotator").is_null()))
    most = said.group_by("annotator").len("n").sort("n", "annotator", descending=[True, False])
    kept = most["annotator"].head(MOST).to_list()
    verdicts = (
        said.filter(pl.col("annotator").is_in(kept))
        .group_by(*SIDES, "annotator")
        .agg(verdict=(pl.col("preference").mean().round(9) - 0.5).sign())
    )
    labels = label.select(
        *SIDES,
        annotator=pl.lit("label of pairs"),
        verdict=pl.when("a_chosen").then(1.0).otherwise(-1.0),
    )
    names = [*sorted(kept), *(["label of pairs"] if labels.height and kept else [])]
    wide = pl.concat([verdicts, labels]).pivot("annotator", index=SIDES, values="verdict")
    if not kept:
        return Matrix((), np.zeros((0, 0)), np.zeros((0, 0), np.int64))
    given: NDArray[np.float64] = wide.select(names).cast(pl.Float64).fill_null(np.nan).to_numpy()
    same, n = (
        np.full((len(names), len(names)), np.nan),
        np.zeros((len(names), len(names)), np.int64),
    )
    for at in range(len(names)):
        both = ~np.isnan(given) & ~np.isnan(given[:, [at]])
        n[at] = both.sum(axis=0)
        equal = ((given == given[:, [at]]) & both).sum(axis=0)
        same[at] = np.where(n[at] > 0, equal / np.maximum(n[at], 1), np.nan)
    return Matrix(tuple(names), same, n)


def first_preferred(frames: Mapping[str, pl.DataFrame]) -> list[Share]:
    """Of each annotator's votes that are no ties, how many are for the side shown first."""
    said = _scored(frames).filter(pl.col("a_first").is_not_null() & (pl.col("preference") != 0.5))
    return _shares(said, (pl.col("preference") > 0.5) == pl.col("a_first"))


def longer_preferred(frames: Mapping[str, pl.DataFrame]) -> list[Share]:
    """Of each annotator's votes on unequally long texts, no ties, how many are for the longer."""
    size = pl.col("completion").list.eval(pl.element().struct.field("content").str.len_chars())
    lengths = frames.get("completions", empty("completions")).select(
        "completion_id", n=size.list.sum()
    )
    said = _scored(frames).filter(pl.col("preference") != 0.5)
    for side in SIDES:
        named = lengths.rename({"completion_id": side, "n": f"n_{side}"})
        said = said.join(named, on=side, how="left")
    one, other = (pl.col(f"n_{side}") for side in SIDES)
    return _shares(said.filter(one != other), (pl.col("preference") > 0.5) == (one > other))


def _scored(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    votes = frames.get("votes", empty("votes"))
    scored = votes.select(*SIDES, "annotator", "a_first", "preference").drop_nulls("preference")
    return scored.with_columns(principles_as_one())


def principles_as_one() -> pl.Expr:
    """The annotators, with all principles as one."""
    is_principle = pl.col("annotator").str.starts_with("principle:")
    return pl.when(is_principle).then(pl.lit(PRINCIPLES)).otherwise("annotator").alias("annotator")


def _shares(votes: pl.DataFrame, hit: pl.Expr) -> list[Share]:
    by = votes.group_by("annotator").agg(k=hit.sum(), n=pl.len())
    most = by.sort("n", "annotator", descending=[True, False]).head(MOST).sort("annotator")
    rows: list[tuple[Any, ...]] = most.select("annotator", "k", "n").rows()
    return [Share(str(who), int(k), int(n)) for who, k, n in rows]
