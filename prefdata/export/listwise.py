"""A prompt with all its completions, best first: `prompt`, `completions`, `scores`, `ranks`.

`scores` are the completions' strengths, descending. Rank 1 is the best; completions of equal
strength (to nine significant digits) share the smaller rank, as in 1, 2, 2, 4, and stand by id.
"""

from typing import Literal

import polars as pl

from prefdata.aggregate._ranks import rank
from prefdata.errors import RecipeError, TableError
from prefdata.tables import (
    Completions,
    Format,
    Prompts,
    Rows,
    Strengths,
    check,
    one_estimator,
    plain,
)


def listwise(
    prompts: Prompts,
    completions: Completions,
    strengths: Strengths,
    *,
    estimator: str | None = None,
    min_completions: int = 2,
    ties: Literal["share", "order", "drop"] = "share",
    format: Format = "conversational",
) -> Rows:
    """One row a prompt, by `prompt_id`, with `completion_ids` in the order of `completions`.

    `estimator` names whose strengths are taken and is required when there are several. A prompt
    with fewer than `min_completions` of them has no row. `ties` "order" gives completions of equal
    strength the ranks of their order by id; "drop" keeps the first of them only. `format`
    "conversational" keeps messages; "standard" gives plain strings and raises `TableError` on
    conversations of several messages.

    Raises `RecipeError` for a `min_completions` below 1.

    Source: Cao, Qin, Liu, Tsai, Li (2007), Learning to Rank: From Pairwise Approach to Listwise
    Approach (a query with its documents and their scores as one instance).
    """
    if min_completions < 1:
        raise RecipeError(f"export.listwise: min_completions = {min_completions}; at least 1")
    taken = one_estimator(strengths, estimator, where="export.listwise")
    said = taken.join(completions.select("completion_id", "completion"), on="completion_id")
    if said.height < taken.height:
        lost = taken.join(completions, on="completion_id", how="anti")["completion_id"]
        raise TableError(
            f"export.listwise: {lost.len()} strengths are of completions that are not there, "
            f"first {lost.sort()[0]}"
        )
    ranked = said.with_columns(rank("strength").over("prompt_id").cast(pl.Int64).alias("rank"))
    ranked = ranked.sort("prompt_id", "rank", "completion_id")
    if ties == "drop":
        ranked = ranked.unique(["prompt_id", "rank"], keep="first", maintain_order=True)
    if ties != "share":
        ranked = ranked.with_columns(rank=pl.int_range(1, pl.len() + 1).over("prompt_id"))
    lists = (
        ranked.group_by("prompt_id", maintain_order=True)
        .agg(
            pl.col("completion").alias("completions"),
            pl.col("strength").alias("scores"),
            pl.col("rank").alias("ranks"),
            pl.col("completion_id").alias("completion_ids"),
        )
        .filter(pl.col("ranks").list.len() >= min_completions)
    )
    rows = lists.join(prompts.select("prompt_id", "prompt"), on="prompt_id", how="left")
    rows = check("listwise", rows, where="export.listwise")
    if format == "standard":
        rows = plain(rows, "prompt", "completions", where="export.listwise")
    return Rows(rows)
