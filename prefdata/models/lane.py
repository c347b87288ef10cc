"""How fast an endpoint may be asked: a bound on what is in flight that follows its rate limit."""

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping

LONGEST_WAIT = 300.0
FIRST_WAIT = 0.5
LONGEST_BACKOFF = 30.0


class Lane:
    """Lets at most `most` requests in at once; half as many after each "too many requests".

    From there the bound rises by one for every bound's worth of answers (additive increase,
    multiplicative decrease). Belongs to one event loop.
    """

    def __init__(self, most: int) -> None:
        self.bound = float(most)
        self._most = most
        self._used = 0
        self._freed = asyncio.Event()
        self._closed_until = 0.0
        self._slowed_at = 0.0

    async def enter(self) -> None:
        while self._used >= int(self.bound):
            self._freed.clear()
            await self._freed.wait()
        self._used += 1

    def leave(self, n: int) -> None:
        self._used -= n
        self._freed.set()

    def answered(self) -> None:
        self.bound = min(self._most, self.bound + 1 / self.bound)

    def slow_down(self, wait: float) -> None:
        """Nobody asks for `wait` seconds; refusals of one moment halve the bound only once."""
        now = time.monotonic()
        if now - self._slowed_at > min(wait, 1.0):
            self.bound = max(1.0, self.bound / 2)
            self._slowed_at = now
        self._closed_until = max(self._closed_until, now + wait)

    async def open(self) -> None:
        """Wait until the endpoint may be asked again; not all who waited ask in one moment."""
        while (wait := self._closed_until - time.monotonic()) > 0:
            await asyncio.sleep(wait + random.uniform(0, min(wait, 1.0) / 4))


def backoff(failures: int) -> float:
    """Seconds to wait after the n-th failure of a request: doubled each time, with jitter."""
    wait = min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_BACKOFF)
    return wait * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """What the server asked for, in seconds, at most `LONGEST_WAIT`; None if it did not ask."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return min(max(float(headers[name]) / unit, 0.0), LONGEST_WAIT)
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    if date is None:
        return None
    return min(max(email.utils.mktime_tz(date) - time.time(), 0.0), LONGEST_WAIT)
