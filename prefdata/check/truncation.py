"""Completions that end in the middle: they teach to stop there, or never to stop.

A completion is called cut off when its model said so (`finish_reason` length), when a code fence
stays open, or when prose of some length ends without anything that ends a sentence, a list, a
table, code or an address.
"""

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted

MOST = 0.01
WORDS = 20  # shorter texts may be labels, titles or lists
LAST_LINE = 6  # words; shorter last lines may be items, headings or names
# Prose that has ended at least one sentence and goes on with a word, a comma or an open bracket.
SENTENCE = r"[.!?。！？…][\"'”’)\]]*\s"
MIDDLE = r"(?:[\p{Ll}\p{N}]|[,;(\[–—-])$"
# Last lines that end as they should without a full stop: items, tables, code, headings, addresses.
ITEM = r"^\s*(?:[-*•+|>#`]|\d+[.)]|[A-Za-z][.)]\s|(?:https?|www)[:.])|[|`]$|https?://\S+$"


def truncation(data: Data) -> Finding:
    """Completions that look cut off; above 1 % of all it is a warning."""
    said = data.completions.with_columns(text=pl.col("text").str.strip_chars())
    text = pl.col("text")
    last = text.str.split("\n").list.last()
    is_open = text.str.count_matches(r"(?m)^\s*```") % 2 == 1
    is_prose = (text.str.count_matches(r"\S+") >= WORDS) & text.str.contains(SENTENCE)
    ends_inside = (
        last.str.contains(MIDDLE)
        & ~last.str.contains(ITEM)
        & (last.str.count_matches(r"\S+") >= LAST_LINE)
    )
    cut = data.rows.filter("cut")["place"].implode()
    is_cut = pl.col("place").str.split(", ").list.first().is_in(cut)
    rows = said.filter(is_open | (is_prose & ends_inside) | is_cut)
    sides = {side: rows.filter(pl.col("side") == side).height for side in ("chosen", "rejected")}
    ending = pl.format("… {}", text.str.tail(120))
    return counted(
        "truncation",
        rows.select("place", text=ending),
        said.height,
        f"completions that end in the middle of a sentence or of code: {sides['chosen']:,} chosen, "
        f"{sides['rejected']:,} rejected",
        "raise max_tokens of the writer, or drop what it did not finish",
        level="warning",
        most=MOST,
    )
