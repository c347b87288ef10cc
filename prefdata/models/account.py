"""What an edge has done and spent, and what it may still spend."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import polars as pl

from prefdata.models.prices import FREE
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

WATCH_EVERY = 0.1
# Why a request was not sent.
BUDGET_REACHED = "budget reached"
REQUESTS_REACHED = "request limit reached"
LIMITS = (BUDGET_REACHED, REQUESTS_REACHED)
# What a request without `max_tokens` is taken to write at most, when money is reserved for it.
UNBOUNDED = 8192
# Marks that a chat template puts around a message, and a schema's copy in the prompt.
MESSAGE_MARKS = 16


@dataclass
class Counts:
    """What an edge has done.

    Of the requests asked, `failed` are those that ended in an error. `unsent` were not asked,
    because a limit was reached or the build was stopped.
    """

    asked: int = 0
    cached: int = 0
    failed: int = 0
    unsent: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    @property
    def requests(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("asked", "cached", "failed", "unsent")}

    def add(self, other: "Counts") -> None:
        for each in fields(Counts):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass
class Progress(Counts):
    """How far one call of an edge is: `done` of `total` requests, those cached included."""

    call: int = 0
    done: int = 0
    total: int = 0


Watch = Callable[[Progress], None]


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
    """The most each request can cost: a token has at least a byte, and `max_tokens` are written."""
    prices = {role: specs[role].prices or FREE for role in part["model"].unique()}
    return {each: prices[role].of(read, written) for each, role, read, written in _most(part)}


def _most(part: Requests) -> Iterator[tuple[str, str, int, int]]:
    """Id and role of each request, and the most tokens that are read and written for it."""
    shown = part.select("request_id", "model", "options", *_bytes(part))
    for request_id, role, options, read, turns in shown.iter_rows():
        asked = json.loads(options)
        bounds = [asked.get("max_tokens"), asked.get("max_completion_tokens")]
        written = max((bound for bound in bounds if bound), default=UNBOUNDED)
        yield request_id, role, read + len(options) + MESSAGE_MARKS * (turns + 1), written


def _bytes(part: Requests) -> tuple[pl.Expr, pl.Expr]:
    """Bytes and turns of what is read: the messages, and a given completion."""
    content = pl.element().struct.field("content").str.len_bytes()
    both = ("messages", "completion")
    read = pl.sum_horizontal(pl.col(each).list.eval(content).list.sum() for each in both)
    turns = pl.sum_horizontal(pl.col(each).list.len() for each in both)
    return read.alias("bytes"), turns.alias("turns")


@dataclass
class Purse:
    """What may still be spent, of money and of requests; without a bound of either, all.

    Money is reserved at the worst price before a request is sent, and a request counts as sent
    once it is reserved. `too_dear` is the worst price of a request that was not.
    """

    budget: float = math.inf
    requests: float = math.inf
    spent: float = 0.0
    reserved: float = 0.0
    too_dear: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def reserve(self, worst: Sequence[float]) -> int:
        """How many of these requests, in order, may be sent now; 0 once a limit is reached.

        Waits while money is held for requests of others that may cost less than was reserved.
        """
        with self.changed:
            while True:
                free, n = self.budget - self.spent - self.reserved, 0
                most = min(len(worst), self.requests)
                while n < most and worst[n] <= free + 1e-12:
                    free -= worst[n]
                    n += 1
                if not n and most and self.reserved <= 1e-12:
                    self.too_dear = worst[0]
                if n or not most or self.reserved <= 1e-12:
                    self.reserved += sum(worst[:n])
                    self.requests -= n
                    return n
                self.changed.wait()

    @property
    def advice(self) -> str:
        """How to use a budget better of which much is left."""
        left = self.budget - self.spent
        if not self.too_dear or left < self.budget / 10:
            return ""
        return (
            f"{left:.4f} USD of the budget are left, but the next request could have cost "
            f"{self.too_dear:.4f} at its worst; a smaller max_tokens of its model allows more"
        )

    @property
    def limit(self) -> str:
        """Which limit it is that was reached."""
        return BUDGET_REACHED if self.requests else REQUESTS_REACHED

    def settle(self, reserved: float, spent: float) -> None:
        """What was reserved is free again but for what was spent."""
        with self.changed:
            self.reserved = max(0.0, self.reserved - reserved)
            self.spent += spent
            self.changed.notify_all()


class Account:
    """Counts what all calls of an edge have in common, and shows the progress of each."""

    def __init__(self, watch: Watch | None) -> None:
        self.counts = Counts()
        self._watch = watch
        self._lock = threading.Lock()
        self._shown = 0.0

    def add(self, progress: Progress, counts: Counts, done: int) -> None:
        with self._lock:
            self.counts.add(counts)
            progress.add(counts)
            progress.done += done
        if time.monotonic() - self._shown >= WATCH_EVERY:
            self.show(progress)

    def show(self, progress: Progress) -> None:
        if self._watch:
            self._shown = time.monotonic()
            self._watch(Progress(**vars(progress)))
