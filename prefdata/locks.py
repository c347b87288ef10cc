"""Locks between processes: the one policy of who holds what.

A lock is `flock` on a file. It ends with the process that holds it, however that ends,
and no clock has a say in it. What is held for long is named after its holder, `<host>-<pid>-<8
digits>`, for where a lock cannot tell:

- A file system without locks. Everybody is given them there, so what is done under one must stay
  right, if at twice the work, where two do it at once; what would not is to say that its lock is
  `needed`. Who lives is told by the process id, on its own machine.
- Another machine. Its locks may not be seen here. What is held is known; of what seems free it is
  not known whether it is.
- A folder. Of locks on one other machines see nothing, so it is held by a file in it.
- Another user's file. It is asked about by a shared lock, which needs a file to be read and no
  more. What may not even be read is told like a file without locks.
- A read-only file system. What is on it can be asked about; there is nothing to take.

Who asks about a lock holds a shared one for a moment, so what others may find already is locked
with the patience of `PROBED`.
"""

import errno
import fcntl
import hashlib
import os
import re
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

HOLDS = "lock-"  # how the name begins of the file by which a folder is held
EVERY = 0.02
PROBED = 5.0
# A file system has none, its server has none, or (NFS) only for those who may write the file.
ABSENT = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF)
_NAMED = re.compile(r"(?:^|[-.])([A-Za-z0-9]+)-(\d+)-[0-9a-f]{8}(?:\.|$)")


def host() -> str:
    """This machine's name, of at most 20 letters and digits, as names of what is held say it."""
    whole = socket.gethostname()
    name = re.sub(r"[^A-Za-z0-9]+", "", whole) or "host"
    if len(name) <= 20:
        return name
    # Pods of one deployment begin alike.
    return f"{name[:12]}{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def new_name() -> str:
    """A name, or its end, for what this process is going to hold."""
    return f"{host()}-{os.getpid()}-{os.urandom(4).hex()}"


def holder(path: Path) -> tuple[str, int]:
    """Host and process that a name says; "" and 0 where it does not."""
    named = _NAMED.search(path.name)
    return (named[1], int(named[2])) if named else ("", 0)


def opened(path: Path) -> int:
    """A file to be locked, made where there is none; one of another user is opened for reading."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def take(file: int, *, seconds: float = 0.0, needed: bool = False) -> bool:
    """Hold an open file or folder until it is closed; False if another does for `seconds`.

    Where there are no locks everybody is given them; those that are `needed` are an `OSError`.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
        except OSError as error:
            if needed or error.errno not in ABSENT:
                raise
            return True
        time.sleep(EVERY)


@contextmanager
def alone(path: Path, *, seconds: float = 0.0, needed: bool = False) -> Generator[None]:
    """Hold the file at `path`, made where there is none, as `take` does.

    `BlockingIOError` where another holds it for `seconds`.
    """
    file = opened(path)
    try:
        if not take(file, seconds=seconds, needed=needed):
            raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it", str(path))
        yield
    finally:
        os.close(file)


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Hold a folder, in which there is then a file for that."""
    file = opened(folder / f"{HOLDS}{new_name()}")
    try:
        take(file, seconds=PROBED)
        yield
    finally:
        os.close(file)


def is_dead(path: Path) -> bool:
    """Whether what is at a path is named after a holder of this machine, who is gone."""
    return holder(path)[0] == host() and is_held(path) is False


def is_held(path: Path) -> bool | None:
    """Whether a process that lives holds a file or folder; None where that cannot be told here."""
    where, pid = holder(path)
    try:
        path = next(path.glob(f"{HOLDS}*"), path)
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return _lives(where, pid)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return _lives(where, pid)
    finally:
        os.close(file)
    return False if where in ("", host()) else None


def _lives(where: str, pid: int) -> bool | None:
    """Whether a process lives, where it would be one of this machine."""
    if where != host():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True
