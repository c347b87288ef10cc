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

Requests get into a batch in one place, `_route`, by one build at a time, which sees first what is
under way and what others have brought. Until a request is answered it stands in some batch of the
journal, so no two builds ever pay for it.
"""

import asyncio
import contextlib
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
from prefdata.models.provider import Doubtful, Provider
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

    def __init__(self, spec: ModelSpec, ledger: Ledger, *, fresh: bool = False) -> None:
        self._spec = spec
        self._ledger = ledger
        self._fresh = fresh
        self._journal = Journal(ledger.folder)
        self._providers = [
            Provider(spec, url, key_env, self._journal.folder) for url, key_env in spec.endpoints()
        ]
        self._turn = itertools.count()
        self._under_way: dict[str, Health] = {}
        # Who is asked by batches whose entries are damaged: nobody, where no provider knows them.
        self._damaged: dict[str, Collection[str]] = {}
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
                if isinstance(said, int):
                    left -= said
                    continue
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
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._route(call.requests.to_dicts(), call))
        except asyncio.CancelledError:
            call.done.put(ModelError(f"the model {self._spec.model!r} was closed while asked"))
            raise
        except BaseExceptionGroup as group:
            call.done.put(_first(group))

    async def _route(
        self,
        rows: Sequence[Row],
        call: "_Call",
        at_round: int = 0,
        *,
        instead_of: Entry | None = None,
        waits: int = 0,
    ) -> None:
        """Each request to the batch that is under way with it, or to a new one.

        `instead_of` is a batch of ours of which no more will come: it is struck off as soon as what
        it left stands in others. `waits` is how often its queue was full.
        """
        new = {row["request_id"]: row for row in rows}
        known: list[tuple[Provider, Entry, dict[str, Row]]] = []
        begun: list[tuple[Provider, Entry, list[Row]]] = []
        try:
            while True:
                async with self._journal.alone():
                    there = self._journal.entries() if new else []
                    if not (damaged := [each for each in there if self._may_be_of(each, new)]):
                        known += self._under_way_with(new, there, instead_of)
                        self._leave(self._brought(new), new, call)
                        begun += self._begun(new, at_round)
                        if instead_of is not None:
                            instead_of.drop()
                        break
                for each in damaged:
                    await self._mend(each, new)
            async with asyncio.TaskGroup() as tasks:
                for found in known:
                    tasks.create_task(self._take_up(*found, call))
                for made in begun:
                    tasks.create_task(self._see_through(*made, call, waits))
        finally:
            for _, entry, _ in begun:
                entry.release()

    def _under_way_with(
        self, new: dict[str, Row], there: Sequence[Entry], instead_of: Entry | None
    ) -> Iterator[tuple[Provider, Entry, dict[str, Row]]]:
        """The batches of the journal that have some of the requests, which are then not new."""
        for entry in there:
            if entry.is_damaged or (instead_of is not None and entry.key == instead_of.key):
                continue
            if not (wanted := [each for each in entry.ids if each in new]):
                self._clear(entry)
            elif provider := self._provider(entry.url):
                yield provider, entry, {each: new.pop(each) for each in wanted}
            else:
                _log.warning(
                    "a batch of %s is at %s, where the recipe asks no longer: asked again",
                    *(counted(len(wanted), "request"), entry.url),
                )

    def _begun(
        self, new: Mapping[str, Row], at_round: int
    ) -> list[tuple[Provider, Entry, list[Row]]]:
        """Entries for requests that are in no batch yet: all of them, or none."""
        begun: list[tuple[Provider, Entry, list[Row]]] = []
        try:
            for part in lines.cut(new.values(), self._spec.model, self._spec.batch_size):
                provider = self._providers[next(self._turn) % len(self._providers)]
                table = Requests(pl.DataFrame(part, schema=tables.schema("requests").dtypes))
                where = lines.where(part[0])
                entry = self._journal.begin(provider.url, where, table, at_round)
                begun.append((provider, entry, part))
        except ModelError:
            for _, entry, _ in begun:
                entry.drop()
            raise
        return begun

    def _may_be_of(self, entry: Entry, rows: Mapping[str, Row]) -> bool:
        """Whether a damaged entry has some of the requests, as far as that is known."""
        if not entry.is_damaged:
            return False
        asked = self._damaged.get(entry.key)
        return asked is None or not rows.keys().isdisjoint(asked)

    async def _mend(self, entry: Entry, rows: Mapping[str, Row]) -> None:
        """Ask whose batch has a damaged entry's key who is in it, and write the entry anew."""
        self._damaged[entry.key] = ()
        for provider in self._providers:
            with self._remembered(provider, entry):
                if not (batch := await provider.made(entry)):
                    continue
                ids = self._damaged[entry.key] = await provider.asked(batch, rows)
            if rows.keys().isdisjoint(ids):  # it is another model's
                return
            if await self._lock(entry):
                left = {row["request_id"]: row for row in entry.requests.to_dicts()} | {**rows}
                asked = [left[each] for each in ids if each in left]
                table = Requests(pl.DataFrame(asked, schema=tables.schema("requests").dtypes))
                where = next(lines.where(rows[each]) for each in ids if each in rows)
                self._journal.mend(entry, provider.url, where, table, str(batch["id"]))
                entry.release()
            return
        _log.warning(
            "%s was damaged, and no batch of that name is at %s: if it was handed over, what it "
            "asks is asked and paid again. Look for it at the provider's, and remove the file",
            *(entry.path, " or ".join(each.url for each in self._providers)),
        )

    def _provider(self, url: str) -> Provider | None:
        return next((each for each in self._providers if each.url == url), None)

    def _brought(self, rows: Collection[str]) -> Collection[str]:
        """Those of the requests that were answered, by another build, since this one has looked."""
        if self._fresh or not rows:
            return ()
        return self._ledger.find(rows)["request_id"].to_list()

    @staticmethod
    def _leave(brought: Collection[str], rows: dict[str, Row], call: "_Call") -> None:
        """Take out requests whose answers are in the ledger."""
        for each in brought:
            del rows[each]
        if brought:
            call.done.put(len(brought))

    async def _take_up(
        self, provider: Provider, entry: Entry, rows: dict[str, Row], call: "_Call"
    ) -> None:
        """Go on with what another build, or another call, has begun."""
        if not await self._lock(entry):  # another has seen to it
            self._leave(self._ledger.find(rows)["request_id"].to_list(), rows, call)
            return await self._route([*rows.values()], call)
        try:
            with self._remembered(provider, entry):
                if not entry.batch and (known := await provider.known(entry)):
                    entry.note(batch=known)
            if entry.batch:
                await self._go_on(provider, entry, rows, call)
            else:  # it was never handed over, and so this was no round
                await self._route([*rows.values()], call, entry.round, instead_of=entry)
        finally:
            entry.release()

    @staticmethod
    async def _lock(entry: Entry) -> bool:
        """Take a batch over as soon as nobody else looks after it; False once it is gone."""
        while not entry.lock() or entry.may_be_handed_over_elsewhere:
            entry.release()
            if not entry.path.exists():
                return False
            await asyncio.sleep(HEARTBEAT)
        return True

    @contextmanager
    def _remembered(self, provider: Provider, entry: Entry) -> Generator[None]:
        try:
            yield
        except Trouble as trouble:
            raise ModelError(
                f"the model {self._spec.model!r} {_complaint(provider, trouble)}; the batch "
                f"{entry.batch or entry.key} is remembered: build again to take its answers"
            ) from None

    def _clear(self, entry: Entry) -> None:
        """Strike off a batch of other requests whose answers are all there."""
        with contextlib.suppress(ModelError):  # it is another user's
            if self._ledger.count(entry.ids) == len(entry.ids) and entry.lock():
                entry.drop()

    async def _see_through(
        self, provider: Provider, entry: Entry, rows: Sequence[Row], call: "_Call", waits: int
    ) -> None:
        """Hand a batch over that was begun, and go on with it."""
        provider, entry = await self._hand_over(provider, entry)
        try:
            asked = {row["request_id"]: row for row in rows}
            await self._go_on(provider, entry, asked, call, waits)
        finally:
            entry.release()

    async def _go_on(
        self,
        provider: Provider,
        entry: Entry,
        rows: Mapping[str, Row],
        call: "_Call",
        waits: int = 0,
    ) -> None:
        """Until each request of a batch is answered or has its reason, here or in other batches."""
        left = await self._collect(provider, entry, rows, call)
        again = [rows[each] for each in left]
        if not any(trouble.reason.startswith(lines.QUEUE_FULL) for trouble in left.values()):
            await self._route(again, call, entry.round + 1, instead_of=entry)
        elif self._under_way or len(again) == 1:
            await asyncio.sleep(min(FIRST_QUEUE * 2 ** min(waits, 10), LONGEST_QUEUE))
            at_round = entry.round + (not self._under_way)
            await self._route(again, call, at_round, instead_of=entry, waits=waits + 1)
        else:  # nothing of ours is in the way: it is too much at once
            half = len(again) // 2
            await self._route(again[:half], call, entry.round, instead_of=entry, waits=waits)
            await self._route(again[half:], call, entry.round, waits=waits)

    async def _hand_over(self, provider: Provider, entry: Entry) -> tuple[Provider, Entry]:
        """Have a batch made of what was begun, at one endpoint after another until one takes it.

        After one that may have taken it no other is asked.
        """
        complaints: list[str] = []
        first = self._providers.index(provider)
        try:
            for provider in (*self._providers[first:], *self._providers[:first]):
                if complaints:
                    how = (entry.where, entry.requests, entry.round)
                    refused, entry = entry, self._journal.begin(provider.url, *how)
                    refused.drop()
                try:
                    await provider.create(entry)
                    return provider, entry
                except Doubtful as trouble:
                    with self._remembered(provider, entry):
                        raise trouble
                except Trouble as trouble:
                    complaints.append(_complaint(provider, trouble))
            entry.drop()
        except BaseException:
            entry.release()
            raise
        raise ModelError(
            f"the model {self._spec.model!r} {'; '.join(complaints)}. Nothing is lost: mend it and "
            "build again"
        )

    async def _collect(
        self, provider: Provider, entry: Entry, rows: Mapping[str, Row], call: "_Call"
    ) -> dict[str, Trouble]:
        """Wait for a batch and give on what came of it; what to ask again, and why.

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
    """One table on its way: portions of responses, each with who waits for it to be taken.

    A number says how many have an answer in the ledger that this call has not brought.
    """

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.done: SimpleQueue[
            tuple[Sequence[dict[str, Any]], asyncio.Future[None]] | int | BaseException
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
