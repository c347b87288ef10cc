"""Any endpoint of the chat-completions protocol, and several for one model.

The `openai` package's conventions (variables, base URLs, bodies, errors) over aiohttp, which sends
ten times as many requests a second of computing. All requests of a table are in flight at once, up
to `concurrency` for each endpoint; a request keeps its place until its response has been taken,
that is written to the ledger. Responses come in any order.

Time-outs, lost connections, 408, 409, 429, 5xx and replies that break the protocol are tried again,
at another endpoint at once where there is one, else with backoff, or as `Retry-After` says; then
they are the row's reason. 400 and 422 are the row's reason at once. 401, 402, 403, 404 and an empty
account rule the endpoint out; where no endpoint is left, or none answers anybody, it is a
`ModelError`: nothing more is asked.

A `reward` is asked of a server of classifiers as vLLM serves them, without their activation:
`/classify` with the conversation and its completion or, where none is given, `/score` with two
texts, the last message and all before it. vLLM has `/classify` beside, not below, `/v1`: such a
model's base_url is "http://host:8000".
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from prefdata.errors import ModelError, counted
from prefdata.models import chat
from prefdata.models.background import Background
from prefdata.models.chat import UNREACHED, Trouble
from prefdata.models.client import Health, Waiting, response, responses
from prefdata.models.endpoint import Endpoint
from prefdata.models.lane import pause
from prefdata.models.pool import NobodyLeft, Pool
from prefdata.models.spec import ModelSpec
from prefdata.models.tokens import BYTES_A_TOKEN, GUESSED_TOKENS
from prefdata.tables import Requests, Responses

# So many requests in a row without an answer are no longer the requests' fault.
FAILURES_IN_A_ROW = 20
BATCH = 1024
# Responses that come so many seconds after another are taken with it: a batch has its own cost.
# Nothing is waited for once all that are on their way have come.
LINGER, LOOK = 0.01, 0.001

Row = Mapping[str, Any]


class OpenAIClient:
    """Asks one model at its endpoints, from an event loop in a thread of its own."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._pool = Pool(spec)
        self._most = spec.concurrency * len(self._pool.endpoints)
        self._max_n = spec.max_n
        self._mean_out = float(GUESSED_TOKENS)
        self._background = Background(f"prefdata-{spec.model}", self._open, self._pool.stop)
        self._in_a_row = 0
        self._ever_answered = False
        self._waiting: dict[str, Waiting] = {}
        self._draining = False
        self._drained = asyncio.Event()
        self._places = _Places(self._most)

    def health(self) -> tuple[Health, ...]:
        """How each endpoint is, for whoever watches."""
        return self._pool.health()

    def waiting(self) -> tuple[Waiting, ...]:
        return tuple(self._waiting.copy().values())

    def drain(self) -> None:
        self._draining = True
        self._background.soon(lambda: self._places.open(), lambda: self._drained.set())

    def answer(self, requests: Requests) -> Iterator[Responses]:
        loop = self._background.loop()
        call = _Call(requests)
        feeding = asyncio.run_coroutine_threadsafe(self._feed(call), loop)
        left = requests.height
        try:
            while left:
                rows, failure = call.arrived(left)
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
        self._background.close()

    async def _open(self) -> None:
        await self._pool.start()
        self._places = _Places(self._most)
        self._drained = asyncio.Event()

    async def _feed(self, call: "_Call") -> None:
        """Send the requests as places become free; the first `ModelError` cancels the others."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for rows in chat.together(call.requests.iter_rows(named=True), self._max_n):
                    await self._places.enter(len(rows))
                    if self._draining:
                        break
                    call.held += len(rows)
                    tasks.create_task(self._deliver(rows, call))
            if self._draining:
                call.done.put(ModelError(f"the model {self._spec.model!r} was stopped"))
        except BaseExceptionGroup as group:
            call.done.put(group.exceptions[0])
        except asyncio.CancelledError:
            call.done.put(ModelError(f"the model {self._spec.model!r} was closed while asked"))
            raise

    async def _deliver(self, rows: Sequence[Row], call: "_Call") -> None:
        """Answer draws of one conversation; those that did not come together come singly."""
        for answered in await self._respond(rows):
            self._watch(answered["error"])
            call.done.put(answered)
            rows = [row for row in rows if row["request_id"] != answered["request_id"]]
        if rows and not self._draining:
            self._max_n = 1  # this endpoint does not know `n`
            await asyncio.gather(*(self._deliver([row], call) for row in rows))

    def _settle(self, call: "_Call", n: int) -> None:
        """Free the places of responses that were taken, or of requests that were given up."""
        freed = min(n, call.held)
        call.held -= freed
        self._places.leave(freed)

    async def _respond(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        path = chat.path(rows[0])
        sent = json.dumps(chat.body(rows[0], self._spec.model, len(rows))).encode()
        failures, moved, waited = 0, 0, 0.0
        while not self._draining:
            try:
                return await self._try(path, sent, rows)
            except _Failed as failed:
                trouble, endpoint = failed.trouble, failed.endpoint
            if (
                trouble.again
                and moved < len(self._pool.endpoints)
                and self._pool.has_other(endpoint)
            ):
                moved += 1
                continue
            failures += 1
            patient = trouble.limited and waited < self._spec.timeout
            if not trouble.again or (failures > self._spec.retries and not patient):
                return [response(row["request_id"], error=trouble.reason) for row in rows]
            passing = not trouble.overload and not trouble.unreached
            wait = pause(failures, trouble.wait, passing=passing)
            waited += wait
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), wait)
        return []

    async def _try(self, path: str, sent: bytes, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """One attempt at the endpoint that is soonest ready; nothing if all is to stop."""
        try:
            place = await self._pool.enter()
        except NobodyLeft as nobody:
            raise self._useless(str(nobody)) from None
        endpoint = place[0]
        try:
            expected = self._expected(sent, rows)
            await endpoint.lane.open(expected)
            if self._draining:
                self._pool.give_up(place)
                return []
            now, request_id = time.monotonic(), rows[0]["request_id"]
            until = now + self._spec.timeout
            self._waiting[request_id] = Waiting(request_id, endpoint.url, now, until)
            said = chat.read(rows, await endpoint.post(path, sent))
        except Trouble as trouble:
            self._pool.leave(place, trouble)
            if trouble.unusable and not self._pool.usable():
                raise self._useless(self._pool.complaint()) from None
            raise _Failed(trouble, endpoint) from None
        except BaseException:
            self._pool.give_up(place)
            raise
        finally:
            self._waiting.pop(rows[0]["request_id"], None)
        self._pool.leave(place, None)
        self._learn(endpoint, said, expected)
        return said

    def _expected(self, sent: bytes, rows: Sequence[Row]) -> float:
        """About how many tokens a request takes, where that is bounded."""
        return len(sent) / BYTES_A_TOKEN + len(rows) * self._mean_out if self._spec.tpm else 0.0

    def _learn(self, endpoint: Endpoint, said: Sequence[Row], expected: float) -> None:
        if self._spec.tpm:
            written = sum(row["tokens_out"] for row in said)
            self._mean_out += (written / len(said) - self._mean_out) / 16
            endpoint.lane.settle(sum(row["tokens_in"] for row in said) + written - expected)

    def _watch(self, error: str | None) -> None:
        """Stop where nobody is answered: a dead endpoint must not cost an hour of time-outs."""
        if error is None:
            self._in_a_row, self._ever_answered = 0, True
            return
        self._in_a_row += 1
        unreachable = error.startswith(UNREACHED) and not self._ever_answered
        if unreachable or self._in_a_row >= max(FAILURES_IN_A_ROW, self._most):
            where = ", ".join(each.url for each in self._pool.endpoints)
            several = self._in_a_row > 1
            failed = f"{counted(self._in_a_row, 'request')}{' in a row' * several} failed"
            raise ModelError(
                f"the model {self._spec.model!r} at {where} does not answer: "
                f"{failed}, {'the last ' * several}with {error!r}. What was answered is kept; "
                "check that the server runs and build again"
            )

    def _useless(self, complaint: str) -> ModelError:
        return ModelError(f"the model {self._spec.model!r} {complaint}")


class _Failed(Exception):
    def __init__(self, trouble: Trouble, endpoint: Endpoint) -> None:
        super().__init__(trouble.reason)
        self.trouble, self.endpoint = trouble, endpoint


class _Places:
    """Bounds how many requests were sent, or wait to be, whose responses were not yet taken."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._freed = asyncio.Event()
        self._is_open = False

    async def enter(self, n: int) -> None:
        while self._used and self._used + n > self._most and not self._is_open:
            self._freed.clear()
            await self._freed.wait()
        self._used += n

    def leave(self, n: int) -> None:
        self._used -= n
        self._freed.set()

    def open(self) -> None:
        """Let in whoever waits: nothing more is sent."""
        self._is_open = True
        self._freed.set()


class _Call:
    """One table on its way: what arrived, and how many places its requests hold."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.done: SimpleQueue[dict[str, Any] | BaseException] = SimpleQueue()
        self.held = 0

    def arrived(self, left: int) -> tuple[list[dict[str, Any]], BaseException | None]:
        """Those of the `left` that are there, at least one, and the failure that ended the call."""
        rows: list[dict[str, Any]] = []
        item = self.done.get()
        until = time.monotonic() + LINGER
        while self.done.qsize() + 1 < min(left, self.held) and time.monotonic() < until:
            time.sleep(LOOK)
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
