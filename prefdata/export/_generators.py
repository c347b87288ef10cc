"""What an option says of generators, beside the completions that they wrote."""

from collections.abc import Mapping

import polars as pl

from prefdata.errors import TableError
from prefdata.generate._generators import refuse_unknown
from prefdata.tables import Samples


def by_generator(
    samples: Samples | None,
    said: Mapping[str, str] | Mapping[str, float],
    dtype: type[pl.String] | type[pl.Float64],
    *,
    option: str,
    where: str,
) -> pl.DataFrame:
    """`completion_id` and, in the column `said`, what is said of who drew it; a row a sample.

    Completions of other generators have no row. `TableError` without samples, and
    `RecipeError` for a generator that drew none of them.
    """
    if samples is None:
        raise TableError(f"{where}: {option} are of generators, and no samples say who wrote what")
    refuse_unknown(said, samples, where=where)
    known = pl.col("generator").replace_strict(
        list(said), list(said.values()), default=None, return_dtype=dtype
    )
    return samples.select("completion_id", said=known).drop_nulls()
