"""Hostile programs end as they should and leave nothing behind; others just run.

The programs are the files in `hostile`. A first line says how one may end and what it tries; one
that gets what it tries prints ESCAPED.
"""

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from prefdata import sandbox
from prefdata.errors import SandboxError
from prefdata.sandbox import Limits, running
from prefdata.sandbox.jail import python

FILES = sorted((Path(__file__).parent / "hostile").glob("*.py"))
LIMITS = Limits(
    seconds=2, cpu_seconds=1, memory=128 << 20, disk=16 << 20, files=500, processes=16,
    output=1 << 16,
)  # fmt: skip
CANARY = "canary-of-the-environment"
isolated = pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a program would like to reach, told to it."""
    monkeypatch.setenv("PREFDATA_CANARY", CANARY)
    token = uuid.uuid4().hex
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o644)
    port = socket.create_server(("127.0.0.1", 0))
    by_path, by_name = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    by_path.bind(str(tmp_path / "s"))
    by_name.bind("\0" + token)
    for listening in (by_path, by_name):
        listening.listen()
    yield {
        "token": token,
        "secret": str(secret),
        "marker": str(tmp_path / f"marker-{token}"),
        "port": port.getsockname()[1],
        "socket": str(tmp_path / "s"),
        "pid": os.getpid(),
    }
    for listening in (port, by_path, by_name):
        listening.close()


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def left_behind(token: str) -> list[str]:
    """Processes and files that bear a program's token."""
    lines = [
        file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for file in Path("/proc").glob("[0-9]*/cmdline")
        if file.exists()
    ]
    folders = [
        Path(name) for name in ("/tmp", "/dev/shm", "/var/tmp", Path.cwd(), Path.home(), "/")
    ]
    files = [str(file) for folder in folders for file in folder.iterdir()]
    return [each for each in (*lines, *files) if token in each or ".bubblewrap" in each]


@isolated
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_hostile_program_ends_as_it_should_and_leaves_nothing(file: Path, host: dict[str, Any]):
    allowed = re.match(r"# ([a-z, ]+): ", file.read_text())
    assert allowed
    before, open_before = mounts(), set(os.listdir("/proc/self/fd"))
    ran = sandbox.run(
        [python(), "program.py", host["token"]],
        {"program.py": file.read_bytes(), "host.json": json.dumps(host)},
        limits=LIMITS,
    )
    said = ran.stdout + ran.stderr
    assert ran.outcome in allowed[1].split(", "), (ran.outcome, ran.code, said[-1000:])
    assert "ESCAPED" not in said
    assert CANARY not in said
    assert max(len(ran.stdout), len(ran.stderr)) <= LIMITS.output
    assert ran.seconds < LIMITS.seconds + 2
    assert mounts() == before
    assert set(os.listdir("/proc/self/fd")) == open_before
    assert not Path(host["marker"]).exists()
    assert left_behind(host["token"]) == []


