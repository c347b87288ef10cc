"""Ctrl-C during a build: the first ends it gracefully, the second at once; SIGTERM as the first.

The first stops the sending of requests and waits for what is in flight, at most `GRACE` seconds;
every answer is kept. The second is that of Python, an exception where the program is, or
`at_once`, which the command line sets to end the process. What never gives the
control back, such as an engine, is interrupted when the grace is over.

SIGTERM, by which containers and schedulers end a process, is as the first Ctrl-C, however often it
comes: some send it to a process and again to its group. A program that ignores or handles it
itself is left alone, and so are processes that are forked meanwhile. Where such a program ends the
build by an exception of its own, as Prefect does, what is in flight is waited for as well.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from prefdata.models.clients import Clients
from prefdata.watch import Stopping, Watch

GRACE = 15.0
# An engine that does not stop is left so many seconds more before the process ends.
LAST = 10.0

at_once: Callable[[], None] | None = None


class Stopped(KeyboardInterrupt):
    """A build was stopped; the message says what was answered and where that is kept.

    `requests` counts them: asked, cached, failed, unsent.
    """

    def __init__(self, message: str, requests: Mapping[str, int]) -> None:
        super().__init__(message)
        self.requests = requests


@contextmanager
def graceful(clients: Clients, watch: Watch, grace: float | None = None) -> Generator[None]:
    """Heed both signals so while it is open; elsewhere than in the main thread none."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        if not callable(before[signal.SIGINT]):
            del before[signal.SIGINT]
        if before[signal.SIGTERM] not in (signal.SIG_DFL, _terminated):
            del before[signal.SIGTERM]
    ended = threading.Event()
    heed = _Heed(clients, watch, GRACE if grace is None else grace, before, ended)
    for each in before:
        signal.signal(each, heed)
        if hasattr(signal, "siginterrupt"):
            # Importing polars installs a handler after which the system goes on with what it
            # interrupted, so that a wait for a model would not end.
            signal.siginterrupt(each, True)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, (Exception, KeyboardInterrupt, GeneratorExit)):
            heed.outlast(type(error))
        raise
    finally:
        ended.set()
        for each in before:
            signal.signal(each, before[each])


@contextmanager
def terminable() -> Generator[None]:
    """Have SIGTERM raise `KeyboardInterrupt`, where it would end the process without a word."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    """Raises it once: another signal does not disturb what the first has begun."""
    if not isinstance(sys.exc_info()[1], KeyboardInterrupt):
        raise KeyboardInterrupt


def _forked() -> None:
    """SIGTERM ends what was forked, as whoever forked it expects."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is _terminated or isinstance(handler, _Heed):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forked)


class _Heed:
    """The handler: the first signal winds down in a thread, because it may come at any moment."""

    def __init__(
        self,
        clients: Clients,
        watch: Watch,
        grace: float,
        before: Mapping[int, Callable[[int, FrameType | None], object]],
        ended: threading.Event,
    ) -> None:
        self._clients, self._watch, self._grace = clients, watch, grace
        self._before, self._ended = before, ended
        self._first: signal.Signals | None = None
        self._is_overdue = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._is_overdue or (not self._first and not self._clients.is_asking):
            interrupt = _terminated if number == signal.SIGTERM else signal.default_int_handler
            interrupt(number, frame)
            return
        if self._first:
            if number == signal.SIGINT:
                if at_once:
                    at_once()
                self._before[number](number, frame)
            return
        self._first = signal.Signals(number)
        threading.Thread(target=self._wind_down, name="prefdata-stop", daemon=True).start()

    def outlast(self, ends: type[BaseException]) -> None:
        """Wind down while other threads ask, whatever comes again of what `ends` the build."""
        if self._clients.is_asking:
            wound_down = threading.Event()

            def wind_down() -> None:
                self._is_drained()
                wound_down.set()

            threading.Thread(target=wind_down, name="prefdata-stop", daemon=True).start()
            # No join: an exception in one makes Python take the thread for ended.
            while not wound_down.is_set():
                with suppress(ends):
                    time.sleep(0.02)

    def _is_drained(self) -> bool:
        """Send nothing more; whether what is in flight came in, or was given up, in time."""
        self._watch(Stopping(self._clients.in_flight, self._grace))
        self._clients.stop()
        if self._idle(self._grace):
            return True
        # Closing an engine may take as long as what it does.
        threading.Thread(target=self._clients.close, daemon=True).start()
        return self._idle(1.0)

    def _wind_down(self) -> None:
        if self._is_drained():
            return
        self._is_overdue = True
        _thread.interrupt_main(self._first or signal.SIGINT)
        if not self._ended.wait(LAST) and at_once:
            at_once()

    def _idle(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._clients.is_asking and not self._ended.is_set():
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True
