"""Who holds what is told alike of a file and a folder, and where a lock cannot tell."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prefdata import locks
from prefdata.errors import PrefdataError
from prefdata.people.store import Store

HOLDS = """
import os, sys
from prefdata import locks
assert locks.take(os.open(sys.argv[1], os.O_RDONLY))
print("held", flush=True)
sys.stdin.read()
"""
GONE = 4194305  # no process has this id


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Callable[[Path], "subprocess.Popen[str]"]:
    def held(path: Path) -> "subprocess.Popen[str]":
        code = [sys.executable, "-c", HOLDS, str(path)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(code, stdin=pipe, stdout=pipe, text=True)
        request.addfinalizer(process.kill)
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        return process

    return held


def on(where: str, pid: int, folder: Path) -> Path:
    path = folder / f"{where}-{pid}-00000000.ids"
    path.touch()
    return path


def without_locks(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_ends_with_its_process(
    kind: str, tmp_path: Path, hold: Callable[[Path], "subprocess.Popen[str]"]
):
    path = tmp_path / f".tmp-{locks.new_name()}"
    path.mkdir() if kind == "folder" else path.touch()
    assert locks.is_held(path) is False
    process = hold(path)
    assert locks.is_held(path) is True
    mine = os.open(path, os.O_RDONLY)
    assert not locks.take(mine)
    process.kill()
    process.wait()
    assert locks.is_held(path) is False
    assert locks.take(mine, seconds=locks.PROBED)
    assert locks.is_held(path) is True
    os.close(mine)
    assert locks.is_held(path) is False
    assert locks.is_held(tmp_path / "none") is False


def test_who_asks_needs_to_read_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another user's file, one on a read-only file system, one of NFS: none may be written."""
    path = on(locks.host(), GONE, tmp_path)
    mine = os.open(path, os.O_RDWR)
    assert locks.take(mine)
    opened = os.open

    def readable(name: Path, flags: int, *mode: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(name, flags, *mode)

    monkeypatch.setattr(os, "open", readable)
    assert locks.is_held(path) is True
    with pytest.raises(BlockingIOError), locks.alone(path):
        pass
    os.close(mine)
    assert locks.is_held(path) is False
    with locks.alone(path):
        assert locks.is_held(path) is True


def test_those_who_ask_at_once_do_not_take_each_other_for_the_holder(tmp_path: Path):
    path = on(locks.host(), GONE, tmp_path)
    asking = os.open(path, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert locks.is_held(path) is False
    os.close(asking)


def test_the_free_lock_of_another_machine_tells_nothing(tmp_path: Path):
    path = on("elsewhere", os.getpid(), tmp_path)
    assert locks.is_held(path) is None
    with locks.alone(path):
        assert locks.is_held(path) is True


@pytest.mark.parametrize("number", locks.ABSENT)
def test_without_locks_the_process_decides_on_its_own_machine(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    without_locks(number, monkeypatch)
    assert locks.is_held(on(locks.host(), os.getpid(), tmp_path)) is True
    assert locks.is_held(on(locks.host(), 1, tmp_path)) is True
    assert locks.is_held(on(locks.host(), GONE, tmp_path)) is False
    assert locks.is_held(on("elsewhere", GONE, tmp_path)) is None
    (tmp_path / "unnamed").touch()
    assert locks.is_held(tmp_path / "unnamed") is None
    with locks.alone(tmp_path / "lock"), locks.alone(tmp_path / "lock"):
        pass


def test_what_may_not_be_read_is_told_by_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    living, dead = (on(locks.host(), pid, tmp_path) for pid in (os.getpid(), GONE))
    (tmp_path / "unnamed").touch()

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    told = [locks.is_held(path) for path in (living, dead, tmp_path / "unnamed")]
    assert told == [True, False, None]


def test_a_disk_that_fails_is_not_one_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    without_locks(errno.EIO, monkeypatch)
    with pytest.raises(OSError, match="Input/output"), locks.alone(tmp_path / "lock"):
        pass


def test_what_people_answered_is_not_risked_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    without_locks(errno.ENOLCK, monkeypatch)
    with pytest.raises(PrefdataError, match=r"No locks available.*--data"):
        Store(tmp_path, "mini").take([])


def test_names_say_whose_they_are(monkeypatch: pytest.MonkeyPatch):
    own = locks.new_name()
    for name in (own, f".tmp-{own}", f"{own}.ids", f"0000000000000000001-{own}.jsonl"):
        assert locks.holder(Path(name)) == (locks.host(), os.getpid())
    for name in ("lock", "compact.lock", ".tmp-0123456789abcdef", f"{'0123456789ab' * 2}.jsonl"):
        assert locks.holder(Path(name)) == ("", 0)
    pods = ["prefdata-worker-7f9c6d5b4-abcde", "prefdata-worker-7f9c6d5b4-fghij"]
    told: set[str] = set()
    for pod in pods:
        monkeypatch.setattr("socket.gethostname", lambda pod=pod: pod)
        told.add(locks.host())
    assert len(told) == 2, "two machines whose names begin alike are two"
    assert all(len(each) == 20 for each in told)
