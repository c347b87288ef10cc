"""How principles fare, as rows of `principles`, from what is counted of each."""

import polars as pl

from prefdata.tables import schema

COUNTS = ("for", "against", "abstain", "invalid")


def as_principles(ranked: pl.DataFrame) -> pl.DataFrame:
    """Rows of `principles`, the first of rank 1, from their counts."""
    n_for, against = pl.col("for"), pl.col("against")
    told = n_for + against
    n = told + pl.col("abstain") + pl.col("invalid")
    return ranked.with_columns(
        agreement=pl.when(n > 0).then(n_for / n),
        accuracy=pl.when(told > 0).then(n_for / told),
        relevance=pl.when(n > 0).then(told / n),
        rank=pl.int_range(1, pl.len() + 1),
    ).select(*schema("principles").columns)
