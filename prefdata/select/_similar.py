"""Which annotators of an item are nearest to each other.

Of k values the spread is greatest less smallest. The k values of the least spread stand beside each
other in order of size, so only runs of k are looked at: of the least spread, then of the least
variance, then with the mean nearest to the median of all, then the lowest. What an annotator said
of an item several times counts as its mean.
"""

import polars as pl

from prefdata.errors import RecipeError

DIGITS = 9


def similar(
    rows: pl.DataFrame, item: list[str], value: str, keep: int, max_spread: float, where: str
) -> pl.DataFrame:
    """`item` and `annotator` of those kept: of each item `keep` at most, or none of a wider spread.

    Rows are without nulls in `value`, which is in [0, 1]. Raises `RecipeError` for a `keep` below 2
    and a `max_spread` outside of [0, 1].
    """
    if keep < 2 or not 0 <= max_spread <= 1:
        raise RecipeError(
            f"{where}: keep = {keep}, max_spread = {max_spread}; at least 2, and in [0, 1]"
        )
    said = rows.sort(*item, "annotator", value).group_by(*item, "annotator", maintain_order=True)
    each = said.agg(value=pl.col(value).mean()).sort(*item, "value", "annotator")
    k = pl.min_horizontal(pl.lit(keep), pl.len())
    runs = (
        each.group_by(item, maintain_order=True)
        .agg("value", "annotator", median=pl.col("value").median(), k=k)
        .with_columns(at=pl.int_ranges(0, pl.col("value").list.len() - pl.col("k") + 1))
        .explode("at")
    )
    run = pl.col("value").list.slice("at", pl.col("k"))
    nearness = {
        "spread": run.list.max() - run.list.min(),
        "variance": run.list.var(),
        "distance": (run.list.mean() - pl.col("median")).abs(),
    }
    told = [expr.fill_null(0.0).round(DIGITS).alias(name) for name, expr in nearness.items()]
    best = runs.with_columns(told).sort(*item, *nearness, "at").unique(
        item, keep="first", maintain_order=True
    )  # fmt: skip
    near = best.filter(pl.col("spread") <= round(max_spread, DIGITS))
    kept = pl.col("annotator").list.slice("at", pl.col("k"))
    return near.select(*item, kept.alias("annotator")).explode("annotator")
