import errno
import json
import os
import time
from pathlib import Path

import pytest

from prefdata import version
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


def test_what_killed_builds_left_goes_when_it_is_old(many):
    data, _ = many
    for name, age in ((".tmp-old", 2), (".tmp-young", 0), (".damaged-old", 15), (".damaged", 2)):
        folder = data / "versions" / name
        folder.mkdir()
        (folder / "x").write_text("x")
        then = time.time() - age * 86400
        os.utime(folder, (then, then))
    found = garbage(data)
    assert {path.name for path in found.left_over} == {".tmp-old", ".damaged-old"}
    remove(found)
    assert {path.name for path in (data / "versions").glob(".*")} == {".tmp-young", ".damaged"}


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
