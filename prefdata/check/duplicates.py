"""Rows that stand in the data more than once: they count more than once in training."""

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted


def duplicates(data: Data) -> Finding:
    """Rows that repeat an earlier row: the same prompt and the same sides."""
    said = ["prompt_plain", "chosen_plain", "rejected_plain"]
    rows = data.rows.select("place", "prompt_text", pl.col(said).fill_null(""))
    again = rows.filter(~pl.struct(said).is_first_distinct())
    return counted(
        "duplicates",
        again.select("place", text=pl.coalesce(pl.col("prompt_text"), pl.lit(""))),
        data.rows.height,
        "rows that repeat an earlier row",
        "drop them, or state how often a row counts in a column weight",
        level="warning",
    )
