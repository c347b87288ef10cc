"""What is known of completions, put beside the pairs that they are in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import polars as pl

from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Pairs, Prompts, Requests

SIDES = ("chosen", "rejected")
# Vectors of so many pairs are held at once; what was answered waits in the ledger.
PAIRS_AT_ONCE = 2048


def parts(pairs: Pairs) -> Iterator[Pairs]:
    """The pairs in an order of their own, `PAIRS_AT_ONCE` of them at a time, prompts together."""
    ordered = pairs.sort("prompt_id", "pair_id", nulls_last=True)
    return (Pairs(part) for part in ordered.iter_slices(PAIRS_AT_ONCE))


def ask_about(
    prompts: Prompts,
    completions: Completions,
    model: Model,
    wants: Sequence[tuple[str, Mapping[str, Any]]],
) -> Asks[list[pl.DataFrame]]:
    """Ask the same of every completion, each once, all wants in one table.

    A frame for each want, with the columns `completion_id` and those of `responses`, by id.
    """
    shown = completions.join(prompts.select("prompt_id", "prompt"), on="prompt_id")
    shown = shown.sort("completion_id")
    asked = [
        requests(model, want, shown["prompt"], completion=shown["completion"], options=options)
        for want, options in wants
    ]
    responses = yield Requests(pl.concat(asked))
    return [
        shown.select("completion_id")
        .with_columns(each["request_id"])
        .join(responses, on="request_id", how="left", maintain_order="left")
        for each in asked
    ]


def beside(
    pairs: pl.DataFrame, known: pl.DataFrame, how: Literal["inner", "left"] = "inner"
) -> pl.DataFrame:
    """The pairs in their order with what is known, by `completion_id`, of either side.

    The columns of `known` with `_chosen` and `_rejected`; a pair of which a side is not known is
    left out, or has nulls (`how` "left").
    """
    for side in SIDES:
        named = known.rename(lambda name, side=side: f"{name}_{side}")
        named = named.rename({f"completion_id_{side}": f"{side}_id"})
        pairs = pairs.join(named, on=f"{side}_id", how=how, maintain_order="left")
    return pairs


def completions_in(pairs: Pairs, completions: Completions) -> Completions:
    """The completions that are a side of some pair."""
    ids = pl.concat([pairs[f"{side}_id"] for side in SIDES]).unique()
    return Completions(completions.filter(pl.col("completion_id").is_in(ids.implode())))
