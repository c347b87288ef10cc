"""The contract of a client."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import polars as pl

from prefdata import tables
from prefdata.tables import Requests, Responses

BLANK: Mapping[str, Any] = {
    "text": None,
    "logprobs": None,
    "token_ids": None,
    "top": None,
    "rest": None,
    "vector": None,
    "number": None,
    "tokens_in": 0,
    "tokens_cached": None,
    "tokens_out": 0,
    "finish_reason": None,
    "error": None,
}
NOT_FINITE = "the model's numbers are not finite"


class Client(Protocol):
    """What answers requests.

    `answer` yields batches of responses as they come, in any order, one row for each request;
    a request without an answer is a row with `error`. What another build has brought into the
    ledger meanwhile may be left out. A batch counts as taken when the next one is asked for, and
    only then does the client send more in its place: that is what bounds how many requests a killed
    process has asked in vain. `ModelError` ends it all: nothing more is asked of a model that
    cannot be used. Several threads may call `answer` at once. An empty batch is a sign of life, so
    that who waits for long may give up.
    """

    def answer(self, requests: Requests) -> Iterator[Responses]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Health:
    """How an endpoint is. `state` is "well", or why nothing is sent there now.

    A batch under way is shown as one too: its address, its state as the provider calls it, and of
    its `bound` requests those answered, failed and not yet done.
    """

    url: str
    state: str
    answered: int
    refused: int
    failed: int
    in_flight: int
    bound: float


@runtime_checkable
class Watched(Protocol):
    """A client whose endpoints can be looked at."""

    def health(self) -> tuple[Health, ...]: ...


@dataclass(frozen=True)
class Waiting:
    """A request that is on its way, by `time.monotonic`; `until` is when this attempt times out."""

    request_id: str
    url: str
    since: float
    until: float


@runtime_checkable
class Sending(Protocol):
    """A client that sends requests one by one: it knows which are on their way, and can stop."""

    def waiting(self) -> tuple[Waiting, ...]: ...

    def drain(self) -> None:
        """Send nothing more. `answer` yields what is on its way and then raises `ModelError`."""
        ...


def response(request_id: str, **values: Any) -> dict[str, Any]:
    """One row of a response: what is not given is blank."""
    return {"request_id": request_id, **BLANK, **values}


def responses(rows: Iterable[Mapping[str, Any]]) -> Responses:
    """Rows of responses as their table. What is no finite number is no answer but an error."""
    frame = pl.DataFrame(list(rows), schema=tables.schema("responses").dtypes)
    is_sound = frame.select(
        pl.col("number").is_finite().fill_null(True)
        & pl.col("vector").list.eval(pl.element().is_finite()).list.all().fill_null(True)
    ).to_series()
    if is_sound.all():
        return Responses(frame)
    answer = [name for name in BLANK if BLANK[name] is None and name != "error"]
    return Responses(
        frame.with_columns(
            *(pl.when(is_sound).then(pl.col(name)).alias(name) for name in answer),
            error=pl.when(is_sound).then("error").otherwise(pl.lit(NOT_FINITE)),
        )
    )
