"""The pairs that a score is lowest for."""

from functools import partial

import polars as pl

from prefdata.errors import RecipeError
from prefdata.estimate._named import is_of, named
from prefdata.stage import Parts, whole
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
    steps = in_parts(score=score, keep=keep, count=count)
    return whole(steps, pairs, scores)


def in_parts(
    *, score: str, keep: float | None = None, count: int | None = None
) -> Parts[tuple[Pairs, Dropped]]:
    """Of all pairs only the values have to be seen at once, and the ids of those at the limit."""
    values = (yield partial(_values, score))["value"].sort()
    if values.is_empty():
        return partial(_lowest, score, None)
    n = count if count is not None else max(1, int((keep or 0) * len(values) + 1e-9))
    limit = float(values[min(n, len(values)) - 1])
    n_equal = n - int((values < limit).sum())
    equal = yield partial(_equal, score, limit)
    return partial(_lowest, score, (limit, equal["subject_id"].sort().head(n_equal)[-1]))


def _own(score: str, pairs: Pairs, scores: Scores) -> pl.DataFrame:
    """The values of a shard's pairs, of which it may have none though others do."""
    there = scores if scores.select(is_of(score).any()).item() else scores.clear()
    values = named(there, score, where="select.lowest_score")
    return values.filter(pl.col("subject_id").is_in(pairs["pair_id"].implode()))


def _values(score: str, pairs: Pairs, scores: Scores) -> pl.DataFrame:
    return _own(score, pairs, scores).select("value")


def _equal(score: str, limit: float, pairs: Pairs, scores: Scores) -> pl.DataFrame:
    return _own(score, pairs, scores).filter(pl.col("value") == limit).select("subject_id")


def _lowest(
    score: str, last: tuple[float, str] | None, pairs: Pairs, scores: Scores
) -> tuple[Pairs, Dropped]:
    """The pairs up to the last that is kept, by value and id."""
    if last is None and pairs.height:
        named(scores, score, where="select.lowest_score")
        raise RecipeError(
            f"select.lowest_score: none of {pairs.height} pairs has a score {score!r}, and all "
            "would be dropped; look at what its stage was answered"
        )
    values = _own(score, pairs, scores)
    limit, subject_id = last or (0.0, "")
    is_equal = (pl.col("value") == limit) & (pl.col("subject_id") <= subject_id)
    lowest = values.filter((pl.col("value") < limit) | is_equal)
    unscored = pairs.join(values, left_on="pair_id", right_on="subject_id", how="anti")
    dropped = unscored.select(
        pl.lit("pairs").alias("table"),
        pl.col("pair_id").alias("key"),
        pl.lit("select.lowest_score").alias("stage"),
        pl.lit(f"it has no score {score!r}").alias("reason"),
    )
    kept = pl.col("pair_id").is_in(lowest["subject_id"].implode())
    return Pairs(pairs.filter(kept)), Dropped(dropped)
