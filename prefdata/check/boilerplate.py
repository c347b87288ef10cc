"""Phrases that say nothing and stand everywhere: a model learns them before anything else.

Some are known; others are found, as the same first words of many completions.
"""

import polars as pl

from prefdata.check.data import Data, Whole
from prefdata.check.finding import Check, Tally, counted, examples
from prefdata.finding import EXAMPLES

MOST = 0.02
KNOWN = (
    r"(?i)(?:\bas an ai(?: language)? model\b|\bi hope this helps\b"
    r"|\blet me know if you (?:have|need)|\bfeel free to (?:ask|reach)"
    r"|^(?:certainly|absolutely|of course|sure(?: thing)?)[!,.]|\bi(?:'|’)d be happy to help\b"
    r"|\bis there anything else\b|\bgreat question\b)"
)
OPENING = r"^((?:\S+ ){5}\S+)"  # six words of a plain text
REPEATED, FEWEST = 0.01, 10


def boilerplate(data: Whole) -> Check:
    """Completions with a stock phrase, or whose first six words open over 1 % of all of them.

    An opening counts where it stands under different prompts. Above 2 % of all it is a warning.
    """
    opening = pl.col("plain").str.extract(OPENING, 1)
    seen = [
        pl.DataFrame(
            schema={
                "row": pl.UInt32,
                "is_rejected": pl.Boolean,
                "is_known": pl.Boolean,
                "opening": pl.UInt64,
                "prompt": pl.UInt64,
            }
        )
    ]
    while part := (yield):
        seen.append(
            part.completions.select(
                "row",
                is_rejected=pl.col("side") == "rejected",
                is_known=pl.col("text").str.contains(KNOWN),
                opening=pl.when(opening.is_not_null()).then(opening.hash(seed=0)),
                prompt=pl.col("prompt_plain").hash(seed=0),
            )
        )
    said = pl.concat(seen)
    often = (
        said["opening"].drop_nulls().value_counts().filter(pl.col("count") > REPEATED * said.height)
    )
    rows = said.filter(pl.col("opening").is_in(often["opening"].implode()))
    common = (
        rows.group_by("opening")
        .agg(n=pl.len(), prompts=pl.col("prompt").n_unique(), row=pl.col("row").first())
        .filter(pl.col("prompts") >= FEWEST)
    )
    stock = said.filter(pl.col("is_known") | pl.col("opening").is_in(common["opening"].implode()))
    tally = Tally()
    tally.n, tally.of = stock.height, said.height
    first = stock.sort("is_rejected", "row").head(EXAMPLES)
    shown = Data(data.at(first["row"])).completions.with_columns(
        is_rejected=pl.col("side") == "rejected"
    )
    shown = first.join(shown, on=["row", "is_rejected"], maintain_order="left")
    return counted(
        "boilerplate",
        tally,
        f"completions with stock phrases or one opening of many{_most(data, common)}",
        "cut them off the texts, or ask the writer not to; see which side has more of them",
        level="warning",
        most=MOST,
        first=examples(shown),
    )


def _most(data: Whole, common: pl.DataFrame) -> str:
    """The opening of most completions, of several the first in order."""
    if common.is_empty():
        return ""
    most = common.filter(pl.col("n") == pl.col("n").max())
    said = Data(data.at(most["row"])).completions.select(
        opening=pl.col("plain").str.extract(OPENING, 1)
    )
    known = said.filter(pl.col("opening").hash(seed=0).is_in(most["opening"].implode()))
    return f"; {most['n'][0]:,} begin with {known['opening'].min()!r}"
