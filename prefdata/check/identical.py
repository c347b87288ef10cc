"""Pairs whose two sides are the same text: they teach nothing, and their label is a coin."""

import polars as pl

from prefdata.check.data import Whole
from prefdata.check.finding import Check, Tally, counted, skipped


def identical(data: Whole) -> Check:
    """Pairs that differ in nothing, or only in case, spacing or forms of one letter."""
    if data.kind != "preference":
        return skipped("identical", "rows have one side")
    same = pl.col("chosen_plain") == pl.col("rejected_plain")
    tally = Tally()
    while part := (yield):
        rows = part.paired.filter(same & (pl.col("chosen_plain") != ""))
        tally.add(rows, part.paired, text="chosen_text")
    return counted(
        "identical",
        tally,
        "pairs whose sides are the same text but for case and spacing",
        "drop them: select.distinct with case_counts = false",
    )
