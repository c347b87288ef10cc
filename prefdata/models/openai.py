"""Any endpoint of the chat-completions protocol, through the `openai` package.

All requests of a table are in flight at once, up to `concurrency`; a request keeps its place until
its response has been taken, that is written to the ledger. Responses come in any order. Time-outs,
lost connections, 408, 409, 429, 5xx and replies that break the protocol are tried again with
backoff, as `Retry-After` says where it is there, and then are the row's reason. 400 and 422 are the
row's reason at once. 401, 402, 403, 404, an empty account and an endpoint that answers nobody are a
`ModelError`: nothing more is asked.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import openai

from prefdata.errors import ModelError
from prefdata.models import chat
from prefdata.models.client import response, responses
from prefdata.models.lane import Lane, backoff, retry_after
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

CONNECT_SECONDS = 10.0
UNUSABLE = {
    401: "refused the key",
    402: "wants to be paid first",
    403: "does not allow this key to use it",
    404: "is not known there",
    501: "does not offer this",
}
# So many requests in a row without an answer are no longer the requests' fault.
FAILURES_IN_A_ROW = 20
REFUSED = "connection refused"
BATCH = 1024


class OpenAIClient:
    """Asks one model of one endpoint, from an event loop in a thread of its own."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._where = spec.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com"
        self._key = _key(spec)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()
        self._in_a_row = 0
        self._ever_answered = False

    def answer(self, requests: Requests) -> Iterator[Responses]:
        loop = self._started()
        call = _Call(requests)
        feeding = asyncio.run_coroutine_threadsafe(self._feed(call), loop)
        left = requests.height
        try:
            while left:
                rows, failure = call.arrived()
                if rows:
                    yield responses(rows)
                    loop.call_soon_threadsafe(self._settle, call, len(rows))
                    left -= len(rows)
                if failure:
                    raise failure
        finally:
            feeding.cancel()
            with suppress(RuntimeError):  # the client was closed meanwhile, and its loop with it
                loop.call_soon_threadsafe(self._settle, call, requests.height)

    def close(self) -> None:
        with self._starting:
            loop, self._loop = self._loop, None
        if loop:
            self._run(loop, self._shut(loop))
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=loop.run_forever, name=f"prefdata-{self._spec.model}", daemon=True
                )
                self._thread.start()
                self._run(loop, self._open())
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop, doing: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(doing, loop).result(CONNECT_SECONDS)

    async def _open(self) -> None:
        seconds = self._spec.timeout
        limits = openai.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._spec.base_url,
            max_retries=0,
            timeout=limits,
            http_client=_transport(limits),
        )
        self._lane = Lane(self._spec.concurrency)

    async def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up what is in flight, so that whoever waits for it in another thread is told."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.close()
        await loop.shutdown_default_executor()

    async def _feed(self, call: "_Call") -> None:
        """Send the requests as places become free; the first `ModelError` cancels the others."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for row in call.requests.iter_rows(named=True):
                    await self._lane.enter()
                    call.held += 1
                    tasks.create_task(self._one(row, call))
        except BaseExceptionGroup as group:
            call.done.put(group.exceptions[0])
        except asyncio.CancelledError:
            call.done.put(ModelError(f"the model {self._spec.model!r} was closed while asked"))
            raise

    async def _one(self, row: Mapping[str, Any], call: "_Call") -> None:
        answered = await self._respond(row)
        self._watch(answered["error"])
        call.done.put(answered)

    def _settle(self, call: "_Call", n: int) -> None:
        """Free the places of responses that were taken, or of requests that were given up."""
        freed = min(n, call.held)
        call.held -= freed
        self._lane.leave(freed)

    async def _respond(self, row: Mapping[str, Any]) -> dict[str, Any]:
        sent, path = chat.body(row, self._spec.model), chat.path(row["want"])
        failures, waited = 0, 0.0
        while True:
            await self._lane.open()
            try:
                async with asyncio.timeout(self._spec.timeout):
                    reply = await self._client.post(path, body=sent, cast_to=object)
                self._lane.answered()
                return chat.read(row, reply)
            except (openai.OpenAIError, chat.Malformed, TimeoutError, ValueError) as error:
                problem = self._problem(error)
            failures += 1
            patient = problem.limited and waited < self._spec.timeout
            if not problem.again or (failures > self._spec.retries and not patient):
                return response(row["request_id"], error=problem.reason)
            wait = backoff(failures) if problem.wait is None else problem.wait
            waited += wait
            if problem.limited:
                self._lane.slow_down(wait)
            else:
                await asyncio.sleep(wait)

    def _problem(self, error: Exception) -> "_Problem":
        """What went wrong and whether to ask again; `ModelError` where asking is no use."""
        match error:
            case openai.APIStatusError(status_code=429):
                if "insufficient_quota" in str(error.body):
                    raise self._unusable("has no money left for this key", error) from None
                wait = retry_after(error.response.headers)
                return _Problem("rate limited (429)", wait=wait, limited=True)
            case openai.APIStatusError(status_code=code) if code in UNUSABLE:
                raise self._unusable(UNUSABLE[code], error) from None
            case openai.APIStatusError(status_code=code) if code in (408, 409) or code >= 500:
                return _Problem(f"server error {code}", wait=retry_after(error.response.headers))
            case openai.APIStatusError(status_code=code):
                return _Problem(f"bad request ({code}): {self._said(error)}", again=False)
            case TimeoutError() | openai.APIConnectionError():
                return _Problem(_cut(error))
            case chat.Malformed():
                return _Problem(str(error))
            case _:
                return _Problem("malformed reply")

    def _watch(self, error: str | None) -> None:
        """Stop where nobody is answered: a dead endpoint must not cost an hour of time-outs."""
        if error is None:
            self._in_a_row, self._ever_answered = 0, True
            return
        self._in_a_row += 1
        unreachable = error == REFUSED and not self._ever_answered
        if unreachable or self._in_a_row >= max(FAILURES_IN_A_ROW, self._spec.concurrency):
            raise ModelError(
                f"the model {self._spec.model!r} at {self._where} does not answer: "
                f"{self._in_a_row} requests in a row failed, the last with {error!r}. What was "
                "answered is kept; check that the server runs and build again"
            )

    def _unusable(self, why: str, error: openai.APIStatusError) -> ModelError:
        source = self._spec.api_key_env or "OPENAI_API_KEY"
        return ModelError(
            f"the model {self._spec.model!r} at {self._where} {why} ({error.status_code}: "
            f"{self._said(error)}); the key was read from {source}, which is "
            f"{'set' if self._key else 'not set'}"
        )

    def _said(self, error: openai.APIStatusError) -> str:
        """The server's message, without the key that some servers quote."""
        body: Any = error.body
        said = body.get("message") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        text = " ".join(str(said or error.message).split())[:300]  # pyright: ignore[reportUnknownArgumentType]
        return text.replace(self._key, "***") if self._key else text


