"""A model behind a batch API: a table of requests is handed over as files, and fetched hours later.

`openai`'s Files and Batches protocol. The requests of a table are cut into files, each is uploaded
and becomes a batch, which is looked at with growing pauses; its results and its errors are read
line by line, found by `custom_id`, which is the request's id, and given on in portions. What came
of a batch is kept whatever became of the rest: requests that expired, failed for a while or were
forgotten by the provider are asked again in another batch, at most `retries` times, and then have
their reason; those of a batch that somebody cancelled are not asked again by this build.

Every batch stands in the `Journal` before the provider hears of it. Killed at any moment, a build
finds its batches again, by their ids or in the provider's list by the key in their metadata, and
reads what is done; what was answered to requests that nobody wants any more goes to the ledger all
the same. Ctrl-C leaves batches running.
"""

import asyncio
import itertools
import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, cast

import polars as pl

from prefdata import tables
from prefdata.errors import ModelError, counted
from prefdata.models import batch_lines as lines
from prefdata.models import chat
from prefdata.models.background import Background
from prefdata.models.chat import Trouble
from prefdata.models.client import Health, response, responses
from prefdata.models.journal import Entry, Journal
from prefdata.models.ledger import Ledger
from prefdata.models.provider import Provider
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

# Seconds until there is perhaps room again in the provider's queue.
FIRST_QUEUE, LONGEST_QUEUE = 5.0, 600.0
HEARTBEAT = 1.0
PORTION = 1024

Row = Mapping[str, Any]
_log = logging.getLogger(__name__)


