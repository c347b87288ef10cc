"""As many pairs of every source, so that what differs between datasets made of them is not size.

A pair is of the source of its prompt. One whose prompt stands in several sources is of none of
them alone and is not kept: a mixture compared with what it was made of is compared with itself.

Source: Ivison et al. (2024), Unpacking DPO and PPO: Disentangling Best Practices for Learning from
Preference Feedback (sources compared at 60,908 pairs each).
"""

import polars as pl

from prefdata.errors import RecipeError
from prefdata.tables import Dropped, Pairs, Prompts, digest

SCOPE = "all"
SHARED = "its prompt is in several sources"
NO_PROMPT = "its two completions answer different prompts"


def size_matched(
    pairs: Pairs, prompts: Prompts, *, size: int | None = None, seed: int = 0
) -> tuple[Pairs, Dropped]:
    """Keep `size` pairs of every source, drawn by lot, unchanged; of a smaller source none.

    What is drawn of one source depends on no other. `dropped` says of a pair why it was left out:
    its prompt is in several sources, its source is smaller than `size`, or it was not drawn.

    Options:
    - `size`: pairs of each source, at least 1; default as many as the smallest has.
    - `seed`: of the lots.

    Raises `RecipeError` where no source has `size` pairs of its own.
    """
    drawn = of_sources(pairs, prompts, size=size, seed=seed, where="select.size_matched")
    gone = drawn.filter(pl.col("why").is_not_null())
    kept = drawn.filter(pl.col("why").is_null())["pair_id"]
    dropped = gone.select(
        pl.lit("pairs").alias("table"),
        pl.col("pair_id").alias("key"),
        pl.lit("select.size_matched").alias("stage"),
        pl.col("why").alias("reason"),
    )
    return Pairs(pairs.filter(pl.col("pair_id").is_in(kept.implode()))), Dropped(dropped)


def of_sources(
    pairs: Pairs, prompts: Prompts, *, size: int | None, seed: int, where: str
) -> pl.DataFrame:
    """`pair_id, prompt_id, source, size, why`: of each pair its source, and why it is not drawn.

    `source` is null for a pair that is of no source alone; `size` is what was drawn of each.
    """
    if size is not None and size < 1:
        raise RecipeError(f"{where}: size = {size}; expected at least 1 pair of each source")
    about = prompts.select("prompt_id", said="source")
    rows = pairs.select("pair_id", "prompt_id").join(about, on="prompt_id", how="left")
    shared = pl.col("said").str.contains(",", literal=True)
    why = pl.when(pl.col("said").is_null()).then(pl.lit(NO_PROMPT))
    why = why.when(shared).then(pl.lit(SHARED))
    rows = rows.with_columns(why=why, source=pl.when(~shared).then("said")).drop("said")
    own = rows.drop_nulls("source")
    counts = own.group_by("source").len()
    wanted = size or int(counts["len"].min() or 0)  # pyright: ignore[reportArgumentType]
    if pairs.height and not counts.filter(pl.col("len") >= wanted).height:
        most = ", ".join(f"{name} {n:,}" for name, n in counts.sort("source").iter_rows())
        raise RecipeError(f"{where}: no source has {wanted:,} pairs of its own; they have: {most}")
    lots = pl.Series("lot", [digest("lot", seed, each) for each in own["pair_id"]], pl.String)
    own = own.with_columns(lots)
    place = pl.col("lot").rank("ordinal").over("source")
    n = pl.len().over("source")
    few = pl.format("its source has {} pairs of its own, fewer than {}", n, pl.lit(wanted))
    lost = pl.when(n < wanted).then(few).when(place > wanted).then(pl.lit("it was not drawn"))
    drawn = own.with_columns(why=lost).drop("lot")
    return pl.concat([drawn, rows.filter(pl.col("source").is_null())], how="diagonal").with_columns(
        size=pl.lit(wanted, pl.Int64)
    )
