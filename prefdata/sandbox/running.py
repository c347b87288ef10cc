"""Start a program in the sandbox, watch what it uses, and end it with all that it started."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from typing import BinaryIO

from prefdata.errors import SandboxError
from prefdata.sandbox.calls import filtering
from prefdata.sandbox.jail import jailed
from prefdata.sandbox.limits import Limits, Outcome, Ran
from prefdata.sandbox.watching import Watching

# How often it is looked what a program uses.
EVERY = 0.02
STARTING = 60.0
CHUNK = 1 << 16
NOBODY = 65534
_ENDED_BY: Mapping[int, Outcome] = {signal.SIGXCPU: "time", signal.SIGXFSZ: "disk"}


def run(
    command: Sequence[str],
    files: Mapping[str, str | bytes] | None = None,
    *,
    limits: Limits | None = None,
    stdin: bytes = b"",
) -> Ran:
    """What a command does in the sandbox; `files` are put into its folder.

    Raises `SandboxError` where there is no sandbox; the command is not run then.
    """
    if sys.platform != "linux":
        raise SandboxError(
            f"there is no sandbox on {sys.platform}: it is made of Linux's namespaces; run it in a "
            "virtual machine with Linux"
        )
    with ExitStack() as opened:
        contents = {name: _content(data, opened) for name, data in (files or {}).items()}
        told, tells = _pipe(opened)
        calls, gate = _pipe(opened)
        rules = filtering()
        words = jailed(
            command,
            {name: file.fileno() for name, file in contents.items()},
            limits := limits or Limits(),
            calls=calls.fileno(),
            status=tells.fileno(),
        )
        handed = [file.fileno() for file in (*contents.values(), tells, calls)]
        process = _begun(words, handed, _content(stdin, opened))
        opened.callback(_close, process)
        for file in (*contents.values(), tells, calls):
            file.close()
        return _watched(process, told, gate, rules, limits)


@cache
def unavailable() -> str | None:
    """Why programs cannot be run here, and what to do about it; None if they can."""
    try:
        ran = run(["/usr/bin/true"])
    except SandboxError as error:
        return str(error)
    return None if ran.outcome == "ok" else f"a program that does nothing ended by {ran.outcome}"


def _begun(words: Sequence[str], handed: Sequence[int], stdin: BinaryIO) -> subprocess.Popen[bytes]:
    # Who is root outside may write inside what is root's, as /proc/sys: root's programs are nobody.
    is_root = os.geteuid() == 0
    try:
        return subprocess.Popen(
            words,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=handed,
            # bubblewrap's own process is seen from inside, with the environment it began with.
            env={},
            cwd="/",
            start_new_session=True,
            user=NOBODY if is_root else None,
            group=NOBODY if is_root else None,
            extra_groups=[] if is_root else None,
        )
    except OSError as error:
        raise SandboxError(
            f"there is no sandbox on this machine: {words[0]} cannot be started: {error}"
        ) from error


def _content(data: str | bytes, opened: ExitStack) -> BinaryIO:
    file = opened.enter_context(os.fdopen(os.memfd_create("file"), "r+b", buffering=0))
    left = memoryview(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    while left:
        left = left[os.write(file.fileno(), left) :]
    file.seek(0)
    return file


def _pipe(opened: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    reads, writes = os.pipe()
    reading = opened.enter_context(os.fdopen(reads, "rb", buffering=0))
    return reading, opened.enter_context(os.fdopen(writes, "wb", buffering=0))


def _close(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def _watched(
    process: subprocess.Popen[bytes],
    told: BinaryIO,
    gate: BinaryIO,
    rules: bytes,
    limits: Limits,
) -> Ran:
    heard = _Heard(process, told, limits.output)
    said = told.readline() if _is_ready(told, STARTING) else b""
    if not said:
        process.kill()
        heard.rest()
        raise _no_sandbox(heard.text("stderr"))
    # The first process of the sandbox: with it ends every other one, before it can be waited for.
    # bubblewrap waits for the filter and runs nothing without, so the program has not begun yet; it
    # never does if this process ends now.
    first: int = json.loads(said)["child-pid"]
    with (
        os.fdopen(os.pidfd_open(first), "rb", buffering=0) as handle,
        Watching(first, limits) as watching,
    ):
        try:
            began = time.monotonic()
            while not watching.is_ready() and not _is_ready(handle, EVERY / 10):
                if time.monotonic() - began > STARTING:
                    break
            began = time.monotonic()
            with suppress(BrokenPipeError), gate:
                gate.write(rules if watching.is_ready() else b"")
            beyond = _beyond(heard, watching, began, limits)
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle.fileno(), signal.SIGKILL)
            _is_ready(handle)
        seconds = time.monotonic() - began
    process.wait()
    late = heard.rest()
    beyond = beyond or late
    ended = told.readline()
    if not ended and beyond is None:
        raise _no_sandbox(heard.text("stderr"))
    code = None if beyond else int(json.loads(ended)["exit-code"])
    outcome = beyond or _outcome(code or 0)
    return Ran(outcome, code, heard.text("stdout"), heard.text("stderr"), seconds)


def _outcome(code: int) -> Outcome:
    if code <= 128:
        return "exit" if code else "ok"
    return _ENDED_BY.get(code - 128, "signal")


def _no_sandbox(said: str) -> SandboxError:
    return SandboxError(
        f"bubblewrap makes no sandbox on this machine: {said.strip()[-500:] or 'it said nothing'}; "
        "it needs version 0.8 or newer, user namespaces (sysctl user.max_user_namespaces, on some "
        "systems kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_userns) "
        "and, in a container, the right to make them"
    )


def _is_ready(file: BinaryIO, seconds: float | None = None) -> bool:
    """Whether there is something to read, or an end, within a time.

    `select` would take none but the first 1024 descriptors of a process.
    """
    ready = select.poll()
    ready.register(file, select.POLLIN)
    return bool(ready.poll(None if seconds is None else seconds * 1000))


def _beyond(heard: "_Heard", watching: Watching, began: float, limits: Limits) -> Outcome | None:
    """The limit that a program goes beyond, once it does; None once it has ended by itself."""
    looked = 0.0
    while not heard.some(EVERY):
        if heard.is_too_much:
            return "output"
        now = time.monotonic()
        if now - began > limits.seconds:
            return "time"
        if now - looked >= EVERY:
            looked = now
            if beyond := watching.beyond():
                return beyond
    return None


class _Heard:
    """What a program writes, each stream up to a limit."""

    def __init__(self, process: subprocess.Popen[bytes], told: BinaryIO, most: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.is_too_much = False
        self._texts = {"stdout": bytearray(), "stderr": bytearray()}
        self._open = {process.stdout.fileno(): "stdout", process.stderr.fileno(): "stderr"}
        self._told = told.fileno()
        self._most = most
        self._ready = select.poll()
        for file in (*self._open, self._told):
            self._ready.register(file, select.POLLIN)
            # The program may read a pipe of its own before we do, and nobody may wait for that.
            os.set_blocking(file, file == self._told)

    def some(self, seconds: float) -> bool:
        """Read what there is, waiting at most so long; whether bubblewrap has told an exit code."""
        ready = [file for file, _ in self._ready.poll(seconds * 1000)]
        for file in ready:
            if file in self._open:
                self._read(file)
        return self._told in ready

    def rest(self) -> Outcome | None:
        """Read to the end, when nobody writes any more; "output" if there was more than may be."""
        self._ready.unregister(self._told)
        while self._open and not self.is_too_much:
            for file, _ in self._ready.poll():
                self._read(file)
        return "output" if self.is_too_much else None

    def text(self, stream: str) -> str:
        return bytes(self._texts[stream][: self._most]).decode("utf-8", "replace")

    def _read(self, file: int) -> None:
        try:
            read = os.read(file, CHUNK)
        except BlockingIOError:
            return
        if not read:
            self._ready.unregister(file)
            del self._open[file]
            return
        text = self._texts[self._open[file]]
        text += read
        self.is_too_much = self.is_too_much or len(text) > self._most
