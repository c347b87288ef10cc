"""Solutions in steps, each right or wrong: TRL's dataset type *stepwise supervision*.

`prompt`, `completions` (the steps' texts) and `labels` (whether each is right), for process reward
models. A step is what a partial solution adds to its parent (see `samples.parent_id`), and its
label comes from the ratings of that partial solution.

Source: TRL, dataset formats and types (stepwise supervision); Uesato et al. (2022), Solving math
word problems with process- and outcome-based feedback.
"""

import polars as pl

from prefdata.errors import TableError, nearest
from prefdata.export._steps import steps
from prefdata.tables import Completions, Prompts, Ratings, Rows, Samples, check, plain

SCOPE = "all"  # a criterion that some prompts lack is no mistake


def stepwise(
    prompts: Prompts,
    completions: Completions,
    samples: Samples,
    ratings: Ratings,
    *,
    criterion: str | None = None,
    threshold: float = 0.5,
) -> Rows:
    """One row a whole solution, by `completion_id`: one of whose steps none is the parent.

    A step is right where the mean rating of its partial solution is above `threshold`. Solutions
    with a step that nobody rated have no row. `criterion` names whose ratings count; default all.

    Raises `TableError` for steps that do not hang together, for an unknown criterion, and for
    prompts of several messages, since TRL reads the prompt as plain text.
    """
    where = "export.stepwise"
    there = ratings["criterion"].unique().to_list()
    if criterion is not None and there and criterion not in there:
        raise TableError(f"{where}: no ratings of {criterion!r}; {nearest(criterion, there)}")
    own = ratings if criterion is None else ratings.filter(pl.col("criterion") == criterion)
    means = own.sort("completion_id", "rating").group_by("completion_id")
    right = means.agg(right=pl.col("rating").mean() > threshold).drop_nulls()
    whole = steps(completions, samples, where=where)
    leaves = whole.filter("is_leaf").select("completion_id", "prompt_id", "chain", "path")
    each = (
        leaves.explode("chain", "path")
        .join(right.rename({"completion_id": "path"}), on="path", how="left", maintain_order="left")
        .group_by("completion_id", "prompt_id", maintain_order=True)
        .agg(completions="chain", labels="right")
        .filter(pl.col("labels").list.eval(pl.element().is_not_null()).list.all())
    )
    rows = each.join(prompts.select("prompt_id", "prompt"), on="prompt_id", how="left")
    rows = plain(rows, "prompt", where=where)
    return Rows(check("stepwise", rows, where=where))
