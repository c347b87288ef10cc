"""What is preferred whatever the context: preferences under each, by how likely it is.

A prompt x that leaves open what counts is asked under contexts z that say so (`generate.contextual`
or people). With q(z | x) how likely a context is and p(a | x, z) what is preferred under it,

    P(a preferred | x) = sum_z q(z | x) p(a | x, z)

How far that may be off, by wrong weights and by wrong preferences, is `measure.context_mixture`.

Source: Pitis et al. 2024, "Improving Context-Aware Preference Modeling for Language Models".
"""

from collections.abc import Sequence

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.measure._contexts import UNIT, heard, holds_context, weighed, with_texts
from prefdata.measure._means import with_groups
from prefdata.tables import SIDES, Completions, Prompts, Scores, Votes

SCOPE = "all"
WHERE = "aggregate.context_mixture"


def context_mixture(
    votes: Votes,
    completions: Completions,
    prompts: Prompts,
    scores: Scores | None = None,
    *,
    annotators: Sequence[str] | None = None,
    weights: str | None = None,
    estimator: str = "context_mixture",
) -> Scores:
    """Aggregate votes under contexts to the preference between the same two texts without one.

    Score `preference` of a pair, P(the smaller completion_id wins), in [0, 1], for each two
    completions of a prompt without a context whose texts are compared under contexts of its group.
    An annotator counts once under each context, by the mean of its votes, and all annotators who
    voted under every context that any did count alike.

    Options:
    - `annotators`: whose votes count; default all.
    - `weights`: the score of prompts in context that says how likely the context is; scaled to a
      sum of 1. Null: all contexts are equally likely. Two texts with a context that has none are
      left out.
    - `estimator`: the result's name in `scores.model`.

    Raises `RecipeError` for an annotator or a score that is not there, or a weight below 0.
    """
    there = votes["annotator"].unique().sort().to_list()
    for name in annotators or ():
        if there and name not in there:
            raise RecipeError(f"{WHERE}: no votes of {name!r}; {nearest(name, there)}")
    rows = heard(votes, completions, prompts)
    if annotators is not None:
        rows = rows.filter(pl.col("annotator").is_in(list(annotators)))
    n_contexts = pl.col("prompt_id").n_unique()
    whole = n_contexts.over("annotator", *UNIT) == n_contexts.over(UNIT)
    rows = weighed(rows.filter(whole), scores, weights, "q", where=WHERE)
    mixed = (
        rows.sort("prompt_id", *SIDES)
        .group_by("annotator", *UNIT, maintain_order=True)
        .agg(p=(pl.col("q") * pl.col("for_t")).sum())
        .group_by(UNIT)
        .agg(p=pl.col("p").sort().mean().clip(0, 1))
    )
    found = _without(completions, prompts).join(mixed, on=UNIT).sort(SIDES)
    return tables.typed(
        Scores,
        found.select(
            subject_id=tables.pair_ids(found["completion_a"], found["completion_b"]),
            subject=pl.lit("pair"),
            score=pl.lit("preference"),
            value=pl.when("a_is_t").then("p").otherwise(1 - pl.col("p")),
            model=pl.lit(estimator),
        ),
    )


def _without(completions: Completions, prompts: Prompts) -> pl.DataFrame:
    """Any two completions of each prompt without a context, with their `group` and `texts`."""
    bare = prompts.filter(~holds_context(prompts)).select("prompt_id")
    one = completions.join(bare, on="prompt_id", how="semi").select(
        "prompt_id", completion_a="completion_id"
    )
    two = one.join(one.rename({"completion_a": "completion_b"}), on="prompt_id")
    two = two.filter(pl.col("completion_a") < pl.col("completion_b"))
    return with_groups(with_texts(two, completions), prompts)
