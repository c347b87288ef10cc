"""Which requests other processes ask right now, so that two builds at once do not both pay.

Beside the ledger, in its folder `asking`, there is a file for each call that asks: the ids of its
requests, 20 bytes each. Whoever asks holds a lock on it, which ends with the process; a file that
nobody holds says nothing. What others ask is left to them, waited for, and found in the ledger.

Where the folder cannot be written or has no locks nothing is claimed: two builds at once then pay
twice and lose nothing.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from prefdata.errors import counted
from prefdata.models.index import ID, Array
from prefdata.models.ledger import write
from prefdata.models.segment import host, is_held

EVERY = 0.5
LOOKS = 250
_log = logging.getLogger(__name__)


class Claims:
    """The claims beside one ledger."""

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger / "asking"

    @contextmanager
    def claimed(self, ids: Sequence[str]) -> Generator[set[str]]:
        """Those of the requests that nobody else asks; nobody else will while this is open."""
        wanted, path, file = np.array(ids, f"S{ID}"), None, None
        try:
            with contextlib.suppress(OSError), self._alone():
                wanted = wanted[~self._taken(wanted)[0]]
                path = self.folder / f"{host()}-{os.getpid()}-{os.urandom(4).hex()}.ids"
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                write(file, wanted.tobytes())
            yield {each.decode() for each in wanted.tolist()}
        finally:
            if path and file is not None:
                path.unlink(missing_ok=True)
                os.close(file)

    def wait(
        self,
        ids: Sequence[str],
        *,
        answered: Callable[[], int],
        patience: float,
        check: Callable[[], None],
        tell: Callable[[int, str], None],
    ) -> bool:
        """Wait until nobody else asks these; False where `patience` seconds bring no answer more.

        `answered` counts those in the ledger; `check` raises where it is time to stop; `tell` is
        told, again and again, how many have no answer yet and who asks them.
        """
        wanted, told = np.array(ids, f"S{ID}"), False
        n, since = -1, time.monotonic()
        while True:
            check()
            taken, who = self._taken(wanted)
            if not taken.any():
                return True
            if not told:
                told = True
                said = "waiting for the answers to %s, asked by %s"
                _log.warning(said, counted(int(taken.sum()), "request"), ", ".join(who))
            if (now := answered()) != n:
                n, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                said = "%s gives no answers: %s asked here as well"
                _log.warning(said, ", ".join(who), counted(int(taken.sum()), "request"))
                return False
            tell(len(ids) - n, ", ".join(who))
            time.sleep(EVERY)

    def _taken(self, wanted: Array) -> tuple[Array, list[str]]:
        """Which of these are being asked, and by whom."""
        taken, who = np.zeros(len(wanted), bool), list[str]()
        for path in self._held():
            with contextlib.suppress(OSError):
                content = path.read_bytes()
                whole = len(content) // ID * ID
                theirs = np.isin(wanted, np.frombuffer(content[:whole], f"S{ID}"))
                if theirs.any():
                    where, pid, _ = path.stem.rsplit("-", 2)
                    who.append(f"another build (process {pid} on {where})")
                taken |= theirs
        return taken, who

    def _held(self) -> Iterator[Path]:
        """The claims of the living; those that this machine's dead have left are cleared away."""
        for path in self.folder.glob("*.ids"):
            if is_held(path, 0):
                yield path
            elif path.name.startswith(f"{host()}-"):
                path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """One looks and claims at a time; `OSError` where that cannot be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for look in range(LOOKS):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if look == LOOKS - 1:
                    raise TimeoutError("whoever claims is halted")
                time.sleep(0.02)
            yield
        finally:
            os.close(file)
