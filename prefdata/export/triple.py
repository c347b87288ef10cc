"""A reference answer, a chosen and a rejected one: for training that imitates and prefers at once.

Of three or more ranked completions the best is the `reference` (of the likelihood term), the second
`chosen`, the last `rejected`.

Source: Saeidi et al. (2024), Triple Preference Optimization: Achieving Better Alignment using a
Single Step Optimization. The released code takes the best twice where two are equally good.
"""

import polars as pl

from prefdata.export.listwise import listwise
from prefdata.tables import Completions, Format, Prompts, Rows, Strengths

SCOPE = "all"  # an estimator that some prompts lack is no mistake


def triple(
    prompts: Prompts,
    completions: Completions,
    strengths: Strengths,
    *,
    estimator: str | None = None,
    format: Format = "conversational",
) -> Rows:
    """One row a prompt with three completions the last of which is weaker than the second.

    `score_reference`, `score_chosen` and `score_rejected` are their strengths. Of equally strong
    ones the smallest id goes first, so reference and chosen may be equally good but never the same.
    `estimator` names whose strengths are taken and is required when there are several; `format` is
    as in export.listwise.
    """
    rows = listwise(
        prompts, completions, strengths, estimator=estimator, min_completions=3, format=format
    )
    rows = rows.filter(pl.col("ranks").list.last() > pl.col("ranks").list.get(1, null_on_oob=True))
    places = {"reference": 0, "chosen": 1, "rejected": -1}
    return Rows(
        rows.select(
            "prompt",
            *(pl.col("completions").list.get(at).alias(name) for name, at in places.items()),
            *(pl.col("scores").list.get(at).alias(f"score_{name}") for name, at in places.items()),
            *(pl.col("completion_ids").list.get(at).alias(f"{name}_id")
              for name, at in places.items()),
            "prompt_id",
        )
    )  # fmt: skip
