"""Ties that stand as pairs: a label where there was no preference."""

import polars as pl

from prefdata.check.data import Whole, number
from prefdata.check.finding import Check, Tally, counted, skipped


def ties(data: Whole) -> Check:
    """Pairs with equal scores, a margin of 0, a soft label of 0.5, or votes that balance.

    Balanced votes are no tie where strengths of the two sides are known (a margin): an aggregate
    that weighs annotators, or compares more than two completions, may well tell them apart.
    """
    there = data.columns
    tests: list[pl.Expr] = []
    if {"score_chosen", "score_rejected"} <= set(there):
        tests.append(number("score_chosen") == number("score_rejected"))
    tests += [
        number(name) == value
        for name, value in (("margin", 0.0), ("soft_label", 0.5))
        if name in there
    ]
    if "vote_share" in there:
        tests.append((pl.col("vote_share") == 0.5) & pl.col("margin").is_null())
    if data.kind != "preference" or not tests:
        return skipped("ties", "no column says how good the sides are (score_chosen, margin, ...)")
    is_tie = pl.any_horizontal(test.fill_null(False) for test in tests)
    tally = Tally()
    while part := (yield):
        tally.add(part.paired.filter(is_tie), part.paired, text="chosen_text")
    return counted(
        "ties",
        tally,
        "pairs whose sides were found equally good",
        "drop them (select.margin), or export ties as ties for a trainer that takes them",
    )
