"""Completions with a column an attribute: for regression and attribute-conditioned models.

`attributes` is the same as text, "helpfulness:4,correctness:3,...", as SteerLM conditions on it;
an attribute that nobody rated is null, and not in the text.

Source: Wang et al. (2024), HelpSteer2: Open-source dataset for training top-performing reward
models; the text is that of SteerLM, Dong et al. (2023).
"""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.errors import RecipeError, TableError, nearest
from prefdata.export._texts import with_texts
from prefdata.tables import Completions, Format, Prompts, Ratings, Rows, plain

SCOPE = "all"  # an attribute that some prompts lack is no mistake


def attributes(
    prompts: Prompts,
    completions: Completions,
    ratings: Ratings,
    *,
    criteria: Sequence[str] = (),
    scale: tuple[float, float] = (0, 4),
    weights: Mapping[str, float] | None = None,
    format: Format = "conversational",
) -> Rows:
    """One row a completion that has a rating, by `completion_id`.

    A column bears the criterion's name and has the mean over annotators of their mean rating, on
    `scale`; the text has it rounded, halves upwards. `criteria` are the columns, in order; by
    default all there are, by name. `weights`, {criterion = weight}, of any sign, add the column
    `goodness`, the weighted sum of the attributes on the scale, null where one is missing. `format`
    is as in export.binary.

    Raises `RecipeError` for a scale that does not rise, `TableError` for an unknown criterion.
    """
    where = "export.attributes"
    low, high = scale
    if not low < high:
        raise RecipeError(f"{where}: scale is {list(scale)}; it rises")
    there = sorted(ratings["criterion"].unique().to_list())
    names = list(criteria) or there
    for name in (*names, *(weights or {})):
        if there and name not in there:
            raise TableError(f"{where}: nobody rated {name!r}; {nearest(name, there)}")
    counted = {name: weight for name, weight in (weights or {}).items() if name in names}
    lost = [name for name in weights or {} if name not in counted]
    if there and lost:
        raise TableError(f"{where}: weights have {lost[0]!r}, which is not among criteria")
    scored = ratings.drop_nulls("rating").filter(pl.col("criterion").is_in(names))
    by = ["completion_id", "prompt_id", "criterion"]
    by_one = scored.sort("rating").group_by(*by, "annotator").agg(pl.col("rating").mean())
    means = by_one.sort("annotator").group_by(by, maintain_order=True)
    value = (low + (high - low) * pl.col("rating").mean()).round(9)
    long = means.agg(value=value)
    wide = long.select("completion_id", "prompt_id").unique().sort("completion_id")
    for name in names:
        own = long.filter(pl.col("criterion") == name)
        own = own.select("completion_id", pl.col("value").alias(name))
        wide = wide.join(own, on="completion_id", how="left", maintain_order="left")
    told = [
        pl.format("{}:{}", pl.lit(name), (pl.col(name) + 0.5).floor().cast(pl.Int64))
        for name in names
    ]
    text = pl.concat_str(told, separator=",", ignore_nulls=True) if told else pl.lit("")
    wide = wide.with_columns(text.alias("attributes"))
    if counted:
        goodness = pl.sum_horizontal(
            [weight * pl.col(name) for name, weight in counted.items()], ignore_nulls=False
        )
        wide = wide.with_columns(goodness=goodness)
    rows = with_texts(wide, prompts, completions, "completion")
    rows = rows.select("prompt", "completion", *(n for n in wide.columns if n != "prompt"))
    if format == "standard":
        rows = plain(rows, "prompt", "completion", where=where)
    return Rows(rows)