def as_a_user(work: Callable[[], sandbox.Ran]) -> sandbox.Ran:
    """What comes of it where who asks is not root, so that what it opens is the program's too."""
    if os.geteuid():
        return work()
    reads, writes = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(running.NOBODY)
            os.setuid(running.NOBODY)
            os.write(writes, json.dumps(asdict(work())).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as told:
        said = told.read()
    os.waitpid(child, 0)
    assert said, "it did not come back"
    return sandbox.Ran(**json.loads(said))


AS_A_USER = [
    *("steals_its_output", "dead_first_process", "dead_first_thread", "page_tables"),
    *("lies_about_its_end", "memory_of_many", "inode_filler"),
]


@isolated
@pytest.mark.parametrize("name", AS_A_USER)
def test_programs_of_who_is_not_root_end_as_they_should(name: str, host: dict[str, Any]):
    (file,) = [each for each in FILES if each.stem == name]
    files = {"program.py": file.read_bytes(), "host.json": json.dumps(host)}
    command = [python(), "program.py", host["token"]]
    ran = as_a_user(lambda: sandbox.run(command, files, limits=LIMITS))
    assert ran.outcome in file.read_text()[2:].partition(":")[0].split(", "), ran
    assert "ESCAPED" not in ran.stdout
    assert ran.seconds < LIMITS.seconds + 2
    assert left_behind(host["token"]) == []


def test_output_that_the_program_takes_back_is_not_waited_for():
    """It was there when it was looked, and is not when it is read."""
    process = subprocess.Popen(["sleep", "1000"], stdout=-1, stderr=-1, bufsize=0)
    reads, writes = os.pipe()
    try:
        with os.fdopen(reads, "rb", buffering=0) as told:
            heard = running._Heard(process, told, 100)
            assert process.stdout is not None
            reading = threading.Thread(target=heard._read, args=[process.stdout.fileno()])
            reading.start()
            reading.join(30)
            assert not reading.is_alive()
    finally:
        process.kill()
        process.communicate()
        os.close(writes)


@isolated
def test_processor_time_that_nobody_is_charged_for_counts():
    (file,) = [each for each in FILES if each.stem == "burns_unseen"]
    limits = replace(LIMITS, seconds=100)
    ran = sandbox.run([python(), "p.py"], {"p.py": file.read_bytes()}, limits=limits)
    assert ran.outcome == "time"
    assert ran.seconds < limits.seconds


@isolated
def test_it_runs_where_more_than_a_thousand_files_are_open():
    """As while many requests are in flight; `select` would take none of its files then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held: list[int] = []
    try:
        while not held or held[-1] < 1100:
            held.append(os.open(os.devnull, os.O_RDONLY))
        assert sandbox.run(["/usr/bin/true"]).outcome == "ok"
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_there_are_at_least_thirty_hostile_programs():
    assert len(FILES) >= 30


@isolated
def test_a_program_reads_its_files_and_input_and_writes_its_folder():
    ran = sandbox.run(
        ["/usr/bin/env", "bash", "-c", "cat a/b.txt - > c; cat c; echo oh >&2; exit 7"],
        {"a/b.txt": "wörld\n"},
        stdin=b"and\n",
    )
    assert (ran.outcome, ran.code, ran.stdout, ran.stderr) == ("exit", 7, "wörld\nand\n", "oh\n")


@isolated
def test_programs_that_mean_no_harm_run():
    code = (
        "import concurrent.futures as c, tempfile, threading, sqlite3, decimal, multiprocessing\n"
        "with tempfile.NamedTemporaryFile() as f: f.write(b'x' * 10**6)\n"
        "if __name__ == '__main__':\n"
        "    with c.ProcessPoolExecutor(3) as pool: print(sum(pool.map(abs, range(-9, 9))))\n"
        "    with c.ThreadPoolExecutor(3) as pool: print(sum(pool.map(abs, range(-9, 9))))\n"
        "    print(sqlite3.connect('a.db').execute('select 6 * 7').fetchone()[0])\n"
    )
    ran = sandbox.run([python(), "p.py"], {"p.py": code})
    assert (ran.outcome, ran.stdout) == ("ok", "81\n81\n42\n"), ran


@isolated
def test_processes_of_one_program_may_share_memory_and_talk():
    code = (
        "import asyncio, mmap, multiprocessing as m, tempfile\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "def more(value, queue): value.value += 1; queue.put('done')\n"
        "async def said():\n"
        "    ran = await asyncio.create_subprocess_exec('echo', 'hi', stdout=-1)\n"
        "    return (await ran.communicate())[0].decode().strip()\n"
        "if __name__ == '__main__':\n"
        "    value, queue = m.Value('i', 0), m.Queue()\n"
        "    m.Process(target=more, args=(value, queue)).start(); print(queue.get(), value.value)\n"
        "    held = SharedMemory(create=True, size=9); held.buf[0] = 5; print(held.buf[0])\n"
        "    held.close(); held.unlink()\n"
        "    with tempfile.TemporaryFile() as file:\n"
        "        file.truncate(9); print(len(mmap.mmap(file.fileno(), 9)))\n"
        "    with m.Manager() as manager: print(manager.dict(a=1))\n"
        "    print(asyncio.run(said()), open('/dev/zero', 'rb').read(2))\n"
    )
    ran = sandbox.run([python(), "p.py"], {"p.py": code})
    said = "done 1\n5\n9\n{'a': 1}\nhi b'\\x00\\x00'\n"
    assert (ran.outcome, ran.stdout) == ("ok", said), ran


@isolated
@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 128, 255])
def test_the_last_words_are_heard_and_the_code_is_told(code: int):
    """More than a pipe holds, by several processes, and the end right after it."""
    source = (
        "import os\n"
        "for at in range(4):\n"
        "    if os.fork() == 0: os.write(1, b'x' * 30_000); os._exit(0)\n"
        "for at in range(4): os.wait()\n"
        f"os.write(1, b'y' * 65_536); os.write(2, b'z'); os._exit({code})\n"
    )
    ran = sandbox.run([python(), "p.py"], {"p.py": source})
    assert ran.code == code
    assert ran.outcome == ("ok" if code == 0 else "exit" if code <= 128 else "signal")
    assert ran.stdout == "x" * 120_000 + "y" * 65_536
    assert ran.stderr == "z"


@isolated
def test_two_programs_do_not_see_each_other():
    for _ in range(2):
        ran = sandbox.run(
            ["/usr/bin/env", "bash", "-c", "ls; ls /dev/shm; touch left /dev/shm/left"]
        )
        assert ran.outcome == "ok"
        assert ran.stdout == ""


@isolated
def test_a_program_that_is_not_there_is_an_exit():
    ran = sandbox.run(["/usr/bin/no-such-program"])
    assert (ran.outcome, ran.code) == ("exit", 127)
    assert "no-such-program" in ran.stderr


@isolated
def test_what_went_on_ends_with_the_one_who_asked():
    """The asking process is killed in the middle; the kernel ends the sandbox."""
    token = uuid.uuid4().hex
    code = (
        "import sys; from prefdata import sandbox\n"
        "sandbox.run(['/usr/bin/env', 'bash', '-c', 'echo; sleep 1000; ' + sys.argv[1]])\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", code, token])
    try:
        while not any(line.startswith("bash ") for line in left_behind(token)):
            assert asking.poll() is None
    finally:
        asking.kill()
        asking.wait()
    for _ in range(1000):
        if not left_behind(token):
            break
    assert left_behind(token) == []


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "", ".", "nul\0"])
def test_a_file_is_put_nowhere_but_in_the_folder(name: str):
    with pytest.raises(SandboxError, match="relative path"):
        sandbox.run(["/usr/bin/true"], {name: "x"})


def test_without_a_tool_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SandboxError, match="bubblewrap is not installed; install it"):
        sandbox.run(["/usr/bin/touch", str(tmp_path / "run")])
    running.unavailable.cache_clear()
    assert "bubblewrap is not installed" in (sandbox.unavailable() or "")
    running.unavailable.cache_clear()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mode", "said"),
    [(0o755, "No permissions to create new namespace; it needs"), (0o644, "cannot be started")],
)
def test_a_tool_that_cannot_isolate_is_a_refusal_with_its_reason(
    mode: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # where nobody, as whom root's programs run, may look
        fake = Path(folder) / "bwrap"
        fake.write_text("#!/bin/sh\necho No permissions to create new namespace >&2\nexit 1\n")
        fake.chmod(mode)
        monkeypatch.setattr(shutil, "which", lambda _: str(fake))
        with pytest.raises(SandboxError, match=said):
            sandbox.run(["/usr/bin/touch", str(tmp_path / "run")])
    assert not list(tmp_path.iterdir())


@isolated
def test_without_its_filter_no_program_begins(monkeypatch: pytest.MonkeyPatch):
    """As when the one who asked is gone before the filter was handed over."""
    monkeypatch.setattr(running, "filtering", lambda: b"")
    with pytest.raises(SandboxError, match="SECCOMP"):
        sandbox.run(["/usr/bin/env", "bash", "-c", "sleep 1000"])
