"""A prompt's tree of solutions as a ranked list of step lists.

`responses` are the whole solutions, best first, each a list of steps; `scores` their strengths,
`ranks` as in export.listwise; `branch` of each is how many first steps it shares with the best one,
so that a loss can leave out what both say. `step_similarity`, where it was estimated, says of
each step of each how alike it is to the best one's, so that a loss can weigh steps by it.

Source: Liao et al. (2024), TPO: Aligning Large Language Models with Multi-branch & Multi-step
Preference Trees.
"""

import polars as pl

from prefdata.estimate._named import named
from prefdata.export._steps import steps
from prefdata.export.listwise import listwise
from prefdata.tables import (
    Completions,
    Prompts,
    Rows,
    Samples,
    Scores,
    Strengths,
    check,
    empty,
)

SCOPE = "all"  # an estimator that some prompts lack is no mistake


def tree(
    prompts: Prompts,
    completions: Completions,
    samples: Samples,
    strengths: Strengths,
    scores: Scores | None = None,
    *,
    estimator: str | None = None,
    min_completions: int = 2,
    similarity: str | None = None,
) -> Rows:
    """One row a prompt with `min_completions` whole solutions that have a strength.

    `estimator` names whose strengths are taken and is required when there are several. Partial
    solutions, which others continue, are no responses, whatever their strength. `similarity` names
    a score about completions, as "step_similarity" of estimate.step_similarity; a step without it
    has null.

    Raises `TableError` for steps that do not hang together, `RecipeError` for a score that is not
    there.
    """
    where = "export.tree"
    known = steps(completions, samples, where=where).filter("is_leaf")
    whole = strengths.join(known, on="completion_id", how="semi")
    listed = listwise(
        prompts,
        completions,
        Strengths(whole),
        estimator=estimator,
        min_completions=min_completions,
    )
    keys = listed.select("prompt_id", completion_id="completion_ids").explode("completion_id")
    each = keys.join(
        known.select("completion_id", "chain", "path"), on="completion_id", how="left",
        maintain_order="left",
    ).with_columns(
        best=pl.col("path").first().over("prompt_id"), n=pl.int_range(pl.len()).over("prompt_id")
    )  # fmt: skip
    shared = (
        each.select("completion_id", "path")
        .explode("path")
        .join(each.select("completion_id", "best"), on="completion_id")
        .filter(pl.col("path").is_in(pl.col("best")))
        .group_by("completion_id")
        .agg(branch=pl.len().cast(pl.Int64))
    )
    lists = (
        each.join(shared, on="completion_id", how="left", maintain_order="left")
        .with_columns(pl.col("branch").fill_null(0))
        .group_by("prompt_id", maintain_order=True)
        .agg(responses="chain", branch="branch")
    )
    rows = listed.drop("completions").join(lists, on="prompt_id", maintain_order="left")
    rows = check("tree", rows, where=where)
    if similarity is not None:
        rows = rows.join(_alike(each, scores, similarity), on="prompt_id", maintain_order="left")
    return Rows(rows)


def _alike(each: pl.DataFrame, scores: Scores | None, similarity: str) -> pl.DataFrame:
    """A list for each response of a prompt, with a number for each step."""
    there = empty("scores") if scores is None else scores
    known = named(there, similarity, where="export.tree", subject="completion")
    return (
        each.select("prompt_id", "completion_id", "path")
        .explode("path")
        .join(known.rename({"subject_id": "path"}), on="path", how="left", maintain_order="left")
        .group_by("prompt_id", "completion_id", maintain_order=True)
        .agg(step_similarity="value")
        .group_by("prompt_id", maintain_order=True)
        .agg("step_similarity")
    )
