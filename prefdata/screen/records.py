"""What happens during a build as a line of JSON each, for whatever collects logs.

    {"time": "2026-11-27T12:00:00.123+00:00", "level": "info", "event": "made", "stage": ..., ...}

The fields of an event are those of `prefdata.watch`. No text of a prompt or a completion is in any
but the error that a bad row is with `--strict`, which shows the row.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from prefdata.screen import write
from prefdata.secrets import TOKEN
from prefdata.watch import Advanced, Asking, Event, Pulse, Started, Stopping, Stuck, Warned

LONGEST = 2000  # characters of what a library says
WARNINGS = (Stuck, Stopping, Warned)


def record(event: str, level: str = "info", **said: Any) -> str:
    """One line, in ASCII, so that no terminal obeys what is in it."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return write.one_line({"time": at, "level": level, "event": event, **said})


def without_keys(message: str) -> str:
    """A message for a log, which goes further than a terminal."""
    return TOKEN.sub("***", message)


@contextmanager
def heard(say: Callable[[str], None]) -> Generator[None]:
    """What libraries log and warn of meanwhile, as records too, and without keys."""

    line = record

    class Hearing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = without_keys(record.getMessage())[:LONGEST]
            say(line("log", record.levelname.lower(), logger=record.name, message=said))

    root, hearing = logging.getLogger(), Hearing(logging.WARNING)
    root.addHandler(hearing)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(hearing)


class Records:
    """Lines of JSON, of what goes on at most one in `write.EVERY` seconds."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._next: dict[type[Event], float] = {}

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Started):
                self._next.clear()
            if self._is_too_soon(event):
                return
            level = "warning" if isinstance(event, WARNINGS) else "info"
            self._say(record(type(event).__name__.lower(), level, **asdict(event)))

    def _is_too_soon(self, event: Event) -> bool:
        last = isinstance(event, Asking) and event.done == event.total
        if last or not isinstance(event, Advanced | Asking | Pulse):
            return False
        now = self._clock()
        if now < self._next.get(type(event), 0.0):
            return True
        self._next[type(event)] = now + write.EVERY
        return False
