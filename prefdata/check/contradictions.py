"""The same comparison with both outcomes: one of the two labels is wrong."""

import numpy as np
import polars as pl

from prefdata.check.data import SIDES, Data, Whole
from prefdata.check.finding import Check, Tally, counted, examples
from prefdata.finding import EXAMPLES


def contradictions(data: Whole) -> Check:
    """Pairs that also stand the other way round, or completions both desirable and not.

    Comparisons are told apart by hashes of 64 bits (see `duplicates`).
    """
    is_paired = data.kind == "preference"
    prompt = pl.col("prompt_plain").fill_null("")
    sides = [f"{side}_plain" for side in SIDES] if is_paired else ["plain"]
    what = pl.struct(prompt, pl.min_horizontal(sides), pl.max_horizontal(sides).alias("other"))
    toward = pl.col(sides[0]) < pl.col(sides[1]) if is_paired else pl.col("side") == "chosen"
    seen = [pl.DataFrame(schema=dict.fromkeys(("row", "what", "toward"), pl.UInt64))]
    of = 0
    while part := (yield):
        rows = part.paired if is_paired else part.completions
        of += rows.height
        if is_paired:
            rows = rows.filter(pl.col(sides[0]) != pl.col(sides[1]))
        told = rows.select("row", what=what.hash(seed=0), toward=toward)
        seen.append(told.cast(pl.UInt64))
    rows = pl.concat(seen)
    one, other = (rows.filter(pl.col("toward") == each)["what"].unique() for each in (0, 1))
    both = np.intersect1d(one.to_numpy(), other.to_numpy(), assume_unique=True)
    rows = rows.filter(pl.col("what").is_in(pl.Series(both).implode()))
    tally = Tally()
    tally.n, tally.of = rows.height, of
    # as in other findings, chosen completions come first
    order = ["row"] if is_paired else [pl.lit(1) - pl.col("toward").cast(pl.Int8), pl.col("row")]
    first = data.at(rows.sort(order)["row"].head(EXAMPLES))
    if is_paired:
        says = "pairs of which the opposite stands in the data too"
        shown = first.select("place", text="chosen_text")
    else:
        says = "completions that are called both desirable and not"
        shown = Data(first).completions
    return counted(
        "contradictions",
        tally,
        says,
        "aggregate the labels of one comparison into one (aggregate.*), or drop both",
        first=examples(shown),
    )
