"""A claim of the living stands, whoever looks at what moment and whose file it is."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from prefdata import locks
from prefdata.models.claims import Claims

IDS = [f"{i:020x}" for i in range(7)]


def wait(claims: Claims, still: float = 0.0) -> bool:
    """Whether nobody asks these any more; not where who asks stands still for so long."""
    with patch("prefdata.models.claims.STILL", still):
        return claims.wait(IDS, answered=lambda: 0, check=lambda: None, tell=lambda n, by: None)


def test_what_one_claims_no_other_does(tmp_path: Path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    with one.claimed(IDS[:5]) as ones, other.claimed(IDS) as others:
        assert (ones, others) == ({*IDS[:5]}, {*IDS[5:]})
    assert wait(other)
    assert [path.name for path in one.folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("step", ["open", "take", "write", "rename"])
def test_whoever_looks_while_a_claim_is_made_leaves_it(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Somebody who waits looks without the lock of those who claim: between any two steps."""
    one, waiting, third = (Claims(tmp_path) for _ in range(3))
    place, name = {
        "open": (os, "open"),
        "take": (locks, "take"),
        "write": (os, "write"),
        "rename": (Path, "rename"),
    }[step]
    real, looks = getattr(place, name), list[str]()

    def watched(*arguments: object, **how: object) -> object:
        if looks and looks[-1] == "looking":
            return real(*arguments, **how)
        looks.append("looking")
        wait(waiting)
        done = real(*arguments, **how)
        wait(waiting)
        looks.append("looked")
        return done

    monkeypatch.setattr(place, name, watched)
    with one.claimed(IDS) as ones:
        monkeypatch.undo()
        assert ones == {*IDS}
        assert looks
        assert not wait(Claims(tmp_path), still=-1.0)
        with third.claimed(IDS) as thirds:
            assert not thirds


def test_who_answers_slowly_is_waited_for_and_who_stands_still_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not an answer comes for an hour; of two claims one moves, and the other is doubted."""
    slow, halted, waiting = (Claims(tmp_path) for _ in range(3))
    clock, looks, left = [0.0], list[str](), ExitStack()
    monkeypatch.setattr(
        "prefdata.models.claims.time",
        SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda _: None),
    )
    left.enter_context(slow.claimed(IDS[:3]))
    (moving,) = slow.folder.glob("*.ids")

    def tell(n: int, by: str) -> None:
        looks.append(by)
        clock[0] += 30.0
        os.utime(moving, (clock[0], clock[0]))
        if clock[0] > 3600:
            left.close()

    def told(n: int) -> int:
        return sum(by.count("another build") == n for by in looks)

    with halted.claimed(IDS[3:5]):
        is_sound = waiting.wait(IDS, answered=lambda: 0, check=lambda: None, tell=tell)
        assert not is_sound
        assert (told(2), told(1)) == (4, 117)
        with waiting.claimed(IDS) as taken:
            assert taken == {*IDS}


def test_a_claim_moves_while_its_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prefdata.models.claims.BEAT", 0.001)
    claims, until = Claims(tmp_path), time.monotonic() + 20
    with claims.claimed(IDS):
        (path,) = claims.folder.glob("*.ids")
        seen = {path.stat().st_mtime_ns}
        while len(seen) < 3 and time.monotonic() < until:
            seen.add(path.stat().st_mtime_ns)
    assert len(seen) == 3


def test_of_another_machine_the_touch_tells_who_lives(tmp_path: Path):
    """Its lock may not be seen: what was touched a moment ago is a claim."""
    here = Claims(tmp_path)
    here.folder.mkdir()
    theirs = here.folder / "elsewhere-1-00000000.ids"
    theirs.write_bytes("".join(IDS[:5]).encode())
    now = theirs.stat().st_mtime
    for age, left in ((0, {*IDS[5:]}), (50, {*IDS[5:]}), (70, {*IDS})):
        os.utime(theirs, (now - age, now - age))
        with here.claimed(IDS) as mine:
            assert mine == left, age
        assert theirs.exists(), "it is not ours to clear away"


def readable_only(of: Callable[[Path], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have some files be another user's: they may be read, not written and not removed."""
    opened, unlink = os.open, Path.unlink

    def refuse(path: Path) -> None:
        if of(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def opening(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY) and Path(path).exists():
            refuse(Path(path))
        return opened(path, flags, mode)

    def removing(path: Path, missing_ok: bool = False) -> None:
        refuse(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(Path, "unlink", removing)


def test_another_users_claim_stands_while_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    theirs, mine = Claims(tmp_path), Claims(tmp_path)
    with theirs.claimed(IDS[:5]):
        there = {*theirs.folder.iterdir()}
        with monkeypatch.context() as patch:
            readable_only(lambda path: path in there, patch)
            assert not wait(Claims(tmp_path), still=-1.0)
            with mine.claimed(IDS) as left:
                assert left == {*IDS[5:]}
                with theirs.claimed(IDS) as nothing:
                    assert nothing == set(), "what is claimed here is seen as well"
        assert there <= {*theirs.folder.iterdir()}


def test_another_users_dead_claim_stands_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mine = Claims(tmp_path)
    mine.folder.mkdir()
    dead = mine.folder / f"{locks.host()}-4194305-00000000.ids"
    dead.write_bytes("".join(IDS).encode())
    with monkeypatch.context() as patch:
        readable_only(lambda path: path == dead, patch)
        assert wait(mine)
        with mine.claimed(IDS) as left:
            assert left == {*IDS}
    with mine.claimed(IDS):
        assert not dead.exists()
