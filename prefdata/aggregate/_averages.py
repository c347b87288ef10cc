"""Means of ratings over whoever gave them and over criteria, with their standard errors."""

import polars as pl

from prefdata import tables
from prefdata.tables import Strengths


def averaged(cells: pl.DataFrame, by: str, estimator: str) -> Strengths:
    """The mean of each completion's ratings over `by`, then over criteria by weight.

        strength = sum_c w_c m_c / sum_c w_c,    m_c = mean over `by` of the `rating`

    over the criteria c that the completion is rated on. `cells` has one `rating` by each `by` of a
    completion on a criterion, with its `weight`, sorted, so that sums do not depend on the order
    of rows. `stderr` is that of a mean over `by`, whose criteria are taken together because their
    errors go together; null where there is only one.
    """
    rating, weight, n = pl.col("rating"), pl.col("weight"), pl.len()
    of_criterion = ["completion_id", "criterion"]
    total = weight.filter(pl.struct("criterion").is_first_distinct()).sum().over("completion_id")
    part = weight / (total * pl.len().over(of_criterion))
    away = (rating - rating.mean().over(of_criterion)) * part
    made = (
        cells.with_columns(part=rating * part, away=away)
        .group_by("completion_id", "prompt_id", by, maintain_order=True)
        .agg(pl.col("part", "away").sum())
        .group_by("completion_id", "prompt_id", maintain_order=True)
        .agg(
            strength=pl.col("part").sum(),
            # The error of a ratio by its linear part.
            stderr=pl.when(n > 1).then((pl.col("away").pow(2).sum() * n / (n - 1)).sqrt()),
        )
        .with_columns(estimator=pl.lit(estimator))
    )
    return Strengths(made.select(*tables.schema("strengths").columns))
