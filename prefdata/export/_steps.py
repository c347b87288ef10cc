"""Partial solutions as chains of steps.

A partial solution is a completion of one message whose text begins with that of its parent (the
`parent_id` of its samples); what it adds is its last step.
"""

import polars as pl

from prefdata.errors import TableError
from prefdata.tables import Completions, Samples, text_of


def steps(completions: Completions, samples: Samples, *, where: str) -> pl.DataFrame:
    """Each completion with its parent, its own step and all steps to it.

    Columns: `completion_id, prompt_id, parent_id, text, step, chain, path` (the ids of the chain,
    itself the last) and `is_leaf`.

    Raises `TableError` for a completion with two parents, for one that does not begin with its
    parent's text and for parents that lead round in a circle.
    """
    parents = samples.select("completion_id", "parent_id").unique()
    double = parents.filter(pl.col("completion_id").is_duplicated())
    if double.height:
        raise TableError(
            f"{where}: {double['completion_id'].n_unique()} completions have several parents, "
            f"first {double.sort('completion_id')['completion_id'][0]}"
        )
    rows = (
        completions.select("completion_id", "prompt_id", text=text_of("completion"))
        .join(parents, on="completion_id", how="left")
        .sort("completion_id")
    )
    is_leaf = ~pl.col("completion_id").is_in(rows["parent_id"].drop_nulls().implode())
    of_parent = rows.select(parent_id="completion_id", before="text")
    rows = rows.with_columns(is_leaf=is_leaf).join(of_parent, on="parent_id", how="left")
    strange = rows.filter(~pl.col("text").str.starts_with(pl.col("before")).fill_null(True))
    if strange.height:
        raise TableError(
            f"{where}: {strange.height} completions do not begin with the text of their parent, "
            f"first {strange['completion_id'][0]}"
        )
    begin = pl.col("before").str.len_chars().fill_null(0)
    rows = rows.with_columns(step=pl.col("text").str.slice(begin))
    return rows.drop("before").join(_chains(rows, where), on="completion_id", maintain_order="left")


def _chains(rows: pl.DataFrame, where: str) -> pl.DataFrame:
    """All steps to each completion, a generation of the tree at a time."""
    known = rows.select("completion_id", "parent_id", "step")
    done = known.filter(pl.col("parent_id").is_null()).select(
        "completion_id", chain=pl.concat_list("step"), path=pl.concat_list("completion_id")
    )
    whole = [done]
    while not done.is_empty():
        before = done.rename({"completion_id": "parent_id"})
        done = known.join(before, on="parent_id").select(
            "completion_id",
            chain=pl.col("chain").list.concat(pl.concat_list("step")),
            path=pl.col("path").list.concat(pl.concat_list("completion_id")),
        )
        whole.append(done)
    found = pl.concat(whole)
    lost = known.join(found, on="completion_id", how="anti")
    if lost.height:
        raise TableError(
            f"{where}: {lost.height} completions have no first step: parents that are not there, "
            f"or that lead round in a circle, first {lost['completion_id'][0]}"
        )
    return found
