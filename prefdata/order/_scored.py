"""Numbers about pairs or completions as rows of `scores`."""

from collections.abc import Iterable

import polars as pl

from prefdata import tables
from prefdata.tables import Scores


def scored(
    scores: Scores | None,
    rows: pl.DataFrame,
    names: Iterable[str],
    *,
    subject: str = "pair",
    model: str | None = None,
) -> Scores:
    """`scores` with the columns `names` of `rows` (by `<subject>_id`), in place of those of old."""
    columns = tables.schema("scores").columns
    made = [
        rows.filter(pl.col(name).is_not_null()).select(
            subject_id=f"{subject}_id",
            subject=pl.lit(subject),
            score=pl.lit(name),
            model=pl.lit(model, pl.String),
            value=pl.col(name).cast(pl.Float64),
            stderr=pl.lit(None, pl.Float64),
            request_id=pl.lit(None, pl.String),
        )
        for name in names
    ]
    new = pl.concat([each.select(*columns) for each in made])
    if scores is None:
        return Scores(new)
    key = ["subject_id", "subject", "score", "model"]
    kept = scores.select(*columns).join(new, on=key, how="anti", nulls_equal=True)
    return Scores(pl.concat([kept, new]))