class BatchClient:
    """Asks one model by batches, from an event loop in a thread of its own."""

    def __init__(self, spec: ModelSpec, ledger: Ledger) -> None:
        self._spec = spec
        self._ledger = ledger
        self._journal = Journal(ledger.folder)
        self._providers = [
            Provider(spec, url, key_env, self._journal.folder) for url, key_env in spec.endpoints()
        ]
        self._turn = itertools.count()
        self._under_way: dict[str, Health] = {}
        self._background = Background(f"prefdata-{spec.model}", self._open, self._shut)

    def health(self) -> tuple[Health, ...]:
        """How the batches are that are under way."""
        return tuple(self._under_way.values())

    def answer(self, requests: Requests) -> Iterator[Responses]:
        loop = self._background.loop()
        call = _Call(requests)
        serving = asyncio.run_coroutine_threadsafe(self._serve(call), loop)
        left = requests.height
        try:
            while left:
                try:
                    said = call.done.get(timeout=HEARTBEAT)
                except Empty:
                    yield Responses(tables.empty("responses"))
                    continue
                if isinstance(said, BaseException):
                    raise said
                rows, taken = said
                yield responses(rows)
                loop.call_soon_threadsafe(_release, taken)
                left -= len(rows)
            serving.result()  # its batches are struck off the journal
        finally:
            going_on = self.health() if left else ()
            serving.cancel()
            for each in going_on:
                _log.warning(
                    "%s goes on (%s, %d of %d done); the same build again takes its answers",
                    *(each.url, each.state, each.answered, each.bound),
                )

    def close(self) -> None:
        self._background.close()

    async def _open(self) -> None:
        for each in self._providers:
            await each.endpoint.start()

    async def _shut(self) -> None:
        for each in self._providers:
            await each.endpoint.stop()

    async def _serve(self, call: "_Call") -> None:
        """See every request through; what ends it all is told to whoever waits."""
        try:
            await self._route(call.requests.to_dicts(), call)
        except BaseExceptionGroup as group:
            call.done.put(_first(group))
        except asyncio.CancelledError:
            call.done.put(ModelError(f"the model {self._spec.model!r} was closed while asked"))
            raise

    async def _route(self, rows: Sequence[Row], call: "_Call") -> None:
        """Each request to the batch that is under way with it, or to a new one."""
        new = {row["request_id"]: row for row in rows}
        async with asyncio.TaskGroup() as tasks:
            for entry in self._journal.entries() if rows else ():
                if wanted := {each: new.pop(each) for each in entry.ids if each in new}:
                    tasks.create_task(self._take_up(entry, wanted, call))
                else:
                    self._clear(entry)
            for part in lines.cut(new.values(), self._spec.model, self._spec.batch_size):
                tasks.create_task(self._see_through(part, call))

    async def _take_up(self, entry: Entry, rows: Mapping[str, Row], call: "_Call") -> None:
        """Go on with what another build, or another call, has begun."""
        provider = next((each for each in self._providers if each.url == entry.url), None)
        if provider is None:
            _log.warning(
                "a batch of %s is at %s, where the recipe asks no longer: asked again",
                *(counted(len(rows), "request"), entry.url),
            )
            await self._see_through([*rows.values()], call)
        elif await self._lock(entry):
            try:
                left = await self._adopt(provider, entry, rows, call)
            finally:
                entry.release()
            await self._see_through([rows[each] for each in left], call, entry.round + 1)
        else:
            await self._after_another(rows, call)

    @staticmethod
    async def _lock(entry: Entry) -> bool:
        """Take a batch over as soon as nobody else looks after it; False once it is gone."""
        while not entry.lock() or entry.may_be_handed_over_elsewhere:
            entry.release()
            if not entry.path.exists():
                return False
            await asyncio.sleep(HEARTBEAT)
        return True

    async def _adopt(
        self, provider: Provider, entry: Entry, rows: Mapping[str, Row], call: "_Call"
    ) -> Collection[str]:
        """Fetch what a batch brings; all of the requests where it was never handed over."""
        with self._remembered(provider, entry):
            if not entry.batch and (known := await provider.known(entry)):
                entry.note(batch=known)
        if entry.batch:
            return await self._collect(provider, entry, rows, call)
        entry.drop()
        entry.round -= 1  # it was never handed over, and so this was no round
        return rows.keys()

    @contextmanager
    def _remembered(self, provider: Provider, entry: Entry) -> Generator[None]:
        try:
            yield
        except Trouble as trouble:
            raise ModelError(
                f"the model {self._spec.model!r} {_complaint(provider, trouble)}; the batch "
                f"{entry.batch or entry.key} is remembered: build again to take its answers"
            ) from None

    async def _after_another(self, rows: Mapping[str, Row], call: "_Call") -> None:
        """Another call has seen to these: what it was answered is in the ledger."""
        found = self._ledger.find(rows).to_dicts()
        await self._deliver(found, call)
        answered = {row["request_id"] for row in found}
        await self._route([row for each, row in rows.items() if each not in answered], call)

    def _clear(self, entry: Entry) -> None:
        """Strike off a batch of other requests whose answers are all there."""
        if self._ledger.find(entry.ids).height == len(entry.ids) and entry.lock():
            entry.drop()

    async def _see_through(self, rows: Sequence[Row], call: "_Call", at_round: int = 0) -> None:
        """Batch after batch, until each request is answered or has its reason."""
        parts, pause = [rows] if rows else [], FIRST_QUEUE
        while parts:
            asked = {row["request_id"]: row for row in parts.pop(0)}
            provider, entry = await self._hand_over([*asked.values()], at_round)
            try:
                left = await self._collect(provider, entry, asked, call)
            finally:
                entry.release()
            again = [asked[each] for each in left]
            if not any(trouble.reason.startswith(lines.QUEUE_FULL) for trouble in left.values()):
                await self._see_through(again, call, at_round + 1)
            elif self._under_way or len(again) == 1:
                await asyncio.sleep(pause)
                at_round += not self._under_way
                pause = min(2 * pause, LONGEST_QUEUE)
                parts.insert(0, again)
            else:  # nothing of ours is in the way: it is too much at once
                half = len(again) // 2
                parts[:0] = [again[:half], again[half:]]

    async def _hand_over(self, rows: Sequence[Row], at_round: int) -> tuple[Provider, Entry]:
        """Have a batch made of requests, at one endpoint after another until one takes it."""
        complaints: list[str] = []
        table = Requests(pl.DataFrame(rows, schema=tables.schema("requests").dtypes))
        turn, n = next(self._turn), len(self._providers)
        for provider in (self._providers[(turn + at) % n] for at in range(n)):
            entry = self._journal.begin(provider.url, lines.where(rows[0]), table, at_round)
            try:
                await provider.create(entry)
            except Trouble as trouble:
                complaints.append(_complaint(provider, trouble))
            else:
                return provider, entry
            finally:
                if not entry.batch:
                    entry.release()
        raise ModelError(
            f"the model {self._spec.model!r} {'; '.join(complaints)}. Nothing is lost: mend it and "
            "build again"
        )

    async def _collect(
        self, provider: Provider, entry: Entry, rows: Mapping[str, Row], call: "_Call"
    ) -> dict[str, Trouble]:
        """Wait for a batch, give on what came of it, and strike it off; what to ask again, and why.

        Requests that are not to be asked again are answered with their reasons.
        """
        try:
            with self._remembered(provider, entry):
                batch = await provider.finished(entry, lambda b: self._show(provider, entry, b))
                left = await self._read(provider, entry, batch, rows, call)
        finally:
            self._under_way.pop(entry.key, None)
        is_last = entry.round >= self._spec.retries
        divisible = len(left) > 1
        final = {
            each: trouble
            for each, trouble in left.items()
            if not trouble.again
            or (is_last and not (divisible and trouble.reason.startswith(lines.QUEUE_FULL)))
        }
        await self._deliver([response(each, error=t.reason) for each, t in final.items()], call)
        entry.drop()
        return {each: trouble for each, trouble in left.items() if each not in final}

    def _show(self, provider: Provider, entry: Entry, batch: Mapping[str, Any]) -> None:
        counts = chat.table(batch.get("request_counts"))
        done, failed = (chat.tokens(counts.get(name)) for name in ("completed", "failed"))
        total = entry.requests.height
        self._under_way[entry.key] = Health(
            url=f"{provider.url}/batches/{entry.batch}",
            state=f"batch {batch.get('status')}",
            answered=done,
            refused=0,
            failed=failed,
            in_flight=max(total - done - failed, 0),
            bound=float(total),
        )

    async def _read(
        self,
        provider: Provider,
        entry: Entry,
        batch: Mapping[str, Any],
        rows: Collection[str],
        call: "_Call",
    ) -> dict[str, Trouble]:
        """Give on the answers in a batch's files; why each of the others has none."""
        known = {row["request_id"]: row for row in entry.requests.iter_rows(named=True)}
        why = lines.why_none(batch, list(known), provider.endpoint)
        answered: set[str] = set()
        odd = 0
        for file_id in (batch.get("output_file_id"), batch.get("error_file_id")):
            portion: list[dict[str, Any]] = []
            with await provider.fetched(file_id, known) as file:
                for raw in file:
                    who, said = lines.read(raw, known, provider.endpoint)
                    if not who or who in answered:
                        odd += 1
                    elif isinstance(said, Trouble):
                        why[who] = said
                    else:
                        answered.add(who)
                        portion.append(said)
                    if len(portion) >= PORTION:
                        await self._give_on(portion, rows, entry, call)
                        portion = []
            await self._give_on(portion, rows, entry, call)
        if odd:
            where = f"{provider.url}/batches/{entry.batch}"
            _log.warning("%s: %d lines are about nobody who was asked, or say it again", where, odd)
        return {each: why[each] for each in rows if each not in answered}

    async def _give_on(
        self,
        portion: Sequence[dict[str, Any]],
        rows: Collection[str],
        entry: Entry,
        call: "_Call",
    ) -> None:
        """Answers to whoever waits for them; those that nobody waits for go to the ledger."""
        await self._deliver([row for row in portion if row["request_id"] in rows], call)
        strays = responses(row for row in portion if row["request_id"] not in rows)
        if strays.height:
            there = self._ledger.find(strays["request_id"])
            new = Responses(strays.join(there, on="request_id", how="anti"))
            asked = entry.requests.join(new, on="request_id", how="semi")
            served = asked.with_columns(pl.lit(self._spec.identity()).alias("model"))
            self._ledger.append(Requests(served), new)

    @staticmethod
    async def _deliver(portion: Sequence[dict[str, Any]], call: "_Call") -> None:
        """Have responses taken, that is written to the ledger, before anything else is done."""
        if portion:
            taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            call.done.put((portion, taken))
            await taken


class _Call:
    """One table on its way: portions of responses, each with who waits for it to be taken."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.done: SimpleQueue[
            tuple[Sequence[dict[str, Any]], asyncio.Future[None]] | BaseException
        ] = SimpleQueue()


def _release(taken: "asyncio.Future[None]") -> None:
    if not taken.done():
        taken.set_result(None)


def _first(error: BaseException) -> BaseException:
    """What failed first in a group, and in the groups inside of it."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _complaint(provider: Provider, trouble: Trouble) -> str:
    why = trouble.reason if trouble.unusable else f"takes no batches: {trouble.reason}"
    return f"at {provider.url} {why}"
