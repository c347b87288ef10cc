"""Marks of chat templates in texts: a trainer puts its own around them, and both are learnt."""

import polars as pl

from prefdata.check.data import SIDES, TEXTS, Whole
from prefdata.check.finding import Check, Tally, counted

MARKS = (
    r"<\|[a-z_]+\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>"
    r"|(?m)^\s*###\s*(?:Instruction|Response|Input)\s*:|^\s*(?:Human|Assistant|USER|ASSISTANT)\s*:"
)


def leftovers(data: Whole) -> Check:
    """Rows with a chat template's marks in prompt or completions.

    In the standard format, whose prompts are plain texts of which "Human:" may well be a part,
    only completions are looked at.
    """
    sides = SIDES if data.standard else TEXTS
    marked = [pl.col(f"{side}_text").str.extract(f"({MARKS})", 1) for side in sides]
    where = pl.coalesce(
        pl.when(mark.is_not_null()).then(f"{side}_text")
        for side, mark in zip(sides, marked, strict=True)
    )
    text = pl.format("{} in: {}", pl.col("mark").str.strip_chars(), "where")
    tally = Tally()
    while part := (yield):
        rows = part.rows.select("place", mark=pl.coalesce(marked), where=where).drop_nulls("mark")
        tally.add(rows.with_columns(text=text), part.rows)
    return counted(
        "leftovers",
        tally,
        "rows with marks of a chat template or of speakers in their texts",
        "parse them into messages before export",
    )
