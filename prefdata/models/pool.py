"""The endpoints of one model: who is asked next, and who is left out for a while."""

import asyncio
import logging
import time
from collections import deque

from prefdata.models.chat import Trouble
from prefdata.models.client import Health
from prefdata.models.endpoint import Endpoint
from prefdata.models.spec import ModelSpec

# So many failures of an endpoint in a row, and the others are asked instead.
FAILURES_IN_A_ROW = 10
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0

Place = tuple[Endpoint, int]
_log = logging.getLogger(__name__)


class NobodyLeft(Exception):
    """No endpoint can be used; the message says why, for each."""


class Pool:
    """Lends places at the endpoints, first come first served. Belongs to one event loop.

    An endpoint that cannot be used, refuses connections or fails again and again is left out while
    there are others, and tried again with one request after a pause, doubled each time.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.endpoints = [Endpoint(spec, url, key_env) for url, key_env in spec.endpoints()]
        self._unusable: set[Endpoint] = set()
        self._waiting: deque[asyncio.Future[Place]] = deque()

    def health(self) -> tuple[Health, ...]:
        return tuple(each.health() for each in self.endpoints)

    async def start(self) -> None:
        for each in self.endpoints:
            await each.start()

    async def stop(self) -> None:
        for each in self.endpoints:
            await each.stop()

    async def enter(self) -> Place:
        """A place at the endpoint that is soonest ready; `NobodyLeft` if none can be used."""
        best = None if self._waiting else self._best()
        if best:
            return best, best.lane.enter()
        lent: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting.append(lent)
        try:
            return await lent
        except asyncio.CancelledError:
            if lent.done() and not lent.cancelled() and not lent.exception():
                lent.result()[0].lane.leave()
                self._lend()
            raise

    def leave(self, place: Place, trouble: Trouble | None) -> None:
        """Give a place back and learn from what came of it."""
        endpoint, epoch = place
        endpoint.lane.leave()
        if trouble is None or not (trouble.again or trouble.unusable):
            self._welcome(endpoint)
            endpoint.lane.answered(epoch)
        elif trouble.unusable:
            endpoint.failed += 1
            self._unusable.add(endpoint)
            self._leave_out(endpoint, trouble.reason, trouble.wait)
        else:
            self._blame(endpoint, epoch, trouble)
        self._lend()

    def give_up(self, place: Place) -> None:
        """Give a place back of a request that was cancelled."""
        place[0].lane.leave()
        self._lend()

    def has_other(self, endpoint: Endpoint) -> bool:
        """Whether the same request may be tried elsewhere at once."""
        now = time.monotonic()
        return any(e is not endpoint and e.out_until <= now for e in self.endpoints)

    def usable(self) -> bool:
        """False where nobody answers anybody and no pause is over yet."""
        now = time.monotonic()
        return any(e not in self._unusable or 0 < e.out_until <= now for e in self.endpoints)

    def complaint(self) -> str:
        return "; ".join(f"at {e.url} {e.out}" for e in self.endpoints)

    def _welcome(self, endpoint: Endpoint) -> None:
        endpoint.answered += 1
        endpoint.in_a_row = 0
        endpoint.out, endpoint.out_until, endpoint.pause = "", 0.0, 0.0
        self._unusable.discard(endpoint)

    def _blame(self, endpoint: Endpoint, epoch: int, trouble: Trouble) -> None:
        if trouble.overload:
            endpoint.lane.refused(epoch, trouble.wait)
            if len(self.endpoints) > 1 and trouble.wait:
                asyncio.get_running_loop().call_later(trouble.wait, self._lend)
        if trouble.limited:
            endpoint.refused += 1
            return
        endpoint.failed += 1
        endpoint.in_a_row += 1
        if trouble.unreached or endpoint.in_a_row >= FAILURES_IN_A_ROW:
            self._leave_out(endpoint, trouble.reason, None)

    def _leave_out(self, endpoint: Endpoint, why: str, wait: float | None) -> None:
        now = time.monotonic()
        newly = not endpoint.out
        endpoint.out = why
        if len(self.endpoints) == 1 or endpoint.out_until > now:
            return
        endpoint.pause = wait or min(max(2 * endpoint.pause, FIRST_PAUSE), LONGEST_PAUSE)
        endpoint.out_until = now + endpoint.pause
        asyncio.get_running_loop().call_later(endpoint.pause, self._lend)
        if newly:
            _log.warning("%s is left out for now: %s", endpoint.url, why)

    def _lend(self) -> None:
        """Give free places to those who waited longest."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            try:
                best = self._best()
            except NobodyLeft as nobody:
                self._waiting.popleft().set_exception(nobody)
                continue
            if best is None:
                return
            self._waiting.popleft().set_result((best, best.lane.enter()))

    def _best(self) -> Endpoint | None:
        """The free endpoint that is soonest ready; None where all are busy."""
        if not self.usable():
            raise NobodyLeft(self.complaint())
        if len(self.endpoints) == 1:
            return self.endpoints[0] if self.endpoints[0].lane.free else None
        now = time.monotonic()
        there = [e for e in self.endpoints if e.out_until <= now]
        there = there or [e for e in self.endpoints if e not in self._unusable]
        there = [e for e in there if e.lane.closed_until <= now] or there
        free = [e for e in there if e.lane.free and not (e.out and e.lane.in_flight)]
        return min(free, key=lambda e: _sooner(e, now), default=None)


def _sooner(endpoint: Endpoint, now: float) -> tuple[float, float]:
    lane = endpoint.lane
    return max(now, lane.ready_at), lane.in_flight / lane.bound
