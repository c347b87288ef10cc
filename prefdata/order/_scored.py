"""Numbers about pairs or completions as rows of `scores`."""

from collections.abc import Iterable

import polars as pl

from prefdata import tables
from prefdata.estimate._named import scores_of
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
    values = {name: pl.col(name).cast(pl.Float64) for name in names}
    made = scores_of(subject, rows, values, model=model)
    new = made.with_columns(stderr=pl.lit(None, pl.Float64)).select(*columns)
    if scores is None:
        return Scores(new)
    key = ["subject_id", "subject", "score", "model"]
    kept = scores.select(*columns).join(new, on=key, how="anti", nulls_equal=True)
    return Scores(pl.concat([kept, new]))
