"""What the processes of a sandbox use together, seen from outside through its own `/proc`."""

import os
from collections.abc import Iterator
from contextlib import suppress

from prefdata.sandbox.jail import SCRATCH, SHARED_MEMORY
from prefdata.sandbox.limits import Limits, Outcome

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def used(root: str, limits: Limits) -> Outcome | None:
    """The limit that all processes of a sandbox are beyond, seen through its own `/proc`."""
    if not _is_made(root):
        return None
    cpu = resident = 0
    for said in _processes(root, "stat"):
        # Of `man proc_pid_stat`, behind the name: 14 to 17 are times, 24 is resident memory.
        fields = said.rpartition(")")[2].split()
        cpu += sum(map(int, fields[11:15]))
        resident += int(fields[21]) * _PAGE
    if cpu > limits.cpu_seconds * _TICKS:
        return "time"
    if resident > limits.memory and _memory(root) > limits.memory:
        return "memory"
    for folder in (SCRATCH, SHARED_MEMORY):
        with suppress(OSError):
            held = os.statvfs(root + folder)
            if held.f_files - held.f_ffree > limits.files:
                return "disk"
    return None


def _is_made(root: str) -> bool:
    """Whether the sandbox has left the file system that it begins in."""
    with suppress(OSError):
        return not os.path.samefile(root, "/")
    return False


def _memory(root: str) -> int:
    """What the processes hold; what several share counts once."""
    lines = (line for said in _processes(root, "smaps_rollup") for line in said.splitlines())
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def _processes(root: str, file: str) -> Iterator[str]:
    """A file of each process, of those that are there by the time it is read."""
    with suppress(OSError):
        for name in os.listdir(f"{root}/proc"):
            if name.isdigit():
                with (
                    suppress(OSError),
                    open(f"{root}/proc/{name}/{file}", errors="replace") as said,
                ):
                    yield said.read()
