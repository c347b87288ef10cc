"""Prompts that hold a context, with the completions of the prompt without it, and who judges them.

A context is a row with `TOLD`: which of two completions it prefers, and what is wrong with it.
"""

from typing import Literal

import polars as pl

from prefdata import tables
from prefdata.annotate.pairwise import votes_on
from prefdata.judge import Judge
from prefdata.judge.transcript import harmless
from prefdata.stage import Asks, Model
from prefdata.tables import SIDES, Completions, Messages, Prompts, Votes

Kind = Literal["criterion", "scenario", "profile"]
Place = Literal["system", "before", "after"]

TOLD = {
    **dict.fromkeys(("prompt_id", *SIDES, "kind"), pl.String),
    "prefers_a": pl.Boolean,
    **dict.fromkeys(("text", "fault", "request_id"), pl.String),
}
_SAID = {
    "criterion": "For this prompt one reply is better than another by this measure alone:",
    **dict.fromkeys(("scenario", "profile"), "About the one who asks:"),
}


def in_context(
    told: pl.DataFrame, seeds: Prompts, completions: Completions, place: Place
) -> pl.DataFrame:
    """A row a context, with its prompt and completions: `context_id`, `new_a` < `new_b`, ..."""
    rows = told.join(seeds, on="prompt_id", maintain_order="left").drop("reference")
    for side in ("a", "b"):
        texts = completions.select(
            pl.col("completion_id").alias(f"completion_{side}"),
            pl.col("completion").alias(f"said_{side}"),
        )
        rows = rows.join(texts, on=f"completion_{side}", maintain_order="left")
    said = rows.select("prompt", "kind", "text").rows()
    turns = [_placed(prompt, kind, text, place) for prompt, kind, text in said]
    rows = rows.with_columns(tables.conversations("context", turns))
    rows = rows.with_columns(tables.prompt_ids(rows["context"]).alias("context_id"))
    for side in ("a", "b"):
        ids = tables.completion_ids(rows["context_id"], rows[f"said_{side}"])
        rows = rows.with_columns(ids.alias(f"id_{side}"))
    kept = pl.col("id_a") < pl.col("id_b")
    turned = {
        "new_a": ("id_a", "id_b"),
        "new_b": ("id_b", "id_a"),
        "text_a": ("said_a", "said_b"),
        "text_b": ("said_b", "said_a"),
    }
    return rows.with_columns(
        pl.when(kept).then(one).otherwise(other).alias(name)
        for name, (one, other) in turned.items()
    ).with_columns(preference=(pl.col("prefers_a") == kept).cast(pl.Float64))


def _placed(prompt: Messages, kind: Kind, text: str, place: Place) -> list[dict[str, str]]:
    context = f"{_SAID[kind]} {harmless(text)}"
    turns = [dict(turn) for turn in prompt]
    if place == "system":
        return [{"role": "system", "content": context}, *turns]
    parts = [context, turns[-1]["content"]]
    turns[-1]["content"] = "\n\n".join(parts if place == "before" else reversed(parts))
    return turns


def judged(made: pl.DataFrame, judge: Judge, model: Model, reask: bool) -> Asks[Votes]:
    if made.is_empty():
        return Votes(tables.empty("votes"))
    orders = pl.DataFrame({"a_first": [True, False]})
    a, b = pl.col("text_a"), pl.col("text_b")
    rows = made.join(orders, how="cross").select(
        pl.col("context_id").alias("prompt_id"),
        pl.col("new_a").alias("completion_a"),
        pl.col("new_b").alias("completion_b"),
        pl.lit(0, pl.Int64).alias("draw"),
        "a_first",
        pl.col("context").alias("prompt"),
        pl.when("a_first").then(a).otherwise(b).alias("said_first"),
        pl.when("a_first").then(b).otherwise(a).alias("said_second"),
    )
    return (yield from votes_on(rows, judge=judge, model=model, reask=reask))
