"""The generators that an option names."""

from collections.abc import Iterable

import polars as pl

from prefdata.errors import RecipeError, nearest


def refuse_unknown(names: Iterable[str], samples: pl.DataFrame, *, where: str) -> None:
    """`RecipeError` for a generator without a sample; where there are none, none is unknown."""
    there = samples["generator"].unique().to_list()
    for name in names:
        if there and name not in there:
            raise RecipeError(
                f"{where}: no sample is by the generator {name!r}; {nearest(name, there)}"
            )
