"""A prompt's tree of solutions as a ranked list of step lists.

`responses` are the whole solutions, best first, each a list of steps; `scores` their strengths,
`ranks` as in export.listwise; `branch` of each is how many first steps it shares with the best one,
so that a loss can leave out what both say, or weigh steps by how alike they are.

Source: Liao et al. (2024), TPO: Aligning Large Language Models with Multi-branch & Multi-step
Preference Trees.
"""

import polars as pl

from prefdata.export._steps import steps
from prefdata.export.listwise import listwise
from prefdata.tables import Completions, Prompts, Rows, Samples, Strengths, check

SCOPE = "all"  # an estimator that some prompts lack is no mistake


def tree(
    prompts: Prompts,
    completions: Completions,
    samples: Samples,
    strengths: Strengths,
    *,
    estimator: str | None = None,
    min_completions: int = 2,
) -> Rows:
    """One row a prompt with `min_completions` whole solutions that have a strength.

    `estimator` names whose strengths are taken and is required when there are several. Partial
    solutions, which others continue, are no responses, whatever their strength.

    Raises `TableError` for steps that do not hang together.
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
    return Rows(check("tree", rows, where=where))
