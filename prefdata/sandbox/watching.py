"""What the processes of a sandbox use together, seen from outside through its own `/proc`."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple, Self

from prefdata.sandbox.jail import SCRATCH, SHARED_MEMORY
from prefdata.sandbox.limits import Limits, Outcome

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
# Tables of pages are memory too, and pages that the kernel put elsewhere are memory still.
_TABLES = ("VmPTE",)
_RESIDENT, _SHARES = ("VmRSS", "VmSwap", *_TABLES), ("Pss", "SwapPss")


class _Process(NamedTuple):
    """A process as its `stat` has it: times in ticks, of itself and with its ended children."""

    name: str
    began: str
    is_dead: bool
    own: int
    all: int


class Watching:
    """Looks what a sandbox uses.

    Its folders are opened once and held: a process shows nothing any more when its first thread has
    ended, and the first process of the sandbox may end its own.
    """

    def __init__(self, first: int, limits: Limits) -> None:
        self._root = f"/proc/{first}/root"
        self._limits = limits
        self._held: list[int] = []
        self._burned: dict[tuple[str, str], int] = {}
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def is_ready(self) -> bool:
        """Whether the sandbox has the file system that its program will see."""
        if not self._held:
            with suppress(OSError), ExitStack() as opened:
                if os.path.samefile(self._root, "/"):
                    return False
                for folder in ("/proc", SCRATCH, SHARED_MEMORY):
                    self._held.append(os.open(self._root + folder, os.O_RDONLY | os.O_DIRECTORY))
                    opened.callback(os.close, self._held[-1])
                self._opened = opened.pop_all()
                return True
            self._held.clear()
        return bool(self._held)

    def beyond(self) -> Outcome | None:
        """The limit that all processes together are beyond."""
        processes = list(self._processes())
        if self._ticks(processes) > self._limits.cpu_seconds * _TICKS:
            return "time"
        places = [self._place(each) for each in processes]
        resident = {place: self._sum(f"{place}/status", _RESIDENT) for place in places}
        most = self._limits.memory
        if sum(resident.values()) > most and sum(map(self._memory, places)) > most:
            return "memory"
        for folder in self._held[1:]:
            held = os.statvfs(folder)
            if held.f_files - held.f_ffree > self._limits.files:
                return "disk"
        return None

    def _ticks(self, processes: list[_Process]) -> int:
        """Processor time. Who ignores the end of its children is not charged for them: what was
        seen of them counts."""
        self._burned |= {(each.name, each.began): each.own for each in processes}
        return max(sum(each.all for each in processes), sum(self._burned.values()))

    def _memory(self, place: str) -> int:
        """What a process holds, its share of what several do; all of it where that is not told."""
        shares = self._sum(f"{place}/smaps_rollup", _SHARES)
        return shares + self._sum(f"{place}/status", _TABLES if shares else _RESIDENT)

    def _processes(self) -> Iterator[_Process]:
        for name in self._numbers("."):
            # Of `man proc_pid_stat`, behind the name: 3 is the state, 14 to 17 are times, 22 is
            # when it began.
            fields = self._read(f"{name}/stat").rpartition(")")[2].split()
            if fields:
                times = [int(field) for field in fields[11:15]]
                yield _Process(name, fields[19], fields[0] in "ZX", sum(times[:2]), sum(times))

    def _place(self, process: _Process) -> str:
        """Where a process shows its memory: at a thread that goes on where the first has ended."""
        threads = f"{process.name}/task"
        others = self._numbers(threads) if process.is_dead else ()
        return next((f"{threads}/{each}" for each in others if each != process.name), process.name)

    def _numbers(self, folder: str) -> list[str]:
        with suppress(OSError):
            at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._held[0])
            try:
                return [name for name in os.listdir(at) if name.isdigit()]
            finally:
                os.close(at)
        return []

    def _sum(self, path: str, names: tuple[str, ...]) -> int:
        """The bytes that lines such as `VmRSS: 12 kB` say."""
        lines = (line.split() for line in self._read(path).splitlines())
        return sum(int(line[1]) << 10 for line in lines if line and line[0][:-1] in names)

    def _read(self, path: str) -> str:
        """A file of a process that is there by the time it is read."""
        with suppress(OSError):
            file = os.open(path, os.O_RDONLY, dir_fd=self._held[0])
            with open(file, errors="replace") as said:
                return said.read()
        return ""
