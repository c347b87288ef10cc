"""Pairs as labelled comparisons of two completions, parted into those looked at and those not."""

from typing import Literal

import polars as pl

from prefdata.measure._means import with_groups
from prefdata.tables import SIDES, Completions, Pairs, Prompts, Scores, digest, typed, with_sides

# What is kept aside as one: all comparisons of a prompt group, or a single comparison.
Apart = Literal["group", "comparison"]


def labels(pairs: Pairs, prompts: Prompts) -> pl.DataFrame:
    """One row for each two completions of a prompt that pairs prefer one of, sorted by their ids.

    Columns: `prompt_id`, `group`, `completion_a`, `completion_b` (the larger id), `a_chosen`. Where
    pairs of several annotators contradict each other the more frequent label holds; two that are
    equally frequent are no label and no row.
    """
    a = pl.when("a_chosen").then(1).otherwise(-1)
    two = with_sides(pairs).group_by("prompt_id", "completion_a", "completion_b")
    told = two.agg(a=a.sum())
    known = told.filter(pl.col("a") != 0).join(prompts, on="prompt_id", how="semi")
    return (
        with_groups(known, prompts)
        .select("prompt_id", "group", "completion_a", "completion_b", a_chosen=pl.col("a") > 0)
        .sort("completion_a", "completion_b")
    )


def labelled(pairs: Pairs, prompts: Prompts, completions: Completions) -> pl.DataFrame:
    """The labels with the texts `prompt`, `said_a`, `said_b`."""
    rows = labels(pairs, prompts).join(prompts.select("prompt_id", "prompt"), on="prompt_id")
    for side in ("a", "b"):
        text = completions.select(
            pl.col("completion_id").alias(f"completion_{side}"),
            pl.col("completion").alias(f"said_{side}"),
        )
        rows = rows.join(text, on=f"completion_{side}")
    return rows.sort("completion_a", "completion_b")


def with_held_out(rows: pl.DataFrame, share: float, apart: Apart, seed: int) -> pl.DataFrame:
    """The rows with `held_out`: whether they are of the share that is kept aside.

    Groups, or comparisons, are taken in an order drawn from the seed and their names.
    """
    two = pl.concat_str("completion_a", "completion_b", separator=" ")
    rows = rows.with_columns(unit=pl.col("group") if apart == "group" else two)
    units = sorted(rows["unit"].unique(), key=lambda each: digest("held out", seed, each))
    aside = units[: round(share * len(units))]
    return rows.with_columns(held_out=pl.col("unit").is_in(aside)).drop("unit")


def marks(pairs: Pairs, rows: pl.DataFrame, score: str) -> pl.DataFrame:
    """A score of each pair that is among the rows: 1 where it is held out, else 0."""
    held_out = rows.select("completion_a", "completion_b", "held_out")
    marked = with_sides(pairs).join(held_out, on=SIDES)
    return typed(
        Scores,
        marked.select(
            subject_id="pair_id",
            subject=pl.lit("pair"),
            score=pl.lit(score),
            value=pl.col("held_out").cast(pl.Float64),
        ).sort("subject_id"),
    )
