"""Which of the pairs an export has rows of."""

from typing import Literal

import polars as pl

from prefdata.tables import Pairs, digest

Policy = Literal["all", "widest", "random"]
Ties = Literal["keep", "drop"]


def kept(pairs: Pairs, policy: Policy, ties: Ties, seed: int) -> Pairs:
    """The pairs that a policy keeps: all, or of each prompt one.

    "widest" is that of the greatest margin, or of the greatest soft label where no margin is
    known; "random" is drawn by `seed` from the pairs' ids. A tie is a pair whose soft label is 1/2.
    A pair of answers to different prompts is one of its own.
    """
    rows = pl.DataFrame(pairs)
    if ties == "drop":
        rows = rows.filter(pl.col("soft_label") > 0.5)
    if policy == "all":
        return Pairs(rows)
    if policy == "widest":
        rows = rows.sort(
            pl.col("margin").fill_null(-1.0),
            "soft_label",
            "pair_id",
            descending=[True, True, False],
        )
    else:
        drawn = [digest("pair of a prompt", seed, pair_id) for pair_id in rows["pair_id"]]
        rows = rows.with_columns(pl.Series("drawn", drawn, pl.String)).sort("drawn").drop("drawn")
    of = pl.coalesce("prompt_id", "pair_id").alias("of")
    return Pairs(rows.with_columns(of).unique("of", keep="first", maintain_order=True).drop("of"))
