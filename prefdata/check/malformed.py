"""Rows that no trainer reads as they are meant: empty texts, roles out of order, no prompt."""

import polars as pl

from prefdata.check.data import SIDES, TEXTS, Data, Whole
from prefdata.check.finding import Check, Tally, counted
from prefdata.sources.conversations import disordered


def malformed(data: Whole) -> Check:
    """Rows with an empty or absent prompt or side, or whose roles are out of order."""
    sides = SIDES if data.kind == "preference" else ()
    faults = [
        pl.when(pl.col(f"{side}_plain").fill_null("") == "").then(pl.lit(f"{side} is empty"))
        for side in ("prompt", *sides)
    ]
    if data.kind == "unpaired_preference":
        said = pl.coalesce("chosen_plain", "rejected_plain", pl.lit(""))
        faults.append(pl.when(said == "").then(pl.lit("completion is empty")))
    tally = Tally()
    while part := (yield):
        found = part.rows.select("place", text=pl.coalesce(faults))
        found = found.with_columns(text=pl.coalesce("text", _disorder(part)))
        tally.add(found.drop_nulls("text"), part.rows)
    return counted(
        "malformed",
        tally,
        "rows with an empty prompt or side, or with roles out of order",
        "drop them (select.distinct), or repair what wrote them",
    )


def _disorder(part: Data) -> pl.Series:
    """Why the roles of each row are out of order; only longer conversations are looked at."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    first = {side: pl.col(side).list.first().struct.field("role") for side in TEXTS}
    is_short = [
        (pl.col(side).list.len() == 1) & (first[side] == role) for side, role in roles.items()
    ]
    clear = pl.all_horizontal(
        pl.col(side).is_null() | short for side, short in zip(TEXTS, is_short, strict=True)
    )
    rows = part.rows.select("row", *TEXTS).filter(~clear)
    why = [
        pl.when(pl.col(side).is_not_null()).then(disordered(side, asks=side == "prompt"))
        for side in TEXTS
    ]
    told = rows.select("row", why=pl.coalesce(why))
    return part.rows.select("row").join(told, on="row", how="left", maintain_order="left")["why"]
