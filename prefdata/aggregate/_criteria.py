"""Which criteria an aggregate counts, and how much each."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.errors import RecipeError, nearest


def on_criteria(frame: pl.DataFrame, criteria: Sequence[str] | None, *more: str) -> pl.DataFrame:
    """The rows on the wanted criteria; null wants all.

    Raises `RecipeError` for no criterion at all, and for one, of `more` too, that no row is on. A
    table without rows knows no criteria and refuses none by name.
    """
    if criteria is not None and not criteria:
        raise RecipeError("criteria = [] counts no row; name some, or leave it out to count all")
    known = frame["criterion"].unique().to_list()
    for name in (*(criteria or ()), *more):
        if known and name not in known:
            raise RecipeError(f"criterion {name!r} is on no row; {nearest(name, known)}")
    return frame if criteria is None else frame.filter(pl.col("criterion").is_in(list(criteria)))


def weigh(
    frame: pl.DataFrame, criteria: Sequence[str] | None, weights: Mapping[str, float] | None
) -> pl.DataFrame:
    """The rows on the wanted criteria, with their criterion's `weight` (1 where none is given).

    Raises `RecipeError` as `on_criteria`, and for a weight that is not above 0.
    """
    weights = weights or {}
    frame = on_criteria(frame, criteria, *weights)
    for name, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise RecipeError(
                f"the weight of criterion {name!r} is {weight}; give a number above 0, "
                "or leave the criterion out of `criteria`"
            )
    names = list(weights)
    values = [float(weights[name]) for name in names]
    weight = pl.col("criterion").replace_strict(names, values, default=1.0, return_dtype=pl.Float64)
    return frame.with_columns(weight=weight if names else pl.lit(1.0))
