"""What the texts of completions are like, as numbers whose differences may move a vote."""

import polars as pl

from prefdata.tables import Completions


def log_length(completions: Completions) -> pl.DataFrame:
    """`completion_id, log_length`: the logarithm of one more than its characters."""
    size = pl.col("completion").list.eval(pl.element().struct.field("content").str.len_chars())
    return completions.select("completion_id", log_length=(size.list.sum() + 1.0).log())


def with_differences(votes: pl.DataFrame, traits: pl.DataFrame) -> pl.DataFrame:
    """The votes with the traits' differences, a less b; those on an unknown text are left out."""
    names = [name for name in traits.columns if name != "completion_id"]
    a, b = (
        traits.select(pl.col("completion_id").alias(side), pl.col(names).name.suffix(suffix))
        for side, suffix in (("completion_a", "_of_a"), ("completion_b", "_of_b"))
    )
    both = votes.join(a, on="completion_a", maintain_order="left")
    both = both.join(b, on="completion_b", maintain_order="left")
    return both.with_columns(
        (pl.col(f"{name}_of_a") - pl.col(f"{name}_of_b")).alias(name) for name in names
    ).drop([f"{name}{suffix}" for name in names for suffix in ("_of_a", "_of_b")])
