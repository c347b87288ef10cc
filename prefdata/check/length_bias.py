"""Whether the longer side is chosen: what a reward model then learns first is length.

The interval is Wilson's. A dataset may prefer longer texts for good reasons; beyond 60 % it is
worth knowing before training.

Source: Singhal, Goyal, Xu, Durrett (2023), "A Long Way to Go: Investigating Length Correlations in
RLHF"; Wilson (1927) for the interval.
"""

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import EXAMPLES, Finding, shown, skipped
from prefdata.measure._wilson import wilson

MOST = 0.6


def length_bias(data: Data) -> Finding:
    """The share of pairs whose chosen side is the longer one, of those that differ in length."""
    if data.kind != "preference":
        return skipped("length_bias", "rows have one side")
    more = pl.col("chosen_text").str.len_chars().cast(pl.Int64)
    more = more - pl.col("rejected_text").str.len_chars().cast(pl.Int64)
    rows = data.paired.with_columns(more=more).filter(pl.col("more") != 0)
    longer = rows.filter(pl.col("more") > 0)
    share = longer.height / rows.height if rows.height else 0.5
    low, high = wilson(share, float(rows.height)) if rows.height else (0.0, 1.0)
    is_biased = rows.height > 0 and (low > MOST or high < 1 - MOST)
    median = float(rows["more"].median() or 0)  # pyright: ignore[reportArgumentType]
    toward = "longer" if share >= 0.5 else "shorter"
    first = (longer if share >= 0.5 else rows.filter(pl.col("more") < 0)).head(EXAMPLES)
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
        longer.height,
        rows.height,
        tuple(
            {"place": p, "text": shown(t)} for p, t in first.select("place", "chosen_text").rows()
        )
        if is_biased
        else (),
        {"share": share, "low": low, "high": high, "median_difference": median},
    )
