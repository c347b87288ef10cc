"""Versions that somebody half deleted or edited: each is told, and none stands in another's way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prefdata import cli, version
from prefdata.errors import VersionError
from prefdata.export.pairwise import pairwise
from prefdata.version import tags
from prefdata.version.story import anywhere


@pytest.fixture
def two(tmp_path: Path, world: Any) -> tuple[Path, Path, Path]:
    """A folder of data with an older and a newer version of one dataset."""
    made: list[Path] = []
    for n in (4, 6):
        frames = world(n)
        rows = pairwise(frames["prompts"], frames["completions"], frames["pairs"])
        how: dict[str, Any] = {"recipe_text": "", "resolved": {"stages": []}}
        written = version.write(tmp_path, "mini", tables=frames, exports={"pairwise": rows}, **how)
        made.append(written.path)
    return tmp_path, *made


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "manifest.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps(change(said) or said))


def command(data: Path, *words: str) -> tuple[int, str]:
    told = CliRunner().invoke(cli.app, [*words, "--data", str(data)], env={"COLUMNS": "300"})
    assert "not foreseen" not in told.output, told.output
    return told.exit_code, told.output


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a table is gone": lambda path: (path / "pairs.parquet").unlink(),
    "an export is gone": lambda path: shutil.rmtree(path / "pairwise" / "train"),
    "a table is cut": lambda path: (path / "pairs.parquet").write_bytes(b"PAR1"),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: (path / "manifest.json").write_text('{"name": "mi'),
    "no object": lambda path: (path / "manifest.json").write_text("[]"),
    "no judges": lambda path: edited(path, lambda said: said.pop("judges") and None),
    "no description": lambda path: edited(path, lambda said: {**said, "description": None}),
    "a format of words": lambda path: edited(path, lambda said: {**said, "format": "x"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_version_is_named_and_the_others_are_there(
    two: tuple[Path, Path, Path], damage: str
) -> None:
    data, sound, hurt = two
    DAMAGE[damage](hurt)
    code, said = command(data, "list")
    assert code == 0
    assert sound.name in said
    assert f"mini@{hurt.name} cannot be used" in said
    [(where, why)] = version.broken(data).items()
    assert where == hurt
    assert "build again" in why
    row = str(version.find(data, f"mini@{sound.name}").table("pairs")["pair_id"][0])
    assert anywhere(data, row)["version"] == f"mini@{sound.name}"
    for words in (["show"], ["diff", f"mini@{sound.name}"], ["check"], ["explain"]):
        last = [row] if words == ["explain"] else []
        command(data, *words, f"mini@{hurt.name}", *last)
    assert command(data, "gc", "--remove")[0] == 0
    assert version.verify(sound)


def test_whole_versions_are_not_called_damaged(two: tuple[Path, Path, Path]) -> None:
    data, *_ = two
    assert version.broken(data) == {}
    assert "cannot be used" not in command(data, "list")[1]


def test_what_lies_among_versions_and_is_none_is_left_alone(two: tuple[Path, Path, Path]) -> None:
    data, sound, _ = two
    home = sound.parent
    (home / "notes.txt").write_text("mine")
    (home / "a folder").mkdir()
    (home.parent / "Wei rd").mkdir()
    (home.parent / "file").write_text("x")
    assert version.broken(data) == {}
    command(data, "gc", "--remove")
    assert (home / "notes.txt").read_text() == "mine"
    assert (home / "a folder").is_dir()


def test_tags_that_are_none_or_lead_nowhere_are_told(two: tuple[Path, Path, Path]) -> None:
    data, sound, hurt = two
    home = sound.parent
    tags.put(hurt, "v2")
    (home / "tags" / "folder").mkdir()
    (home / "tags" / "raw").write_bytes(b"\xff\xfe")
    (home / "tags" / "out").write_text("../../..")
    assert tags.tags(home) == {"v2": hurt.name}
    assert command(data, "list")[0] == 0
    assert command(data, "gc")[0] == 0
    for tag in ("folder", "raw", "out"):
        with pytest.raises(VersionError, match="has no tag"):
            version.find(data, f"mini@{tag}")
    shutil.rmtree(hurt)
    with pytest.raises(VersionError, match="not there any more"):
        version.find(data, "mini@v2")
    tags.put(sound, "v2", move=True)
    assert version.find(data, "mini@v2").path == sound
    shutil.rmtree(sound)
    assert tags.remove(home, "v2") == sound.name


@pytest.mark.parametrize(
    "name", ["../x", "a b", "ünï", "", "mini@../x", "mini@", "x/y", "mini@v 1", "mini@\u202ev", "."]
)
def test_odd_names_are_told(two: tuple[Path, Path, Path], name: str) -> None:
    data, *_ = two
    before = sorted(data.rglob("*"))
    for words in (
        ["show", name],
        ["diff", "mini", name],
        ["explain", name, "abcd"],
        ["tag", name, "v1"],
        ["tag", "mini", name],
        ["gc", name, "--remove"],
    ):
        code, said = command(data, *words)
        assert code in (1, 2), (words, said)
    assert sorted(data.rglob("*")) == before


def test_a_version_without_rows_can_be_looked_at(two: tuple[Path, Path, Path]) -> None:
    data, sound, _ = two
    version.write(data, "bare", tables={}, exports={}, recipe_text="", resolved={})
    for words in (
        ["list"],
        ["show", "bare"],
        ["diff", "bare", "bare"],
        ["diff", "bare", f"mini@{sound.name}"],
        ["diff", "mini", "bare"],
        ["tag", "bare", "v1"],
        ["gc"],
    ):
        assert command(data, *words)[0] == 0, words
    assert "0" in command(data, "list")[1]
    assert command(data, "check", "bare")[0] == 1
    assert command(data, "explain", "bare", "abcd")[0] == 1
