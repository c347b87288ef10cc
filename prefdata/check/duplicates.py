"""Rows that stand in the data more than once: they count more than once in training."""

import numpy as np
import polars as pl

from prefdata.check.data import TEXTS, Whole
from prefdata.check.finding import Check, Tally, counted, examples
from prefdata.finding import EXAMPLES


def duplicates(data: Whole) -> Check:
    """Rows that repeat an earlier row: the same prompt and the same sides.

    Rows are told apart by hashes of 64 bits: of ten million, two that differ are taken for the same
    with a probability of 3 in a million.
    """
    said = pl.struct(pl.col(f"{name}_plain").fill_null("") for name in TEXTS)
    hashes = [np.zeros(0, np.uint64)]
    while part := (yield):
        hashes.append(part.rows.select(said.hash(seed=0)).to_series().to_numpy())
    whole = pl.Series("hash", np.concatenate(hashes))
    again = (~whole.is_first_distinct()).arg_true()
    tally = Tally()
    tally.n, tally.of = len(again), len(whole)
    first = data.at(again.head(EXAMPLES))
    return counted(
        "duplicates",
        tally,
        "rows that repeat an earlier row",
        "drop them, or state how often a row counts in a column weight",
        level="warning",
        first=examples(first, "prompt_text"),
    )
