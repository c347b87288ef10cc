"""Which way is up: whether chosen is what the scores and votes beside it call the better side."""

import polars as pl

from prefdata.check.data import Whole, number
from prefdata.check.finding import Check, Tally, counted, skipped

NOTHING = "nothing beside the pairs says which side is better"
NUMBERS = ("score_chosen", "score_rejected", "margin", "soft_label")


def orientation(data: Whole) -> Check:
    """Pairs whose own scores say that rejected is better, and scores that are texts.

    Scores that are texts are compared as texts somewhere ("10" < "9"): each is a fault. Where
    single votes are known, an aggregate may well overrule some; more than half of the pairs against
    the mean of their votes is a fault of all these.
    """
    there = data.columns
    texts = [name for name in NUMBERS if name in there and there[name] == pl.String]
    tests: list[pl.Expr] = [pl.col(name).is_not_null() for name in texts]
    if {"score_chosen", "score_rejected"} <= set(there):
        tests.append(number("score_chosen") < number("score_rejected"))
    tests += [
        number(name) < low for name, low in (("margin", 0.0), ("soft_label", 0.5)) if name in there
    ]
    is_voted = "vote_share" in there
    if data.kind != "preference" or not (tests or is_voted):
        return skipped("orientation", NOTHING)
    shown = [name for name in (*NUMBERS, "vote_share") if name in there]
    said = pl.concat_str(
        [
            pl.format(f"{name} {{}}", pl.col(name).cast(pl.String).fill_null("null"))
            for name in shown
        ],
        separator=", ",
    )
    against = (pl.col("vote_share") < 0.5).fill_null(False) if is_voted else pl.lit(False)
    is_wrong = pl.any_horizontal(pl.lit(False), *(test.fill_null(False) for test in tests))
    by_scores, by_all = Tally(), Tally()
    n_voted = n_against = 0
    while part := (yield):
        rows = part.paired.with_columns(text=said)
        by_scores.add(rows.filter(is_wrong), rows)
        by_all.add(rows.filter(is_wrong | against), rows)
        n_voted += part.paired["vote_share"].count() if is_voted else 0
        n_against += rows.filter(against).height
    if not (tests or n_voted):
        return skipped("orientation", NOTHING)
    what = f", which are texts: {', '.join(texts)}" if texts else ""
    return counted(
        "orientation",
        by_all if n_against > n_voted / 2 else by_scores,
        f"pairs whose chosen side is the worse one by its own scores{what}",
        "turn them round, or find out which of the two columns means what; make scores numbers",
    )
