"""The same comparison with both outcomes: one of the two labels is wrong."""

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted


def contradictions(data: Data) -> Finding:
    """Pairs that also stand the other way round, or completions both desirable and not."""
    prompt = pl.col("prompt_plain").fill_null("").alias("prompt")
    if data.kind == "preference":
        is_same = pl.min_horizontal("one", "other") == pl.max_horizontal("one", "other")
        rows = data.paired.select(
            "place", prompt, one="chosen_plain", other="rejected_plain", text="chosen_text"
        )
        turned = rows.select("prompt", one="other", other="one").unique()
        rows = rows.filter(~is_same).join(turned, on=["prompt", "one", "other"], how="semi")
        of, says = data.paired.height, "pairs of which the opposite stands in the data too"
    else:
        said = data.completions.with_columns(prompt, one="plain")
        rows = said.filter(pl.col("side").n_unique().over("prompt", "one") > 1)
        of, says = said.height, "completions that are called both desirable and not"
    return counted(
        "contradictions",
        rows.select("place", "text"),
        of,
        says,
        "aggregate the labels of one comparison into one (aggregate.*), or drop both",
    )
