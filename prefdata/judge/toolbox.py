"""Run tools in a process of their own, a bounded time each.

A tool that does not end in time is killed with its process, and the next call gets a new one. The
process runs `prefdata.judge.tools` without the environment, the user's packages or this package.
Programs run before that, in the sandbox; the tool `code` is given what they print.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from prefdata.judge.programs import printed
from prefdata.judge.tools import Refused

SECONDS = 10.0
STARTING = 60.0
MOST = 1000
PROGRAM = Path(__file__).with_name("tools.py")


class Call(NamedTuple):
    """A tool, what it is given, and the value that is claimed for it."""

    tool: str
    input: str
    claimed: str


class Result(NamedTuple):
    """What a tool says; `verdict` and `error` are explained in `prefdata.judge.tools`."""

    observation: str | None = None
    verdict: str | None = None
    error: str | None = None


def run(
    calls: Sequence[Call],
    facts: Mapping[str, str] | None = None,
    *,
    seconds: float = SECONDS,
    program: Path = PROGRAM,
) -> dict[Call, Result]:
    """The result of each call; equal calls run once. None takes longer than `seconds`."""
    results: dict[Call, Result] = {}
    process: _Process | None = None
    values = printed((call.input for call in calls if call.tool == "code"), seconds)
    try:
        for call in dict.fromkeys(calls):
            given = values[call.input] if call.tool == "code" else call.input
            if isinstance(given, Refused):
                results[call] = Result(error=str(given))
                continue
            try:
                process = process or _Process(program, facts or {})
                results[call] = process.result(call._replace(input=given), seconds)
            except (OSError, ValueError, TypeError) as error:
                results[call] = Result(error=str(error) or type(error).__name__)
                if process:
                    process.kill()
                process = None
    finally:
        if process:
            process.kill()
    return results


class _Process:
    def __init__(self, program: Path, facts: Mapping[str, str]) -> None:
        self._running = subprocess.Popen(
            [sys.executable, "-I", "-S", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
        )
        try:
            self._send(dict(facts))
            self._line(STARTING)
        except BaseException:
            self.kill()
            raise

    def result(self, call: Call, seconds: float) -> Result:
        # Cut, so that a pipe takes it at once; a tool refuses what is that long.
        self._send({name: text[:MOST] for name, text in call._asdict().items()})
        return Result(**json.loads(self._line(seconds)))

    def _line(self, seconds: float) -> bytes:
        until = time.monotonic() + seconds
        assert self._running.stdout is not None
        out, line = self._running.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise TimeoutError(f"it took longer than {seconds:g} seconds")
            read = os.read(out, 1 << 16)
            if not read:
                raise ValueError("it ended without a result")
            line += read
        return line

    def _send(self, said: object) -> None:
        assert self._running.stdin is not None
        try:
            self._running.stdin.write(json.dumps(said).encode() + b"\n")
            self._running.stdin.flush()
        except BrokenPipeError as error:
            raise ValueError("it ended without a result") from error

    def kill(self) -> None:
        self._running.kill()
        for pipe in (self._running.stdin, self._running.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._running.wait()
