"""Splits that never part a prompt group.

A group is a prompt's `group`, or the prompt alone where it has none. Its split is a function of
the seed and the group's name only, so it does not depend on the order, number or content of other
rows: a prompt keeps its split when a dataset grows.
"""

import re
from collections.abc import Mapping

import polars as pl

from prefdata.errors import RecipeError, TableError
from prefdata.tables import digest, empty, keys, union

TRAIN = "train"
REASON = "its two prompts are in different splits"


def assign_splits(
    frames: Mapping[str, pl.DataFrame], splits: Mapping[str, float], seed: int = 0
) -> dict[str, pl.DataFrame]:
    """The tables with `pairs.split` filled; the rest of each group's share is `train`.

    `splits` gives each split's share of the groups, as {"test": 0.1}; empty leaves the splits that
    pairs already have. A pair whose completions answer prompts of different splits belongs to
    none: it goes to `dropped`, with the rationales about it. Assigning twice changes nothing.
    `RecipeError` if the shares or names are wrong, `TableError` if pairs that came with splits
    part a group.
    """
    made = dict(frames)
    if "pairs" not in frames or not checked(splits):
        return made
    of_prompt = prompt_splits(frames, splits, seed)
    sides = frames["pairs"].drop("split", strict=False)
    for side in ("chosen", "rejected"):
        owner = frames["completions"].select(
            pl.col("completion_id").alias(f"{side}_id"), "prompt_id"
        )
        owner = owner.join(of_prompt, on="prompt_id").select(
            f"{side}_id", pl.col("split").alias(side)
        )
        sides = sides.join(owner, on=f"{side}_id", how="left", maintain_order="left")
    one = pl.col("chosen").eq_missing(pl.col("rejected"))
    made["pairs"] = sides.filter(one).rename({"chosen": "split"}).drop("rejected")
    parted = sides.filter(~one)
    if parted.height:
        _drop(made, "pairs", parted)
    if parted.height and "rationales" in made:
        about = made["rationales"]
        made["rationales"] = about.join(parted, on="pair_id", how="anti")
        _drop(made, "rationales", about.join(parted, on="pair_id", how="semi"))
    return made


def _drop(made: dict[str, pl.DataFrame], table: str, rows: pl.DataFrame) -> None:
    said = pl.DataFrame({"key": keys(table, rows)}).with_columns(
        table=pl.lit(table), stage=pl.lit("splits"), reason=pl.lit(REASON)
    )
    made["dropped"] = union("dropped", made.get("dropped", empty("dropped")), said, where="splits")


def prompt_splits(
    frames: Mapping[str, pl.DataFrame], splits: Mapping[str, float], seed: int = 0
) -> pl.DataFrame:
    """Each prompt's split, as (prompt_id, split).

    Without `splits` it is what the pairs of its group say, and `train` where they say nothing.
    """
    own = pl.concat_str(pl.lit("prompt "), "prompt_id")
    group = pl.coalesce(pl.concat_str(pl.lit("group "), "group"), own)
    grouped = frames.get("prompts", empty("prompts")).select("prompt_id", group=group)
    groups = grouped["group"].unique()
    if checked(splits):
        drawn = [_draw(seed, name, splits) for name in groups]
        said = pl.DataFrame(
            {"group": groups, "split": drawn}, schema_overrides={"split": pl.String}
        )
    else:
        said = _given(frames, grouped)
    return grouped.join(said, on="group", how="left").select(
        "prompt_id", pl.col("split").fill_null(TRAIN)
    )


def part(
    rows: pl.DataFrame,
    frames: Mapping[str, pl.DataFrame],
    splits: Mapping[str, float],
    seed: int = 0,
) -> dict[str, pl.DataFrame]:
    """The rows of an export by split, `train` first; tables are those of `assign_splits`.

    Rows follow their `pair_id`, else their `prompt_id`; rows that have neither are one split.
    """
    names = [TRAIN, *sorted(splits)]
    if "pair_id" in rows.columns:
        pairs = frames.get("pairs", empty("pairs"))
        pairs = pairs.select("pair_id", pl.col("split").fill_null(TRAIN).alias(" split"))
        rows = rows.join(pairs, on="pair_id", maintain_order="left")
    elif "prompt_id" in rows.columns:
        of_prompt = prompt_splits(frames, splits, seed).rename({"split": " split"})
        rows = rows.join(of_prompt, on="prompt_id", how="left", maintain_order="left")
    elif splits:
        raise TableError("an export has neither pair_id nor prompt_id: its rows cannot be split")
    else:
        return {TRAIN: rows}
    names += sorted(set(rows[" split"].unique()) - set(names))
    parts = {name: rows.filter(pl.col(" split") == name).drop(" split") for name in names}
    return {name: each for name, each in parts.items() if each.height or name in (TRAIN, *splits)}


def checked(splits: Mapping[str, float]) -> Mapping[str, float]:
    """The shares, if they are ones; `RecipeError` else."""
    for name, share in splits.items():
        if name == TRAIN or not re.fullmatch(r"[A-Za-z0-9_]{1,100}", name):
            raise RecipeError(
                f"splits.{name}: a split is named by letters, digits and _, at most 100; train is "
                "what is left"
            )
        if not 0 < share < 1:
            raise RecipeError(f"splits.{name}: a share is between 0 and 1, found {share}")
    if sum(splits.values()) >= 1:
        raise RecipeError(f"splits: the shares leave nothing for train: {dict(splits)}")
    return splits


def _draw(seed: int, group: str, splits: Mapping[str, float]) -> str:
    place = int(digest("split", seed, group), 16) / 16**20
    upto = 0.0
    for name in sorted(splits):
        upto += splits[name]
        if place < upto:
            return name
    return TRAIN


def _given(frames: Mapping[str, pl.DataFrame], grouped: pl.DataFrame) -> pl.DataFrame:
    if "pairs" not in frames or "split" not in frames["pairs"].columns:
        return pl.DataFrame(schema={"group": pl.String, "split": pl.String})
    pairs = frames["pairs"].filter(pl.col("split").is_not_null())
    said = pairs.select("prompt_id", "split").join(grouped, on="prompt_id")
    said = said.select("group", "split").unique()
    several = said.filter(pl.col("group").is_duplicated()).sort("group", "split")
    if several.height:
        raise TableError(
            f"pairs come with splits that part {several['group'].n_unique()} prompt groups, first "
            f"{several['group'][0]}; give splits, as in splits.test = 0.1, to assign them anew"
        )
    return said
