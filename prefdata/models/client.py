"""The contract of a client, and how one is opened for a spec."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import polars as pl

from prefdata import tables
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

BLANK: Mapping[str, Any] = {
    "text": None,
    "logprobs": None,
    "vector": None,
    "number": None,
    "tokens_in": 0,
    "tokens_out": 0,
    "finish_reason": None,
    "error": None,
}


class Client(Protocol):
    """What answers requests.

    `answer` yields batches of responses as they come, in any order, one row for each request;
    a request without an answer is a row with `error`. A batch counts as taken when the next one
    is asked for, and only then does the client send more in its place: that is what bounds how
    many requests a killed process has asked in vain. `ModelError` ends it all: nothing more is
    asked of a model that cannot be used. Several threads may call `answer` at once.
    """

    def answer(self, requests: Requests) -> Iterator[Responses]: ...

    def close(self) -> None: ...


def response(request_id: str, **values: Any) -> dict[str, Any]:
    """One row of a response: what is not given is blank."""
    return {"request_id": request_id, **BLANK, **values}


def responses(rows: Iterable[Mapping[str, Any]]) -> Responses:
    """Rows of responses as their table."""
    return Responses(pl.DataFrame(list(rows), schema=tables.schema("responses").dtypes))


def open_client(spec: ModelSpec) -> Client:
    """The client of a spec. Its engine or connections start with its first request."""
    match spec.client:
        case "openai":
            from prefdata.models.openai import OpenAIClient

            return OpenAIClient(spec)
        case "embedded":
            from prefdata.models.embedded import EmbeddedClient

            return EmbeddedClient(spec)
        case "vllm":
            from prefdata.models.vllm import VLLMClient

            return VLLMClient(spec)
        case "scripted":
            from prefdata.models.scripted import ScriptedClient

            return ScriptedClient(spec)
