"""Whether the longer side is chosen: what a reward model then learns first is length.

The interval is Wilson's. A dataset may prefer longer texts for good reasons; beyond 60 % it is
worth knowing before training.

Source: Singhal, Goyal, Xu, Durrett (2023), "A Long Way to Go: Investigating Length Correlations in
RLHF"; Wilson (1927) for the interval.
"""

import numpy as np
import polars as pl

from prefdata.check.data import Whole
from prefdata.check.finding import Check, Tally, skipped
from prefdata.finding import Finding
from prefdata.measure._wilson import wilson

MOST = 0.6


def length_bias(data: Whole) -> Check:
    """The share of pairs whose chosen side is the longer one, of those that differ in length."""
    if data.kind != "preference":
        return skipped("length_bias", "rows have one side")
    more = pl.col("chosen_text").str.len_chars().cast(pl.Int64)
    more = more - pl.col("rejected_text").str.len_chars().cast(pl.Int64)
    longer, shorter = Tally(), Tally()
    differences = [np.zeros(0, np.int32)]
    while part := (yield):
        rows = part.paired.with_columns(more=more).filter(pl.col("more") != 0)
        longer.add(rows.filter(pl.col("more") > 0), rows, text="chosen_text")
        shorter.add(rows.filter(pl.col("more") < 0), rows, text="chosen_text")
        differences.append(rows["more"].to_numpy().astype(np.int32))
    n, of = longer.n, longer.of
    share = n / of if of else 0.5
    low, high = wilson(share, float(of)) if of else (0.0, 1.0)
    is_biased = of > 0 and (low > MOST or high < 1 - MOST)
    median = float(np.median(np.concatenate(differences))) if of else 0.0
    toward = "longer" if share >= 0.5 else "shorter"
    return Finding(
        "length_bias",
        "warning" if is_biased else "ok",
        f"pairs whose chosen side is the longer one: {share:.1%} (95 % interval {low:.1%} to "
        f"{high:.1%}), the median chosen side {abs(median):,.0f} characters "
        f"{'longer' if median >= 0 else 'shorter'}",
        f"the {toward} side wins: measure.length_bias says whose doing it is, and bradley_terry "
        "takes it out of the strengths; or balance the pairs by length"
        if is_biased
        else "",
        n,
        of,
        (longer if share >= 0.5 else shorter).examples if is_biased else (),
        {"share": share, "low": low, "high": high, "median_difference": median},
    )
