import os

import pytest

from prefdata import version
from prefdata.errors import VersionError
from prefdata.version import tags


@pytest.fixture
def two(tmp_path, world):
    """Two versions of one dataset, the older first."""
    made = []
    for n in (4, 5):
        written = version.write(
            tmp_path, "mini", tables=world(n), exports={}, recipe_text="", resolved={}
        )
        made.append(version.find(tmp_path, f"mini@{written.id}"))
    return tmp_path, *made


def test_a_tag_means_its_version_and_no_other(two):
    data, old, new = two
    assert tags.put(old.path, "v3") is None
    assert version.find(data, "mini@v3").id == old.id
    assert version.find(data, "mini").id == new.id
    assert (old.tags, new.tags) == (["v3"], [])
    assert version.load("mini@v3", "prompts", data).height == 4


def test_a_tag_is_on_the_disk_before_it_has_its_name(two, monkeypatch):
    _, old, new = two
    real, synced = os.fsync, []

    def fsync(file):
        real(file)
        synced.append(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    for version_of, move in ((old, False), (new, True)):
        synced.clear()
        tags.put(version_of.path, "v3", move=move)
        folder = version_of.path.parent / "tags"
        assert synced[:2] == [(folder / "v3").stat().st_ino, folder.stat().st_ino]


def test_tagging_changes_no_version(two):
    data, old, _ = two
    before = (old.path / "manifest.json").read_bytes()
    tags.put(old.path, "v3")
    assert (old.path / "manifest.json").read_bytes() == before
    assert version.verify(old.path).id == old.id
    assert {each.id for each in version.listed(data)} == {old.id, two[2].id}


def test_a_tag_is_moved_only_on_purpose(two):
    data, old, new = two
    tags.put(old.path, "v3")
    with pytest.raises(VersionError, match="--move"):
        tags.put(new.path, "v3")
    assert version.find(data, "mini@v3").id == old.id
    assert tags.put(new.path, "v3", move=True) == old.id
    assert version.find(data, "mini@v3").id == new.id
    assert tags.put(new.path, "v3") == new.id
    assert [file.name for file in (old.path.parent / "tags").iterdir()] == ["v3"]


def test_a_tag_that_is_gone_or_unknown_is_said_with_the_nearest(two):
    data, old, _ = two
    tags.put(old.path, "v3")
    with pytest.raises(VersionError, match=r"no tag 'v4'; did you mean 'v3'"):
        version.find(data, "mini@v4")
    assert tags.remove(old.path.parent, "v3") == old.id
    with pytest.raises(VersionError, match="no tag 'v3'"):
        version.find(data, "mini@v3")


@pytest.mark.parametrize("bad", ["abc", "12", "deadbeef", "../x", "a/b", "", ".x", "-v", "v" * 65])
def test_what_looks_like_an_id_or_a_path_is_no_tag(two, bad):
    with pytest.raises(VersionError, match="is no tag"):
        tags.put(two[1].path, bad)
