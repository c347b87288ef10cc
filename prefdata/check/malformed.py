"""Rows that no trainer reads as they are meant: empty texts, roles out of order, no prompt."""

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted
from prefdata.sources.conversations import disordered


def malformed(data: Data) -> Finding:
    """Rows with an empty or absent prompt or side, or whose roles are out of order."""
    sides = ("chosen", "rejected") if data.kind == "preference" else ()
    faults = [
        pl.when(pl.col(f"{side}_plain").fill_null("") == "").then(pl.lit(f"{side} is empty"))
        for side in ("prompt", *sides)
    ]
    if data.kind == "unpaired_preference":
        said = pl.coalesce("chosen_plain", "rejected_plain", pl.lit(""))
        faults.append(pl.when(said == "").then(pl.lit("completion is empty")))
    there = [pl.col(side).is_not_null() for side in ("prompt", "chosen", "rejected")]
    faults += [
        pl.when(is_there).then(disordered(side, asks=side == "prompt"))
        for side, is_there in zip(("prompt", "chosen", "rejected"), there, strict=True)
    ]
    rows = data.rows.select("place", text=pl.coalesce(faults)).drop_nulls("text")
    return counted(
        "malformed",
        rows,
        data.rows.height,
        "rows with an empty prompt or side, or with roles out of order",
        "drop them (select.distinct), or repair what wrote them",
    )
