"""What requests cost, and what they can cost at the most."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from prefdata.models.prices import FREE, boundless
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

# Marks that a chat template puts around a message, and a schema's copy in the prompt.
MESSAGE_MARKS = 16


def cost(sent: Requests, batch: Responses, specs: Mapping[str, ModelSpec]) -> float:
    """What a batch of responses to some of the requests sent cost.

    A server that does not say how many tokens an answer took is not free: each byte is then one.
    """
    roles = dict(zip(sent["request_id"], sent["model"], strict=True))
    prices = {role: specs[role].prices or FREE for role in set(roles.values())}
    columns = ("request_id", "tokens_in", "tokens_out", "tokens_cached")
    told = sum(
        prices[roles[each]].of(read or 0, written or 0, cached or 0)
        for each, read, written, cached in batch.select(columns).iter_rows()
    )
    said = pl.col("error").is_null() & (pl.col("tokens_in") + pl.col("tokens_out") == 0)
    untold = batch.filter(said).select("request_id", pl.col("text").str.len_bytes().fill_null(0))
    if untold.is_empty():
        return told
    most = {each: (read, written) for each, _, read, written in _most(sent)}
    for each, n in untold.iter_rows():
        read, written = most[each]
        told += prices[roles[each]].of(read, min(n, written))
    return told


def worst(part: Requests, specs: Mapping[str, ModelSpec]) -> dict[str, float]:
    """The most each request can cost: a token has at least a byte, and `max_tokens` are written.

    `BudgetError` where a reply that costs may be of any length.
    """
    prices = {role: specs[role].prices or FREE for role in part["model"].unique()}
    most: dict[str, float] = {}
    for each, role, read, written in _most(part):
        if not prices[role].written:
            written = 0.0
        elif written == math.inf:
            raise boundless(role)
        most[each] = prices[role].of(read, written)
    return most


def _most(part: Requests) -> Iterator[tuple[str, str, int, float]]:
    """Id and role of each request, and the most tokens that are read and written for it."""
    shown = part.select("request_id", "model", "want", "options", *_bytes(part))
    for request_id, role, want, options, read, turns in shown.iter_rows():
        most = most_written(want, json.loads(options))
        yield request_id, role, read + len(options) + MESSAGE_MARKS * (turns + 1), most


def most_written(want: str, options: Mapping[str, Any]) -> float:
    """The most tokens of a reply; infinite where nothing bounds it."""
    if want != "text":
        return float(want == "choice")
    bounds = [options.get(name) for name in ("max_tokens", "max_completion_tokens")]
    return float(max((bound for bound in bounds if bound), default=math.inf))


def _bytes(part: Requests) -> tuple[pl.Expr, pl.Expr]:
    """Bytes and turns of what is read: the messages, and a given completion."""
    content = pl.element().struct.field("content").str.len_bytes()
    both = ("messages", "completion")
    read = pl.sum_horizontal(pl.col(each).list.eval(content).list.sum() for each in both)
    turns = pl.sum_horizontal(pl.col(each).list.len() for each in both)
    return read.alias("bytes"), turns.alias("turns")
