"""Compare two completions by a cross-encoder that reads both, in both orders.

The ranker reads the prompt and two candidates and gives one number, by how much the first is
better. Unlike a reward model it sees both at once, and like a judge it may lean to a place, so
each pair is shown in both orders, which are two votes.

Source: Jiang, Ren and Lin 2023, "LLM-Blender: Ensembling large language models with pairwise
ranking and generative fusion".
"""

from typing import Literal

import polars as pl

from prefdata import tables
from prefdata.annotate._rewards import above_zero, sound
from prefdata.annotate._showing import Orders, shown
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Prompts, Votes

OUT_OF_RANGE = 'error: the number is no probability; give number = "logit"'


def pair_ranker(
    prompts: Prompts,
    completions: Completions,
    *,
    model: Model,
    number: Literal["logit", "probability"] = "logit",
    temperature: float = 1.0,
    orders: Orders = "both",
    max_pairs: int | None = None,
    criterion: str = "rank",
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of `reward:<model>` for each pair and order, in between 0 and 1.

    The model is asked for a `reward` of the prompt's messages followed by the two candidates, the
    first shown first, as two more messages of the assistant and with the option `pair`. A failed
    request and a number that is none give an unscored vote with "error: ...".

    model: a sequence classifier with one number: by how much the first candidate is better.
    number: "logit": P(first preferred) = sigmoid(number / temperature); "probability": the number
        is it, as servers give it that apply the sigmoid themselves.
    temperature: what a logit is divided by.
    orders: "both"; "random", one order a vote, drawn from the seed and the ids; or "a_first", the
        smaller id first, which leaves the position bias in.
    max_pairs: at most so many pairs of each prompt, by a cyclic design; null: all.
    criterion: what the votes are said to be about.
    seed: what random orders and the choice of pairs come from.

    Raises `RecipeError` for a temperature that is not above 0 and for fewer than one pair.
    """
    above_zero("pair_ranker", temperature=temperature)
    rows = shown(
        prompts, completions,
        orders=orders, draws=1, max_pairs=max_pairs, seed=seed, stage="annotate.pair_ranker",
    )  # fmt: skip
    candidates = [_candidate(side) for side in ("said_first", "said_second")]
    messages = rows.select(messages=pl.concat_list("prompt", *candidates))["messages"]
    asked = requests(model, "reward", messages.cast(tables.MESSAGES), options={"pair": True})
    responses = yield asked
    said = responses.select("request_id", "number", "error")
    rows = rows.with_columns(asked["request_id"])
    rows = rows.join(said, on="request_id", how="left", maintain_order="left")
    value, unscored = sound(pl.col("number"), pl.col("error"))
    rows = rows.with_columns(value=value, unscored=unscored)
    first = pl.col("value")
    if number == "logit":
        first = 1 / (1 + (-first / temperature).exp())
    else:
        is_one = first.is_between(0, 1)
        outside = pl.when(first.is_not_null() & ~is_one).then(pl.lit(OUT_OF_RANGE))
        rows = rows.with_columns(unscored=pl.coalesce("unscored", outside))
        first = pl.when(is_one).then(first)
    votes = rows.with_columns(
        preference=pl.when("a_first").then(first).otherwise(1 - first),
        annotator=pl.lit(f"reward:{model.name}"),
        criterion=pl.lit(criterion),
        rationale=pl.lit(None, pl.String),
    )
    return Votes(votes.select(*tables.schema("votes").columns))


def _candidate(side: str) -> pl.Expr:
    """All that a candidate says, as one message."""
    content = pl.element().struct.field("content")
    text = pl.col(side).list.eval(content).list.join("\n\n")
    return pl.concat_list(pl.struct(role=pl.lit("assistant"), content=text))
