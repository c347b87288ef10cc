"""What an edge has done and spent, and how far each of its calls is."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

# Seconds between two looks at the progress of a call.
SHOWN_EVERY = 0.1


@dataclass
class Counts:
    """What an edge has done.

    Of the requests asked, `failed` are those that ended in an error. `unsent` were not asked,
    because a limit was reached or the build was stopped.
    """

    asked: int = 0
    cached: int = 0
    failed: int = 0
    unsent: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    @property
    def requests(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("asked", "cached", "failed", "unsent")}

    def add(self, other: "Counts") -> None:
        for each in fields(Counts):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass
class Progress(Counts):
    """How far one call of an edge is: `done` of `total` requests, those cached included.

    `awaited` are asked `by` another build, whose answers it waits for.
    """

    call: int = 0
    done: int = 0
    total: int = 0
    awaited: int = 0
    by: str = ""


class Account:
    """Counts what all calls of an edge have in common, and shows the progress of each."""

    def __init__(self, watch: Callable[[Progress], None] | None) -> None:
        self.counts = Counts()
        self._watch = watch
        self._lock = threading.Lock()
        self._shown = 0.0

    def add(self, progress: Progress, counts: Counts, done: int) -> None:
        with self._lock:
            self.counts.add(counts)
            progress.add(counts)
            progress.done += done
        if time.monotonic() - self._shown >= SHOWN_EVERY:
            self.show(progress)

    def show(self, progress: Progress) -> None:
        if self._watch:
            self._shown = time.monotonic()
            self._watch(Progress(**vars(progress)))
