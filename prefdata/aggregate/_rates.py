"""Strengths that are win rates or mean ratings: in [0, 1]."""

import polars as pl

from prefdata.errors import TableError
from prefdata.tables import Strengths, one_estimator

ROUNDING = 1e-9


def rates(strengths: Strengths, estimator: str | None, *, where: str, instead: str) -> Strengths:
    """The strengths by one estimator; `TableError` where some are outside of [0, 1].

    `instead` are the aggregates that give such.
    """
    own = one_estimator(strengths, estimator, where=where)
    outside = own.filter(~pl.col("strength").is_between(-ROUNDING, 1 + ROUNDING))
    if outside.height:
        first = outside.sort("completion_id").row(0, named=True)
        raise TableError(
            f"{where}: {outside.height} strengths are outside of [0, 1], first "
            f"{first['strength']:g} of completion {first['completion_id']}; use {instead}"
        )
    return own
