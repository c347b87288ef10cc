"""How fast one endpoint may be asked: how many at once, how many a minute, and when again.

The bound on what is in flight follows the endpoint. Over a window of replies, a share of them
refused (429, 503, time-outs) multiplies the bound by what was left, at least by a half; a window
without refusals adds to it, quickly up to where it was refused last and by one from there. Where a
lower bound does not make refusals rarer, they are no matter of load: up to that share they are
tolerated, and each costs only its own request.
"""

import asyncio
import email.utils
import math
import random
import time
from collections.abc import Mapping

FIRST_WAIT = 0.5
LONGEST_BACKOFF = 30.0
WINDOW = 16
# More refusals than this are never taken for chance.
TOLERABLE = 0.25


class Meter:
    """So much a minute and no more, spread evenly; what is asked for now may have to wait."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self.next = 0.0

    def reserve(self, amount: float, now: float) -> float:
        """When `amount` may be used, from `now` on."""
        at = max(now, self.next)
        self.next = at + amount * self._gap
        return at

    def settle(self, amount: float) -> None:
        """It was `amount` more (or, below zero, less) than was reserved."""
        self.next += amount * self._gap


class Lane:
    """The way to one endpoint: at most `most` requests at once. Belongs to one event loop."""

    def __init__(self, most: int, *, rpm: float | None = None, tpm: float | None = None) -> None:
        self.most = most
        self.bound = float(most)
        self.in_flight = 0
        self.closed_until = 0.0
        self._requests, self._tokens = Meter(rpm), Meter(tpm)
        self._refused_at = math.inf
        self._lowered_for = 0.0
        self._tolerated = 0.0
        self._epoch = 0
        self._good = self._bad = 0

    @property
    def free(self) -> bool:
        return self.in_flight < max(1, round(self.bound))

    @property
    def ready_at(self) -> float:
        """When the next request may leave, as far as is known."""
        return max(self.closed_until, self._requests.next, self._tokens.next)

    def enter(self) -> int:
        """Take a place; the result says under which bound, for `answered` and `refused`."""
        self.in_flight += 1
        return self._epoch

    def leave(self) -> None:
        self.in_flight -= 1

    async def open(self, tokens: float) -> None:
        """Wait until a request of about so many tokens may leave."""
        while True:
            now = time.monotonic()
            start = max(now, self.closed_until)
            at = max(self._requests.reserve(1, start), self._tokens.reserve(tokens, start))
            if at > now:
                # Not all who waited for a closed lane leave in one moment.
                spread = min(at - now, 1.0) / 4 if at == self.closed_until else 0.0
                await asyncio.sleep(at - now + random.uniform(0, spread))
            if self.closed_until <= time.monotonic():
                return

    def settle(self, tokens: float) -> None:
        """A request took so many tokens more than was thought."""
        self._tokens.settle(tokens)

    def answered(self, epoch: int) -> None:
        self._count(epoch, 1, 0)

    def refused(self, epoch: int, wait: float | None = None) -> None:
        """Too much for the endpoint. After `wait`, what it asked for, it may be asked again."""
        if wait and not self._tolerated:
            self.closed_until = max(self.closed_until, time.monotonic() + wait)
        self._count(epoch, 0, 1)

    def _count(self, epoch: int, good: int, bad: int) -> None:
        if epoch != self._epoch:
            return  # sent under a bound that has been lowered since
        self._good, self._bad = self._good + good, self._bad + bad
        seen = self._good + self._bad
        if seen >= max(WINDOW, self.bound) or self._bad >= max(4, self.bound * TOLERABLE):
            self._decide(self._bad / seen)
            self._good = self._bad = 0

    def _decide(self, share: float) -> None:
        if share <= self._tolerated:
            near = self.bound * 1.25 >= self._refused_at
            self.bound = min(self.most, self.bound + (1 if near else max(1, self.bound / 4)))
            if self.bound > self._refused_at + 1:
                self._refused_at = math.inf
            self._lowered_for = 0.0
        elif self._lowered_for / 2 <= share < TOLERABLE and self._lowered_for:
            self._tolerated = max(self._tolerated, min(1.5 * share, TOLERABLE))
            self.bound = max(self.bound, min(self._refused_at, self.most))
            self._lowered_for = 0.0
        else:
            self._refused_at, self._lowered_for = self.bound, share
            self.bound = max(1.0, self.bound * max(0.5, 1 - share))
            self._epoch += 1
            if share >= TOLERABLE:
                self._tolerated = self._lowered_for = 0.0


def backoff(failures: int, *, passing: bool = False) -> float:
    """Seconds to wait after the n-th failure of a request: doubled each time, with jitter.

    What is `passing`, no sign of load and none of an endpoint that is gone, is first tried again
    after a fifth of the first wait.
    """
    waits = failures - 1 - passing
    wait = FIRST_WAIT / 5 if waits < 0 else min(FIRST_WAIT * 2**waits, LONGEST_BACKOFF)
    return wait * random.uniform(0.5, 1.0)


def pause(failures: int, asked: float | None, *, passing: bool = False) -> float:
    """Seconds to wait after the n-th failure of a request, of which the server asked for `asked`.

    It is waited for to the second. One that asks for next to nothing each time (0, or a date that
    is past by a clock that differs) must not be asked thousands of times.
    """
    if asked is not None and asked >= FIRST_WAIT:
        return asked
    return max(asked or 0.0, backoff(failures, passing=passing))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that the server asked for; None if it did not ask."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            wait = float(headers[name]) / unit
            if math.isfinite(wait):
                return max(wait, 0.0)
        except (KeyError, ValueError):
            continue
    until = _moment(headers.get("retry-after", ""))
    if until is None:
        return None
    # By the server's clock where it is told: this machine's may be hours off.
    now = _moment(headers.get("date", ""))
    return max(until - (time.time() if now is None else now), 0.0)


def _moment(date: str) -> float | None:
    """Seconds since 1970; None of a date of no calendar."""
    try:
        parsed = email.utils.parsedate_tz(date)
        return None if parsed is None else float(email.utils.mktime_tz(parsed))
    except (ValueError, OverflowError):
        return None
