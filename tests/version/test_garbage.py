import errno
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from prefdata import locks, version
from prefdata.errors import VersionError
from prefdata.version import tags
from prefdata.version.garbage import garbage, remove
from prefdata.version.writing import aside


@pytest.fixture
def many(tmp_path, world):
    """Four versions of one dataset and two of another, each older than the next."""
    made = {}
    for name, sizes in (("mini", (2, 3, 4, 5)), ("other", (2, 3))):
        for at, n in enumerate(sizes):
            written = version.write(
                tmp_path, name, tables=world(n), exports={}, recipe_text="", resolved={}
            )
            file = written.path / "manifest.json"
            said = json.loads(file.read_text())
            said["created"] = f"2026-01-0{at + 1}T00:00:00+00:00"
            file.write_text(json.dumps(said))
            made[name, at] = version.find(tmp_path, f"{name}@{written.id}")
    return tmp_path, made


def ids(versions):
    return {each.ref for each in versions}


def test_it_lists_and_removes_nothing_by_itself(many):
    data, made = many
    found = garbage(data)
    assert ids(found.removable) == {made["mini", i].ref for i in range(3)} | {made["other", 0].ref}
    assert ids(version.listed(data)) == ids(made.values())
    assert found.bytes == sum(
        file.stat().st_size for each in found.removable for file in each.path.rglob("*.*")
    )


def test_what_is_tagged_or_newest_stays(many):
    data, made = many
    tags.put(made["mini", 0].path, "v1")
    gone = remove(garbage(data, keep=2))
    assert ids(gone) == {made["mini", 1].ref}
    left = {made["mini", i].ref for i in (0, 2, 3)} | {made["other", i].ref for i in (0, 1)}
    assert ids(version.listed(data)) == left
    assert version.find(data, "mini@v1").table("pairs").height
    assert not list((data / "versions").glob(".tmp-*"))


def test_what_is_tagged_between_looking_and_removing_stays(many):
    data, made = many
    found = garbage(data, "mini")
    tags.put(made["mini", 1].path, "late")
    assert ids(remove(found)) == {made["mini", 0].ref, made["mini", 2].ref}
    assert version.verify(made["mini", 1].path.parent / made["mini", 1].id)


def test_the_newest_that_is_whole_stays_beside_a_newer_partial_one(tmp_path, world):
    said = {"exports": {}, "recipe_text": "", "resolved": {}}
    whole = version.write(tmp_path, "v", tables=world(3), **said)
    missing = {"reason": "budget", "missing": {"annotate.pairwise": 7}, "go_on": "again"}
    version.write(tmp_path, "v", tables=world(2), partial=missing, **said)
    found = garbage(tmp_path)
    assert not found.removable
    assert {each.id: why for each, why in found.kept}[whole.id].endswith("not partial")


def test_young_versions_stay_where_it_is_said(many):
    data, _ = many
    assert not garbage(data, days=1e6).removable
    assert garbage(data, days=1).removable


def aged(path, days, *, file=None):
    """A folder with a file that was changed so many days ago, and `file` of now."""
    path.mkdir(parents=True)
    for name in filter(None, ("x", file)):
        (path / name).write_text("x")
    then = time.time() - days * 86400
    for each in (path / "x", path):
        os.utime(each, (then, then))
    return path


def test_what_was_left_goes_when_nobody_changed_it_for_long(many):
    data, _ = many
    gone = {
        aged(data / "versions/.tmp-old", 8),
        aged(data / "versions/.damaged-old", 15),
        aged(data / "versions/.tmp-elsewhere-7-01234567", 8),
        aged(data / "builds/recipe/run", 8),
    }
    stays = {
        aged(data / "versions/.tmp-young", 6),
        aged(data / "versions/.damaged-young", 13),
        aged(data / "versions/.tmp-elsewhere-7-89abcdef", 8, file="just now"),
        aged(data / "builds/recipe/another", 8, file="just now"),
    }
    found = garbage(data)
    assert set(found.left_over) == gone
    remove(found)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stays)


