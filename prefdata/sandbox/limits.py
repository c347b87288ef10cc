"""What a program may use, and how it ended."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "exit", "signal", "time", "memory", "disk", "output"]


@dataclass(frozen=True)
class Limits:
    """What a program may use with all its processes together, in bytes and seconds."""

    seconds: float = 10.0
    cpu_seconds: float = 10.0
    memory: int = 512 << 20
    # In the scratch folder, and as much again as shared memory; both are memory, beside `memory`.
    disk: int = 64 << 20
    files: int = 4096
    # Threads count too.
    processes: int = 32
    # Of stdout, and of stderr.
    output: int = 1 << 20


@dataclass(frozen=True)
class Ran:
    """How a program ended and what it wrote.

    `outcome` is "ok" for exit code 0, "exit" for another one, "signal" where a signal ended it,
    else the limit that it went beyond. `code` is the exit code, 128 and the signal's number after a
    signal, and null where it was ended at a limit. A program that exits with more than 128 by
    itself cannot be told from one that a signal ended.
    """

    outcome: Outcome
    code: int | None
    stdout: str
    stderr: str
    seconds: float
