"""Which requests other processes ask right now, so that two builds at once do not both pay.

Beside the ledger, in its folder `asking`, there is a file for each call that asks: the ids of its
requests, 20 bytes each. Whoever asks holds a lock on it, which ends with the process; a file that
nobody holds says nothing. What others ask is left to them, waited for, and found in the ledger.

One at a time looks and claims; a claim is locked and whole before it has the name by which others
find it. Where the folder cannot be written nothing is claimed: two builds at once then pay twice
and lose nothing.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from prefdata import locks
from prefdata.errors import counted
from prefdata.models.index import ID, Array
from prefdata.models.ledger import write

EVERY = 0.5
PATIENCE = 30.0  # with somebody who claims, and may be halted
_log = logging.getLogger(__name__)


class Claims:
    """The claims beside one ledger."""

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger / "asking"

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
                    wanted = wanted[~self._taken(wanted)[0]]
                    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                    locks.take(file)
                    write(file, wanted.tobytes())
                    part.rename(path)
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
        """The claims of the living."""
        return (path for path in self.folder.glob("*.ids") if locks.is_held(path))

    def _clear(self) -> None:
        """Clear away what this machine's dead have left; only while nobody else claims."""
        for path in (*self.folder.glob("*.ids"), *self.folder.glob("*.part")):
            if locks.holder(path)[0] == locks.host() and locks.is_held(path) is False:
                with contextlib.suppress(OSError):  # it is another user's
                    path.unlink()
