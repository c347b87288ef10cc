"""Single completions as desirable or not: TRL's dataset type *unpaired preference*.

`prompt`, `completion`, `label`, then `prompt_id`, `completion_id`, by which a row can be followed,
and `weight`. A completion has one row at most, so labels never contradict each other.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import polars as pl

from prefdata.aggregate._ranks import settled
from prefdata.errors import RecipeError, TableError, nearest
from prefdata.estimate._named import of_completions
from prefdata.export._policy import Policy, Ties, kept
from prefdata.stage import Parts
from prefdata.tables import (
    Completions,
    Format,
    Pairs,
    Prompts,
    Ratings,
    Rows,
    Scores,
    Strengths,
    check,
    one_estimator,
    plain,
)
from prefdata.tool_calls import NO_FIELDS, ToolCalls, as_fields

SCOPE = "all"  # a quantile is one of all completions

By = Literal["pairs", "strengths", "ratings"]


def binary(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    strengths: Strengths | None = None,
    ratings: Ratings | None = None,
    scores: Scores | None = None,
    *,
    by: By = "pairs",
    contradictions: Literal["majority", "drop"] = "majority",
    policy: Policy = "all",
    ties: Ties = "keep",
    threshold: float | None = None,
    quantile: float | None = None,
    estimator: str | None = None,
    criterion: str | None = None,
    weights: str | None = None,
    format: Format = "conversational",
    tool_calls: ToolCalls = "text",
    seed: int = 0,
) -> Rows:
    """One row a completion that has a label, by `completion_id`.

    `by` says what labels are made of. "pairs": chosen is true, rejected is false; a completion that
    is chosen in some pairs and rejected in others gets the label of the greater number and none
    when they are equal (`contradictions` "majority"), or none at all ("drop"); `weight` is the mean
    weight of its pairs, null when none has one. "strengths" and "ratings" (the mean over an
    annotator's scored ratings of `criterion`, or over the criteria's means): true above
    `threshold`, false below, none at it; by default 0 for strengths, 0.5 for ratings. Or
    `quantile` q in (0, 0.5]: the q highest are true, the q lowest false, the others have no label.
    `estimator` names whose strengths are taken and is required when there are several. `format`
    "conversational" keeps messages; "standard" gives plain strings and raises `TableError` on
    conversations of several messages. `weights` names a score about completions that is their
    `weight`, as "matching_weight" of order.matching_weights; one without it has none. `policy`,
    `ties` and `seed` say which pairs count, and `tool_calls` how calls stand in messages, as in
    export.pairwise.

    Source: Ethayarajh, Xu, Muennighoff, Jurafsky, Kiela (2024), KTO (desirable and undesirable
    completions, from pairs or from thresholded scores); TRL, dataset formats and types.
    """
    source = {"pairs": pairs, "strengths": strengths, "ratings": ratings}[by]
    if source is None:
        raise TableError(f'export.binary: by = "{by}", but no stage made the table {by}')
    _refuse(by, threshold, quantile)
    pairs_only = (contradictions, policy, ties) != ("majority", "all", "keep")
    for said, option, of in (
        (pairs_only, "contradictions, policy and ties are", "pairs"),
        (estimator is not None, "estimator is", "strengths"),
        (criterion is not None, "criterion is", "ratings"),
    ):
        if said and by != of:
            raise RecipeError(f'export.binary: {option} for by = "{of}", not "{by}"')
    if format == "standard" and tool_calls == "fields":
        raise RecipeError(f"export.binary: {NO_FIELDS}")
    if by == "pairs":
        labels = _from_pairs(kept(Pairs(source), policy, ties, seed), contradictions)
    elif by == "strengths":
        taken = one_estimator(Strengths(source), estimator, where="export.binary")
        values = taken.select("completion_id", value=pl.col("strength"))
        labels = _from_values(values, 0.0 if threshold is None else threshold, quantile)
    else:
        values = _mean_ratings(Ratings(source), criterion)
        labels = _from_values(values, 0.5 if threshold is None else threshold, quantile)
    rows = labels.join(completions, on="completion_id", how="left")
    rows = rows.join(prompts.select("prompt_id", "prompt"), on="prompt_id", how="left")
    if weights is not None:
        rows = rows.drop("weight", strict=False).join(
            _scored(scores, weights), on="completion_id", how="left"
        )
    rows = check("binary", rows, where="export.binary")
    if format == "standard":
        rows = plain(rows, "prompt", "completion", where="export.binary")
    if tool_calls == "fields":
        rows = as_fields(rows, "prompt", "completion", where="export.binary")
    return Rows(rows)


def in_parts(
    *,
    by: By = "pairs",
    weights: str | None = None,
    tool_calls: ToolCalls = "text",
    **options: Any,
) -> Parts[Rows] | None:
    """The export by shards where labels are made of pairs: those of a completion are together."""
    if by != "pairs" or weights is not None or tool_calls == "fields":
        return None
    return _of_each(partial(binary, by=by, **options))


def _of_each(shard: Callable[..., Rows]) -> Parts[Rows]:
    yield from ()
    return shard


def _scored(scores: Scores | None, name: str) -> pl.DataFrame:
    """A score about completions, as (completion_id, weight)."""
    if scores is None:
        raise TableError(f"export.binary: weights = {name!r}, but there are no scores")
    return of_completions(scores, name, where="export.binary").rename({"value": "weight"})


def _refuse(by: By, threshold: float | None, quantile: float | None) -> None:
    given = {"threshold": threshold, "quantile": quantile}
    said = [name for name, value in given.items() if value is not None]
    if by == "pairs" and said:
        raise RecipeError(f'export.binary: {said[0]} is for by = "strengths" or "ratings"')
    if len(said) == 2:
        raise RecipeError("export.binary: give threshold or quantile, not both")
    if quantile is not None and not 0 < quantile <= 0.5:
        raise RecipeError(f"export.binary: quantile is in (0, 0.5], found {quantile}")


def _from_pairs(pairs: Pairs, contradictions: Literal["majority", "drop"]) -> pl.DataFrame:
    weight = pl.col("weight").cast(pl.Float64)
    sides = [
        pairs.select(completion_id=pl.col(f"{side}_id"), says=pl.lit(says), weight=weight)
        for side, says in (("chosen", 1), ("rejected", -1))
    ]
    said = pl.concat(sides).group_by("completion_id")
    filled = pl.col("weight").fill_null(1).sort().mean()
    tallied = said.agg(
        net=pl.col("says").sum(),
        unanimous=pl.col("says").n_unique() == 1,
        weight=pl.when(pl.col("weight").is_not_null().any()).then(filled),
    )
    kept = pl.col("net") != 0 if contradictions == "majority" else pl.col("unanimous")
    return tallied.filter(kept).select("completion_id", "weight", label=pl.col("net") > 0)


def _mean_ratings(ratings: Ratings, criterion: str | None) -> pl.DataFrame:
    scored = ratings.filter(pl.col("rating").is_not_null())
    if criterion is not None:
        there = ratings["criterion"].unique().to_list()
        if there and criterion not in there:
            raise TableError(
                f"export.binary: no ratings of {criterion!r}; {nearest(criterion, there)}"
            )
        scored = scored.filter(pl.col("criterion") == criterion)
    ordered = scored.sort("completion_id", "criterion", "annotator", "draw")
    by_criterion = ordered.group_by("completion_id", "criterion", maintain_order=True)
    each = by_criterion.agg(value=pl.col("rating").mean())
    return each.group_by("completion_id", maintain_order=True).agg(pl.col("value").mean())


def _from_values(values: pl.DataFrame, threshold: float, quantile: float | None) -> pl.DataFrame:
    value = settled("value")
    if quantile is None:
        above, below = value > threshold, value < threshold
    else:
        top, bottom = value.quantile(1 - quantile, "higher"), value.quantile(quantile, "lower")
        above, below = (value >= top) & (value > bottom), (value <= bottom) & (value < top)
    sided = values.with_columns(label=pl.when(above).then(True).when(below).then(False))
    return sided.filter(pl.col("label").is_not_null()).select("completion_id", "label")
