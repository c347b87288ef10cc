"""What the Python programs print that a judge's tool `code` is given: they run in the sandbox only.

A program was written by a model that may obey what a completion told it, so it is a stranger's.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from prefdata import sandbox
from prefdata.errors import SandboxError
from prefdata.judge.tools import LONGEST, Refused
from prefdata.sandbox.jail import python

LONGEST_PROGRAM = 4000
_FILE = "program.py"
# Sets have one order in every run.
_COMMAND = ("/usr/bin/env", "PYTHONHASHSEED=0")
_OPTIONS = ("-s", "-B", "-X", "utf8", _FILE)
_ENDS = {"time": "it takes too long", "memory": "it takes too much memory",
         "disk": "it writes too much", "output": "it prints too much"}  # fmt: skip


def unavailable() -> str | None:
    """Why no program can be run here, and what to do; None if one can."""
    try:
        python()
    except SandboxError as error:
        return str(error)
    return sandbox.unavailable()


def printed(programs: Iterable[str], seconds: float) -> dict[str, str | Refused]:
    """What each program prints, or why that is no value; as many at once as there are cores."""
    asked = list(dict.fromkeys(programs))
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return dict(zip(asked, workers.map(partial(_printed, seconds=seconds), asked), strict=True))


def _printed(program: str, seconds: float) -> str | Refused:
    if len(program) > LONGEST_PROGRAM:
        return Refused(f"a program has at most {LONGEST_PROGRAM} characters")
    limits = sandbox.Limits(seconds=seconds, cpu_seconds=seconds, disk=16 << 20, files=256)
    try:
        ran = sandbox.run([*_COMMAND, python(), *_OPTIONS], {_FILE: program}, limits=limits)
    except SandboxError as error:
        return Refused(str(error))
    if ran.outcome in _ENDS:
        return Refused(_ENDS[ran.outcome])
    if ran.outcome != "ok":
        why = (ran.stderr.strip().splitlines() or [f"exit code {ran.code}"])[-1]
        return Refused(f"the program fails: {why[:LONGEST]}")
    value = ran.stdout.strip()
    if not value or len(value) > LONGEST:
        return Refused(f"the program prints {len(value)} characters; expected 1 to {LONGEST}")
    return value
