"""Phrases that say nothing and stand everywhere: a model learns them before anything else.

Some are known; others are found, as the same first words of many completions.
"""

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted

MOST = 0.02
KNOWN = (
    r"(?i)(?:\bas an ai(?: language)? model\b|\bi hope this helps\b"
    r"|\blet me know if you (?:have|need)|\bfeel free to (?:ask|reach)"
    r"|^(?:certainly|absolutely|of course|sure(?: thing)?)[!,.]|\bi(?:'|’)d be happy to help\b"
    r"|\bis there anything else\b|\bgreat question\b)"
)
OPENING = r"^((?:\S+ ){5}\S+)"  # six words of a plain text
REPEATED, FEWEST = 0.01, 10


def boilerplate(data: Data) -> Finding:
    """Completions with a stock phrase, or whose first six words open over 1 % of all of them.

    An opening counts where it stands under different prompts. Above 2 % of all it is a warning.
    """
    said = data.completions.with_columns(opening=pl.col("plain").str.extract(OPENING, 1))
    common = (
        said.drop_nulls("opening")
        .group_by("opening")
        .agg(n=pl.len(), prompts=pl.col("prompt_plain").n_unique())
    )
    common = common.filter(
        (pl.col("prompts") >= FEWEST) & (pl.col("n") > REPEATED * said.height)
    ).sort("n", "opening", descending=[True, False])
    rows = said.filter(
        pl.col("text").str.contains(KNOWN) | pl.col("opening").is_in(common["opening"].implode())
    )
    most = f"; {common['n'][0]:,} begin with {common['opening'][0]!r}" if common.height else ""
    return counted(
        "boilerplate",
        rows.select("place", "text"),
        said.height,
        f"completions with stock phrases or one opening of many{most}",
        "cut them off the texts, or ask the writer not to; see which side has more of them",
        level="warning",
        most=MOST,
    )
