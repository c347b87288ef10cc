"""The pairs that a score is lowest for."""

import polars as pl

from prefdata.errors import RecipeError
from prefdata.estimate._named import named
from prefdata.tables import Dropped, Pairs, Scores

SCOPE = "all"  # a share is one of all pairs


def lowest_score(
    pairs: Pairs,
    scores: Scores,
    *,
    score: str,
    keep: float | None = None,
    count: int | None = None,
) -> tuple[Pairs, Dropped]:
    """Keep the pairs with the lowest values of a score, unchanged.

    A pair without the score is not kept, and `dropped` says that it had none.
    Of equal values the smaller pair_id is kept, so nothing depends on the order of rows.

    With `score = "ln_ches"` and `keep = 0.05` it is the filter of the paper: it *keeps* the lowest
    twentieth, of completions that are least alike from inside the model.

    Options:
    - `score`: the name of a score about pairs; `name@model` where several models gave one.
    - `keep`: the share of the scored pairs to keep, in (0, 1], rounded down, but one at least.
    - `count`: or how many pairs to keep, at least 1.

    Raises `RecipeError` for both or none of the two, and for a score that no pair has or that
    several models gave.

    Source: Razin et al. (2025), Unintentional Unalignment: Likelihood Displacement in Direct
    Preference Optimization.
    """
    if (keep is None) == (count is None):
        raise RecipeError("select.lowest_score: give either keep, a share, or count, a number")
    if (keep is not None and not 0 < keep <= 1) or (count is not None and count < 1):
        raise RecipeError(
            f"select.lowest_score: keep = {keep}, count = {count}; expected a share in (0, 1] or "
            "a number of at least 1"
        )
    values = named(scores, score, where="select.lowest_score")
    values = values.filter(pl.col("subject_id").is_in(pairs["pair_id"].implode()))
    if values.is_empty() and pairs.height:
        raise RecipeError(
            f"select.lowest_score: none of {pairs.height} pairs has a score {score!r}, and all "
            "would be dropped; look at what its stage was answered"
        )
    n = count if count is not None else max(1, int((keep or 0) * values.height + 1e-9))
    lowest = values.sort("value", "subject_id").head(n)["subject_id"]
    unscored = pairs.join(values, left_on="pair_id", right_on="subject_id", how="anti")
    dropped = unscored.select(
        pl.lit("pairs").alias("table"),
        pl.col("pair_id").alias("key"),
        pl.lit("select.lowest_score").alias("stage"),
        pl.lit(f"it has no score {score!r}").alias("reason"),
    )
    return Pairs(pairs.filter(pl.col("pair_id").is_in(lowest.implode()))), Dropped(dropped)
