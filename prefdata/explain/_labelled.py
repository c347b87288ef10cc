"""Pairs as labelled comparisons of two completions, parted into those looked at and those not."""

import polars as pl

from prefdata.tables import Completions, Pairs, Prompts, digest


def labelled(pairs: Pairs, prompts: Prompts, completions: Completions) -> pl.DataFrame:
    """One row for each two completions of a prompt that pairs prefer one of, sorted by their ids.

    Columns: `prompt_id`, `group`, `completion_a`, `completion_b` (the larger id), `a_chosen`, and
    the texts `prompt`, `said_a`, `said_b`. Where pairs of several annotators contradict each other
    the more frequent label holds; two that are equally frequent are no label and no row.
    """
    sides = ("chosen_id", "rejected_id")
    two = pairs.select(
        "prompt_id",
        completion_a=pl.min_horizontal(sides),
        completion_b=pl.max_horizontal(sides),
        a=pl.when(pl.col("chosen_id") < pl.col("rejected_id")).then(1).otherwise(-1),
    )
    told = two.group_by("prompt_id", "completion_a", "completion_b").agg(pl.col("a").sum())
    told = told.filter(pl.col("a") != 0, pl.col("completion_a") != pl.col("completion_b"))
    texts = completions.select("completion_id", "completion")
    own = pl.concat_str(pl.lit("prompt "), "prompt_id")
    group = pl.coalesce(pl.concat_str(pl.lit("group "), "group"), own)
    return (
        told.join(prompts.select("prompt_id", "prompt", group=group), on="prompt_id")
        .join(
            texts.rename({"completion": "said_a"}), left_on="completion_a", right_on="completion_id"
        )
        .join(
            texts.rename({"completion": "said_b"}), left_on="completion_b", right_on="completion_id"
        )
        .select(
            *("prompt_id", "group", "completion_a", "completion_b"),
            *("prompt", "said_a", "said_b"),
            a_chosen=pl.col("a") > 0,
        )
        .sort("completion_a", "completion_b")
    )


def with_held_out(rows: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """The rows with `held_out`: whether they are of the share of groups that is kept aside.

    Groups are taken in an order drawn from the seed and their names. Where there is one group
    only, its comparisons are parted instead.
    """
    if rows["group"].n_unique() < 2:
        unit = pl.concat_str("completion_a", "completion_b", separator=" ")
        rows = rows.with_columns(unit=unit)
    else:
        rows = rows.with_columns(unit="group")
    units = sorted(rows["unit"].unique(), key=lambda each: digest("held out", seed, each))
    aside = units[: round(share * len(units))]
    return rows.with_columns(held_out=pl.col("unit").is_in(aside)).drop("unit")