def test_what_this_machines_dead_have_left_goes_at_once(many, dead):
    data, _ = many
    left = aged(data / f"versions/.tmp-{dead}", 0)
    assert set(garbage(data).left_over) == {left}
    with aside(data / "versions"):  # any write
        assert not left.exists()


def test_what_another_machine_has_left_is_cleared_away_by_no_write(many):
    data, _ = many
    left = aged(data / "versions/.tmp-elsewhere-7-01234567", 30)
    with aside(data / "versions"):
        assert left.exists()


@pytest.fixture
def dead():
    """What a process of this machine that is gone would have called itself."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    return f"{locks.host()}-{gone.pid}-01234567"


def test_the_tables_of_a_run_stay_while_it_runs_whatever_a_clock_says(many):
    data, _ = many
    run = aged(data / "builds/recipe/run", 30)
    found = garbage(data)
    assert found.left_over == (run,)
    with locks.held(run):
        os.utime(run, (0, 0))
        assert garbage(data).left_over == ()
        remove(found)  # it was not yet held when it was found
        assert (run / "x").exists()


def test_two_who_remove_at_once_are_in_nobodys_way(many, monkeypatch):
    data, _ = many
    aged(data / "versions/.tmp-old", 8)
    found = garbage(data)
    real = Path.rename

    def renamed(self, to):
        there = real(self, to)
        shutil.rmtree(there)  # as a build does that writes a version
        return there

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renamed)
        assert len(remove(found)) == 4
    assert remove(found) == []


def test_what_may_not_be_removed_is_told_when_all_else_is_gone(many, monkeypatch):
    data, made = many
    theirs, mine = (aged(data / f"versions/.tmp-{name}", 8) for name in ("a", "b"))
    real = shutil.rmtree

    def rmtree(path, ignore_errors=False, **how):
        if path != theirs:
            real(path, ignore_errors=ignore_errors, **how)
        elif not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(VersionError, match=r"\.tmp-a cannot be removed: Permission denied; what"):
        remove(garbage(data))
    assert not mine.exists()
    assert ids(version.listed(data)) == {made["mini", 3].ref, made["other", 1].ref}


def test_what_is_still_written_is_left_however_old_a_clock_makes_it(many, monkeypatch):
    data, _ = many
    ahead = time.time() + 30 * 86400
    monkeypatch.setattr(time, "time", lambda: ahead)
    with aside(data / "versions") as one:
        with aside(data / "versions"):
            assert one.exists()
        assert garbage(data).left_over == ()
    assert not one.exists()


def test_what_may_not_be_read_is_another_users_and_stops_nobody(many, world, monkeypatch):
    data, _ = many
    theirs = data / "versions" / ".tmp-theirs"
    theirs.mkdir(0o700)
    os.utime(theirs, (0, 0))
    real = os.open

    def refused(path, *how, **more):
        if Path(os.fsdecode(path)) == theirs:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", refused)
    how = {"exports": {}, "recipe_text": "", "resolved": {}}
    assert version.write(data, "mini", tables=world(6), **how).is_new
    garbage(data)
    assert theirs.exists()


def test_wrong_wishes_are_refused(many):
    with pytest.raises(VersionError, match="at least 1"):
        garbage(many[0], keep=0)
    with pytest.raises(VersionError, match="did you mean 'mini'"):
        garbage(many[0], "minj")


def test_a_damaged_newest_version_does_not_let_the_last_sound_one_go(many):
    data, made = many
    (made["mini", 3].path / "pairs.parquet").unlink()
    found = garbage(data, "mini")
    kept = {each.ref: why for each, why in found.kept}
    assert "whole" in kept[made["mini", 2].ref]
    assert ids(found.removable) == {made["mini", 0].ref, made["mini", 1].ref}
    partial = made["mini", 2].path / "manifest.json"
    partial.write_text(json.dumps({**json.loads(partial.read_text()), "partial": {"missing": {}}}))
    assert made["mini", 1].ref in {each.ref for each, _ in garbage(data, "mini").kept}
