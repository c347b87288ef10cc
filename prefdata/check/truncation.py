"""Completions that end in the middle: they teach to stop there, or never to stop.

A completion is called cut off when its model said so (`finish_reason` length), when a code fence
stays open, or when prose of some length ends without anything that ends a sentence, a list, a
table, code or an address.
"""

import polars as pl

from prefdata.check.data import Whole
from prefdata.check.finding import Check, Tally, counted

MOST = 0.01
WORDS = 20  # shorter texts may be labels, titles or lists
LAST_LINE = 6  # words; shorter last lines may be items, headings or names
# Prose that has ended at least one sentence and goes on with a word, a comma or an open bracket.
SENTENCE = r"[.!?。！？…][\"'”’)\]]*\s"
MIDDLE = r"(?:[\p{Ll}\p{N}]|[,;(\[–—-])$"
# Last lines that end as they should without a full stop: items, tables, code, headings, addresses.
ITEM = r"^\s*(?:[-*•+|>#`]|\d+[.)]|[A-Za-z][.)]\s|(?:https?|www)[:.])|[|`]$|https?://\S+$"

_TEXT = pl.col("text")
_LAST = _TEXT.str.split("\n").list.last()
OPEN = (
    _TEXT.str.contains("```", literal=True),
    _TEXT.str.count_matches(r"(?m)^\s*```") % 2 == 1,
)
INSIDE = (
    _TEXT.str.tail(1).str.contains(MIDDLE),
    _LAST.str.contains(MIDDLE) & ~_LAST.str.contains(ITEM),
    _LAST.str.count_matches(r"\S+") >= LAST_LINE,
    (_TEXT.str.count_matches(r"\S+") >= WORDS) & _TEXT.str.contains(SENTENCE),
)


def truncation(data: Whole) -> Check:
    """Completions that look cut off; above 1 % of all it is a warning."""
    tally = Tally()
    while part := (yield):
        said = part.completions.with_columns(pl.col("text").str.strip_chars())
        is_cut = pl.col("cut") | _told(said, *OPEN) | _told(said, *INSIDE)
        rows = said.filter(is_cut)
        tally.add(rows.with_columns(text=pl.format("… {}", pl.col("text").str.tail(120))), said)
    return counted(
        "truncation",
        tally,
        "completions that end in the middle of a sentence or of code: "
        f"{tally.n_by['chosen']:,} chosen, {tally.n_by['rejected']:,} rejected",
        "raise max_tokens of the writer, or drop what it did not finish",
        level="warning",
        most=MOST,
    )


def _told(said: pl.DataFrame, *tests: pl.Expr) -> pl.Series:
    """The rows that pass all tests, each made only of those that passed the cheaper ones before."""
    rows = said.select("text").with_row_index("at")
    for test in tests:
        rows = rows.filter(test)
    return pl.Series(range(said.height)).is_in(rows["at"].cast(pl.Int64).implode())
