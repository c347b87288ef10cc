"""Preferences under contexts: prompts of one group that ask for the same two texts otherwise."""

import polars as pl

from prefdata.errors import RecipeError, nearest
from prefdata.measure._means import with_groups
from prefdata.tables import SIDES, Completions, Prompts, Scores, Votes

# What a tag of a prompt begins with whose prompt holds a context.
TAG = "context:"
# Two texts under all contexts of a prompt group.
UNIT = ["group", "texts"]


def holds_context(prompts: pl.DataFrame) -> pl.Series:
    """Which prompts hold a context."""
    tagged = pl.col("tags").list.eval(pl.element().str.starts_with(TAG)).list.any()
    return prompts.select(tagged.fill_null(False)).to_series()


def heard(votes: Votes, completions: Completions, prompts: Prompts) -> pl.DataFrame:
    """What each annotator prefers under each context, by the mean of its scored votes.

    Columns: `annotator`, `prompt_id`, `completion_a`, `completion_b`, `preference`; `group`;
    `texts`, the two that are compared; `a_is_t`, whether a's is t, the smaller one; `for_t`, the
    preference for it.
    """
    decided = votes.filter(pl.col("preference").is_not_null())
    mine = decided.join(prompts.filter(holds_context(prompts)), on="prompt_id", how="semi")
    each = mine.group_by("annotator", "prompt_id", *SIDES).agg(
        pl.col("preference").sort().mean().round(12)
    )
    rows = with_groups(with_texts(each, completions), prompts)
    for_t = pl.when("a_is_t").then("preference").otherwise(1 - pl.col("preference"))
    return rows.with_columns(for_t=for_t)


def with_texts(rows: pl.DataFrame, completions: Completions) -> pl.DataFrame:
    """The rows with `texts`, the two that are compared, and whether a's is the smaller one."""
    for side in ("a", "b"):
        said = completions.select(
            pl.col("completion_id").alias(f"completion_{side}"),
            pl.struct("completion").struct.json_encode().alias(f"text_{side}"),
        )
        rows = rows.join(said, on=f"completion_{side}")
    a, b = pl.col("text_a"), pl.col("text_b")
    two = pl.concat_str(pl.min_horizontal(a, b), pl.max_horizontal(a, b), separator="\n")
    return rows.with_columns(texts=two, a_is_t=a < b).drop("text_a", "text_b")


def weighed(
    rows: pl.DataFrame, scores: Scores | None, name: str | None, column: str, *, where: str
) -> pl.DataFrame:
    """The rows with how likely their context is: the score of its prompt, of a sum of 1.

    Each annotator's contexts of the same two texts are a sum. Without a name all count alike; with
    one, texts of which a context has no score are left out.
    """
    over = ["annotator", *UNIT]
    if name is None:
        return rows.with_columns((1 / pl.len()).over(over).alias(column))
    known = pl.DataFrame() if scores is None else scores.filter(pl.col("subject") == "prompt")
    there = sorted(known["score"].unique()) if len(known) else []
    if there and name not in there:
        raise RecipeError(f"{where}: no prompt has a score {name!r}; {nearest(name, there)}")
    types = {"prompt_id": pl.String, column: pl.Float64}
    mine = pl.DataFrame(schema=types)
    if there:
        mine = known.filter(pl.col("score") == name).select(
            pl.col("subject_id").alias("prompt_id"), pl.col("value").alias(column)
        )
    if mine[column].min() is not None and mine.filter(pl.col(column) < 0).height:
        raise RecipeError(f"{where}: a weight {name!r} is below 0; weights are probabilities")
    found = rows.join(mine, on="prompt_id", how="left", maintain_order="left")
    whole = (pl.col(column).is_not_null().all() & (pl.col(column).sum() > 0)).over(over)
    return found.filter(whole).with_columns((pl.col(column) / pl.col(column).sum()).over(over))
