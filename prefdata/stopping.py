"""Ctrl-C during a build: the first ends it gracefully, the second at once.

The first stops the sending of requests and waits for what is in flight, at most `GRACE` seconds;
every answer is kept. The second is that of Python, an exception where the program is, or
`at_once`, which the command line sets to end the process. What never gives the
control back, such as an engine, is interrupted when the grace is over.
"""

import _thread
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import FrameType

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
    """Heed Ctrl-C so while it is open; elsewhere than in the main thread nothing is changed."""
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        yield
        return
    ended = threading.Event()
    heed = _Heed(clients, watch, GRACE if grace is None else grace, before, ended)
    signal.signal(signal.SIGINT, heed)
    if hasattr(signal, "siginterrupt"):
        # Importing polars installs a handler after which the system goes on with what it
        # interrupted, so that a wait for a model would not end.
        signal.siginterrupt(signal.SIGINT, True)
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGINT, before)


class _Heed:
    """The handler: the first signal winds down in a thread, because it may come at any moment."""

    def __init__(
        self,
        clients: Clients,
        watch: Watch,
        grace: float,
        before: Callable[[int, FrameType | None], object],
        ended: threading.Event,
    ) -> None:
        self._clients, self._watch, self._grace = clients, watch, grace
        self._before, self._ended = before, ended
        self._is_asked = self._is_overdue = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._is_overdue or (not self._is_asked and not self._clients.is_asking):
            raise KeyboardInterrupt
        if self._is_asked:
            if at_once:
                at_once()
            self._before(number, frame)
            return
        self._is_asked = True
        threading.Thread(target=self._wind_down, name="prefdata-stop", daemon=True).start()

    def _wind_down(self) -> None:
        self._watch(Stopping(self._clients.in_flight, self._grace))
        self._clients.stop()
        if self._idle(self._grace):
            return
        # Closing an engine may take as long as what it does.
        threading.Thread(target=self._clients.close, daemon=True).start()
        if self._idle(1.0):
            return
        self._is_overdue = True
        _thread.interrupt_main()
        if not self._ended.wait(LAST) and at_once:
            at_once()

    def _idle(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._clients.is_asking and not self._ended.is_set():
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True
