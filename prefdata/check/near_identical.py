"""Pairs whose two sides are nearly the same text: what is learnt from them is mostly noise."""

import polars as pl

from prefdata.check.data import Whole
from prefdata.check.finding import Check, Tally, counted, examples, skipped
from prefdata.finding import EXAMPLES
from prefdata.select import _near as near

LEAST = 0.9


def near_identical(data: Whole) -> Check:
    """Pairs whose sides have a similarity (see `near`) of at least 0.9 and are not the same."""
    if data.kind != "preference":
        return skipped("near_identical", "rows have one side")
    tally = Tally()
    first = pl.DataFrame(
        schema={"place": pl.String, "similarity": pl.Float64, "chosen_text": pl.String}
    )
    while part := (yield):
        pairs = part.paired.filter(pl.col("chosen_plain") != pl.col("rejected_plain"))
        found = near.beside(pairs["chosen_plain"], pairs["rejected_plain"], LEAST)
        rows = pairs.with_columns(similarity=found).drop_nulls("similarity")
        tally.add(rows, part.paired, text="chosen_text")
        first = pl.concat([first, rows.select(first.columns)])
        first = first.sort("similarity", descending=True, maintain_order=True).head(EXAMPLES)
    text = pl.format("{}: {}", pl.col("similarity").round(2), "chosen_text")
    return counted(
        "near_identical",
        tally,
        f"pairs whose sides are at least {LEAST:.0%} the same text",
        "look at them: keep those whose difference is the point (a corrected sum), drop the others",
        level="warning",
        first=examples(first.with_columns(text=text)),
    )
