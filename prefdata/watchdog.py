"""Looks at a build's models once a second, and names what is stuck instead of letting it hang."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict

from prefdata.models.clients import Clients
from prefdata.watch import Pulse, Stuck, Watch

EVERY = 1.0


@contextmanager
def watchdog(
    clients: Clients, watch: Watch, stage: Callable[[], str], every: float = EVERY
) -> Generator[None]:
    """While it is open, `watch` hears a `Pulse` now and then, and `Stuck` of what stands still.

    A stall is told when a model's patience is at an end, and again whenever it has doubled.
    """
    done = threading.Event()
    told: dict[str, float] = {}

    def look() -> None:
        is_asking = False
        while not done.wait(every):
            was_asking, is_asking = is_asking, clients.is_asking
            if is_asking or was_asking:
                watch(Pulse(clients.health() if is_asking else ()))
            stalls = {each.role: each for each in clients.stalls()}
            for role in told.keys() - stalls.keys():
                del told[role]
            for role, each in stalls.items():
                if each.quiet >= told.get(role, 0.0):
                    told[role] = 2 * each.quiet
                    watch(Stuck(stage=stage(), **asdict(each)))

    thread = threading.Thread(target=look, name="prefdata-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