def _cut(error: BaseException) -> str:
    """Why no reply came. The transports name their errors differently; the first cause decides."""
    first = error
    while first.__cause__ and not isinstance(first.__cause__, asyncio.CancelledError):
        first = first.__cause__
    names = {kind.__name__ for kind in type(first).__mro__}
    if names & {"ConnectError", "ClientConnectorError", "ConnectionRefusedError", "gaierror"}:
        return REFUSED
    if isinstance(first, TimeoutError) or "Timeout" in type(first).__name__:
        return "timeout"
    return "connection lost"


@dataclass
class _Problem:
    reason: str
    again: bool = True
    wait: float | None = None
    limited: bool = False


class _Call:
    """One table on its way: what arrived, and how many places its requests hold."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.done: SimpleQueue[dict[str, Any] | BaseException] = SimpleQueue()
        self.held = 0

    def arrived(self) -> tuple[list[dict[str, Any]], BaseException | None]:
        """All responses that are there, at least one, and the failure that ended the call."""
        rows: list[dict[str, Any]] = []
        item = self.done.get()
        while True:
            if isinstance(item, BaseException):
                return rows, item
            rows.append(item)
            if len(rows) >= BATCH:
                return rows, None
            try:
                item = self.done.get_nowait()
            except Empty:
                return rows, None


def _transport(limits: openai.Timeout) -> Any:
    """The aiohttp transport, which sends twice as many requests a second, where there is one."""
    try:
        return openai.DefaultAioHttpClient(timeout=limits)
    except RuntimeError:
        return None


def _key(spec: ModelSpec) -> str:
    """The key from the environment; empty where none is needed."""
    if spec.api_key_env:
        key = os.environ.get(spec.api_key_env, "")
        if not key:
            raise ModelError(
                f"the model {spec.model!r} takes its key from the environment variable "
                f"{spec.api_key_env}, which is not set; set it, and never write the key in a recipe"
            )
        return key
    key = os.environ.get("OPENAI_API_KEY", "")
    if not key and not spec.base_url and not os.environ.get("OPENAI_BASE_URL"):
        raise ModelError(
            f"the model {spec.model!r} needs a key: set OPENAI_API_KEY, name another variable with "
            "api_key_env, or name the server with base_url or OPENAI_BASE_URL"
        )
    return key
