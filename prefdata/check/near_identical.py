"""Pairs whose two sides are nearly the same text: what is learnt from them is mostly noise."""

import polars as pl

from prefdata.check import near
from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted, skipped

LEAST = 0.9


def near_identical(data: Data) -> Finding:
    """Pairs whose sides have a similarity (see `near`) of at least 0.9 and are not the same."""
    if data.kind != "preference":
        return skipped("near_identical", "rows have one side")
    pairs = data.paired.filter(pl.col("chosen_plain") != pl.col("rejected_plain"))
    found = near.beside(pairs["chosen_plain"], pairs["rejected_plain"], LEAST)
    rows = pairs.with_columns(similarity=found).drop_nulls("similarity")
    text = pl.format("{}: {}", pl.col("similarity").round(2), "chosen_text")
    return counted(
        "near_identical",
        rows.sort("similarity", descending=True).select("place", text=text),
        data.paired.height,
        f"pairs whose sides are at least {LEAST:.0%} the same text",
        "look at them: keep those whose difference is the point (a corrected sum), drop the others",
        level="warning",
    )
