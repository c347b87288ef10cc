"""Pairs whose two sides are the same text: they teach nothing, and their label is a coin."""

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted, skipped


def identical(data: Data) -> Finding:
    """Pairs that differ in nothing, or only in case, spacing or forms of one letter."""
    if data.kind != "preference":
        return skipped("identical", "rows have one side")
    same = pl.col("chosen_plain") == pl.col("rejected_plain")
    rows = data.paired.filter(same & (pl.col("chosen_plain") != ""))
    return counted(
        "identical",
        rows.select("place", text="chosen_text"),
        data.paired.height,
        "pairs whose sides are the same text but for case and spacing",
        "drop them: select.distinct with case_counts = false",
    )
