"""What happens during a build as a line of JSON each, for whatever collects logs.

    {"time": "2026-11-27T12:00:00.123+00:00", "level": "info", "event": "made",
     "run": "5f0c2a9d31b7", "recipe": "quickstart", "stage": ..., ...}

`run` is one build's own, and in all of its records. The first of them is `building`; the last is
`built`, with what `prefdata build --json` prints, or `error` or `stopped`. The fields of the others
are those of `prefdata.watch`. No text of a prompt or a completion is in any but the error that a
bad row is with `--strict`, which shows the row.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from prefdata.screen import write
from prefdata.secrets import TOKEN
from prefdata.watch import Advanced, Asking, Event, Pulse, Started, Stopping, Stuck, Warned

LONGEST = 2000  # characters of what a library says
WARNINGS = (Stuck, Stopping, Warned)
About = Mapping[str, str]  # what all records of a build have: its `run` and `recipe`


def record(event: str, level: str = "info", **said: Any) -> str:
    """One line, in ASCII, so that no terminal obeys what is in it."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return write.one_line({"time": at, "level": level, "event": event, **said})


def tell(about: About, event: str, level: str = "info", **said: Any) -> None:
    """A record on standard error."""
    print(record(event, level, **about, **said), file=sys.stderr, flush=True)


def without_keys(message: str) -> str:
    """A message for a log, which goes further than a terminal."""
    return TOKEN.sub("***", message)


@contextmanager
def heard(say: Callable[[str], None], about: About) -> Generator[None]:
    """What libraries log and warn of meanwhile, as records too, and without keys."""

    line = record

    class Hearing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = without_keys(record.getMessage())[:LONGEST]
            level = record.levelname.lower()
            say(line("log", level, **about, logger=record.name, message=said))

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
        self,
        say: Callable[[str], None],
        about: About,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._about = about
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
            said = {**self._about, **asdict(event)}
            self._say(record(type(event).__name__.lower(), level, **said))

    def _is_too_soon(self, event: Event) -> bool:
        last = isinstance(event, Asking) and event.done == event.total
        if last or not isinstance(event, Advanced | Asking | Pulse):
            return False
        now = self._clock()
        if now < self._next.get(type(event), 0.0):
            return True
        self._next[type(event)] = now + write.EVERY
        return False
