"""Completions shown side by side: which together, and what their ratings say about each two."""

from typing import Literal

import polars as pl

from prefdata.annotate._showing import Orders, lists, shown
from prefdata.errors import RecipeError
from prefdata.judge import LETTERS
from prefdata.tables import Completions, Prompts

Together = Literal["pairs", "all"]


def side_by_side(
    prompts: Prompts,
    completions: Completions,
    *,
    together: Together,
    orders: Orders,
    draws: int,
    max_pairs: int | None,
    seed: int,
    stage: str,
) -> pl.DataFrame:
    """What is shown together: `showing`, `prompt_id`, `draw` and `shown`, ids in their order."""
    if together == "pairs":
        rows = shown(
            prompts, completions, orders=orders, draws=draws, max_pairs=max_pairs, seed=seed,
            stage=stage,
        )  # fmt: skip
        a, b = pl.col("completion_a"), pl.col("completion_b")
        order = pl.when("a_first").then(pl.concat_list(a, b)).otherwise(pl.concat_list(b, a))
        rows = rows.select("prompt_id", "draw", order.alias("shown"))
    else:
        if draws < 1:
            raise RecipeError(f"{stage}: draws = {draws}; it is at least 1")
        if max_pairs is not None:
            raise RecipeError(f'{stage}: max_pairs = {max_pairs} belongs to together = "pairs"')
        there = completions.join(prompts, on="prompt_id", how="semi")
        rows = lists(Completions(there), orders=orders, draws=draws, seed=seed).drop("forward")
        longest = rows["shown"].list.len().max() or 0
        if isinstance(longest, int) and longest > len(LETTERS):
            raise RecipeError(
                f"{stage}: a prompt has {longest} completions, and at most {len(LETTERS)} are "
                'shown together; use together = "pairs", or annotate.listwise'
            )
    return rows.with_row_index("showing")


def placed(heard: pl.DataFrame) -> pl.DataFrame:
    """The answers by letter, each with the `completion_id` that stood under it and its `place`."""
    place = pl.col("key").replace_strict(list(LETTERS), range(len(LETTERS)), return_dtype=pl.Int64)
    return heard.with_columns(place.alias("place")).with_columns(
        completion_id=pl.col("shown").list.get(pl.col("place"))
    )


def compared(rated: pl.DataFrame) -> pl.DataFrame:
    """A vote for each two completions of a showing, from their worths."""
    a = rated.drop("shown", "key", "raw")
    b = a.select("showing", "criterion", "completion_id", "place", "worth", "unscored")
    both = a.join(b, on=["showing", "criterion"], suffix="_b")
    both = both.filter(pl.col("completion_id") < pl.col("completion_id_b"))
    unscored = pl.coalesce("unscored", "unscored_b")
    sign = (pl.col("worth") - pl.col("worth_b")).sign()
    return both.with_columns(
        completion_a="completion_id",
        completion_b="completion_id_b",
        a_first=pl.col("place") < pl.col("place_b"),
        unscored=unscored,
        preference=pl.when(unscored.is_null()).then((sign + 1) / 2),
    )


def numbered(rated: pl.DataFrame) -> pl.DataFrame:
    """The ratings, those of one completion and criterion numbered by `draw`."""
    order = pl.struct("draw", pl.col("shown").list.join(" "))
    draw = order.rank("ordinal").over("completion_id", "criterion").cast(pl.Int64) - 1
    return rated.with_columns(draw=draw, rating=pl.col("worth"))
