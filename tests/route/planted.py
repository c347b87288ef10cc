"""Two completions a prompt, and what models and people said about them."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prefdata import tables
from prefdata.tables import Votes


def sides(n: int) -> pl.DataFrame:
    """Row `at` is of the completions `<at>a` and `<at>b` of its own prompt."""
    at = pl.int_range(n, eager=True).cast(pl.String).str.zfill(6)
    return pl.DataFrame({"prompt_id": at, "completion_a": at + "a", "completion_b": at + "b"})


def named(measures: pl.DataFrame) -> dict[str, Any]:
    """Values by "<measure> <subject>"."""
    name = pl.concat_str("measure", "subject", separator=" ")
    return dict(measures.select(name, "value").rows())


def said(preferences: Mapping[str, Sequence[Any]], **columns: Any) -> Votes:
    """Votes on rows 0, 1, ... by each annotator; null: it did not vote there."""
    frames = [
        sides(len(each))
        .with_columns(pl.Series("preference", each, pl.Float64), annotator=pl.lit(annotator))
        .drop_nulls("preference")
        for annotator, each in preferences.items()
    ]
    defaults = {"criterion": pl.lit("quality"), "draw": pl.lit(0), "a_first": pl.lit(None)}
    return tables.typed(Votes, pl.concat(frames).with_columns(**{**defaults, **columns}))
