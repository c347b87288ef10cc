"""Which way is up: whether chosen is what the scores and votes beside it call the better side."""

import polars as pl

from prefdata.check.data import Data, number
from prefdata.check.finding import Finding, counted, skipped

NUMBERS = ("score_chosen", "score_rejected", "margin", "soft_label")


def orientation(data: Data) -> Finding:
    """Pairs whose own scores say that rejected is better, and scores that are texts.

    Scores that are texts are compared as texts somewhere ("10" < "9"): each is a fault. Where
    single votes are known, an aggregate may well overrule some; more than half of the pairs against
    the mean of their votes is a fault of all these.
    """
    there = data.rows.columns
    texts = [name for name in NUMBERS if name in there and data.rows.schema[name] == pl.String]
    tests: list[pl.Expr] = [pl.col(name).is_not_null() for name in texts]
    if {"score_chosen", "score_rejected"} <= set(there):
        tests.append(number("score_chosen") < number("score_rejected"))
    tests += [
        number(name) < low for name, low in (("margin", 0.0), ("soft_label", 0.5)) if name in there
    ]
    against = pl.col("vote_share") < 0.5
    voted = data.paired.drop_nulls("vote_share") if "vote_share" in there else data.paired.clear()
    is_turned = voted.height > 0 and voted.filter(against).height > voted.height / 2
    if is_turned:
        tests.append(against)
    if data.kind != "preference" or not (tests or voted.height):
        return skipped("orientation", "nothing beside the pairs says which side is better")
    is_wrong = (
        pl.any_horizontal(test.fill_null(False) for test in tests) if tests else pl.lit(False)
    )
    rows = data.paired.filter(is_wrong)
    shown = [name for name in (*NUMBERS, "vote_share") if name in there]
    said = pl.concat_str(
        [
            pl.format(f"{name} {{}}", pl.col(name).cast(pl.String).fill_null("null"))
            for name in shown
        ],
        separator=", ",
    )
    what = f", which are texts: {', '.join(texts)}" if texts else ""
    return counted(
        "orientation",
        rows.select("place", text=said),
        data.paired.height,
        f"pairs whose chosen side is the worse one by its own scores{what}",
        "turn them round, or find out which of the two columns means what; make scores numbers",
    )
