"""How annotators order the completions of a prompt, two by two."""

import polars as pl

from prefdata.tables import Rankings, Ratings

_WHO = ["annotator", "criterion", "group"]


def orders_of_ratings(ratings: Ratings) -> pl.DataFrame:
    """`annotator, criterion, group, a, b, verdict` in -1, 0, 1 by the means of the draws."""
    key = [*_WHO, "prompt_id"]
    listed = (
        ratings.sort(*key, "completion_id", "rating")
        .group_by(*key, "completion_id", maintain_order=True)
        .agg(worth=pl.col("rating").mean())
    )
    return _verdicts(_two_by_two(listed, key), pl.col("better").sum())


def orders_of_rankings(rankings: Rankings) -> pl.DataFrame:
    """The same by which of the two stands before the other in more of the draws."""
    key = [*_WHO, "prompt_id", "draw"]
    listed = rankings.select(*key, completion_id="ranking", worth="ranks")
    listed = listed.explode("completion_id", "worth").with_columns(
        worth=-pl.col("worth").cast(pl.Float64)
    )
    return _verdicts(_two_by_two(listed, key), pl.col("better").sign().sum())


def _two_by_two(listed: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Each two completions of a list, with `better`: how far the first is above the second."""
    both = listed.join(listed, on=key)
    both = both.filter(pl.col("completion_id") < pl.col("completion_id_right"))
    return both.select(
        *_WHO,
        a="completion_id",
        b="completion_id_right",
        better=pl.col("worth") - pl.col("worth_right"),
    )


def _verdicts(both: pl.DataFrame, better: pl.Expr) -> pl.DataFrame:
    made = both.group_by(*_WHO, "a", "b").agg(better=better)
    # A mean of equal numbers may differ from them in the last bit.
    equal = pl.col("better").abs() < 1e-9
    sign = pl.when(equal).then(0.0).otherwise(pl.col("better").sign())
    return made.select(*_WHO, "a", "b", verdict=sign)
