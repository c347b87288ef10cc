"""Pairs by how far apart their sides are."""

import polars as pl

from prefdata.errors import RecipeError
from prefdata.tables import Pairs


def margin(pairs: Pairs, *, min_margin: float, max_margin: float | None = None) -> Pairs:
    """Keep the pairs with min_margin <= margin <= max_margin, unchanged.

    A margin is a difference of strengths and has their scale: log odds for Bradley-Terry, a share
    of votes for majority_vote, a rating in [0, 1] for mean_rating. A pair of unknown margin is
    within no bounds and is not kept.

    Options:
    - `min_margin`: the smallest margin kept, at least 0.
    - `max_margin`: the largest margin kept; default no limit.

    Raises `RecipeError` for bounds that are below 0 or leave nothing between them.

    Source: own; two bounds on one column.
    """
    upper = float("inf") if max_margin is None else max_margin
    if not 0 <= min_margin <= upper:
        raise RecipeError(
            f"select.margin: min_margin is {min_margin} and max_margin {max_margin}; "
            "expected 0 <= min_margin <= max_margin"
        )
    return Pairs(pairs.filter(pl.col("margin").is_between(min_margin, upper)))
