"""Which requests other processes ask right now, so that two builds at once do not both pay.

Beside the ledger, in its folder `asking`, there is a file for each call that asks: the ids of its
requests, 20 bytes each. Whoever asks holds a lock on it, which ends with the process; a file that
nobody holds says nothing. What others ask is left to them, waited for, and found in the ledger.

One at a time looks and claims; a claim is locked and whole before it has the name by which others
find it. While its process runs it is touched again and again: answers may take as long as they
take, and only of a process that is halted does the file stand still. Of another machine, whose
locks may not be seen here, it is all that tells who lives. Where the folder cannot be written
nothing is claimed: two builds at once then pay twice and lose nothing.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefdata import locks
from prefdata.errors import counted
from prefdata.models.index import ID, Array
from prefdata.models.ledger import write
from prefdata.whole import clock

EVERY = 0.5
PATIENCE = 30.0  # with somebody who claims, and may be halted
# Seconds between two touches of a claim, and for which one stands still that is doubted.
BEAT, STILL = 5.0, 60.0
_log = logging.getLogger(__name__)


class Claims:
    """The claims beside one ledger, those excepted that stood still while they were waited for."""

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger / "asking"
        self._doubted: set[tuple[Path, int]] = set()

    @contextmanager
    def claimed(self, ids: Sequence[str]) -> Generator[set[str]]:
        """Those of the requests that nobody else asks; nobody else will while this is open."""
        wanted, file = np.array(ids, f"S{ID}"), None
        path = self.folder / f"{locks.new_name()}.ids"
        part = path.with_suffix(".part")
        try:
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                with locks.alone(self.folder / "lock", seconds=PATIENCE):
                    self._clear()
                    wanted = wanted[~self._taken(wanted)]
                    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                    locks.take(file)
                    write(file, wanted.tobytes())
                    part.rename(path)
            with _touching(file):
                yield {each.decode() for each in wanted.tolist()}
        finally:
            if file is not None:
                for each in (part, path):
                    with contextlib.suppress(OSError):
                        each.unlink()
                os.close(file)

    def wait(
        self,
        ids: Sequence[str],
        *,
        answered: Callable[[], int],
        check: Callable[[], None],
        tell: Callable[[int, str], None],
    ) -> bool:
        """Wait until nobody else asks these whose claim moves; False where some stood still.

        Those are doubted from then on, until they move again. `answered` counts those in the
        ledger; `check` raises where it is time to stop; `tell` is told, again and again, how many
        have no answer yet and who asks them.
        """
        wanted, told, is_sound = np.array(ids, f"S{ID}"), False, True
        moved: dict[Path, tuple[int, float]] = {}
        while True:
            check()
            others = list(self._others(wanted))
            if not others:
                return is_sound
            n, who = sum(int(each.taken.sum()) for each in others), [each.who for each in others]
            if not told:
                told = True
                said = "waiting for the answers to %s, asked by %s"
                _log.warning(said, counted(n, "request"), ", ".join(who))
            for each in others:
                now = time.monotonic()
                if (last := moved.get(each.path)) is None or last[0] != each.touched:
                    moved[each.path] = last = each.touched, now
                if now - last[1] > STILL:
                    is_sound = False
                    self._doubted.add((each.path, each.touched))
                    said = "%s stands still: %s asked here as well"
                    _log.warning(said, each.who, counted(int(each.taken.sum()), "request"))
            tell(len(ids) - answered(), ", ".join(who))
            time.sleep(EVERY)

    def _taken(self, wanted: Array) -> Array:
        """Which of these are being asked."""
        taken = np.zeros(len(wanted), bool)
        for each in self._others(wanted):
            taken |= each.taken
        return taken

    def _others(self, wanted: Array) -> Generator["_Other"]:
        """The claims of the living to some of these, where they are not doubted."""
        for path in self.folder.glob("*.ids"):
            if (held := locks.is_held(path)) is False:
                continue
            with contextlib.suppress(OSError), path.open("rb") as file:
                # Asked of the open file: of a path a network may tell what it was a minute ago.
                touched, content = os.fstat(file.fileno()).st_mtime_ns, file.read()
                whole = len(content) // ID * ID
                taken = np.isin(wanted, np.frombuffer(content[:whole], f"S{ID}"))
                if not taken.any() or (path, touched) in self._doubted:
                    continue
                if held or clock(self.folder) - touched / 1e9 < STILL:
                    yield _Other(path, touched, taken)

    def _clear(self) -> None:
        """Clear away what this machine's dead have left; only while nobody else claims."""
        for path in (*self.folder.glob("*.ids"), *self.folder.glob("*.part")):
            if locks.is_dead(path):
                with contextlib.suppress(OSError):  # it is another user's
                    path.unlink()


@dataclass(frozen=True)
class _Other:
    """Another's claim: which of the requests wanted it holds, and when it was touched."""

    path: Path
    touched: int
    taken: Array

    @property
    def who(self) -> str:
        where, pid = locks.holder(self.path)
        return f"another build (process {pid} on {where})"


@contextmanager
def _touching(file: int | None) -> Generator[None]:
    """Touch an open file again and again meanwhile."""
    done = threading.Event()

    def touch(file: int) -> None:
        while not done.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(file)

    if file is None:
        yield
        return
    thread = threading.Thread(target=touch, args=(file,), name="prefdata-claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
