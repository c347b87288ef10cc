"""What the doctor moves aside: what is surely damaged, and nothing that is sound or not its own."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prefdata
from prefdata.doctor import examine
from prefdata.finding import Finding

RECIPE = """
name = "planted"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[[stages]]
use = "generate.sample"
model = "writer"
n = 2
"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The folder of a version in the folder `data`."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Say one."}\n{"prompt": "Say two."}\n')
    (tmp_path / "planted.toml").write_text(RECIPE)
    return Path(prefdata.build(tmp_path / "planted.toml", data=tmp_path / "data").path)


def told(built: Path, *, repair: bool = False) -> dict[str, Finding]:
    findings = examine(data=built.parents[2], repair=repair).findings
    return {each.check: each for each in findings}


def aside(built: Path) -> list[Path]:
    return [*built.parents[1].glob(".damaged-*")]


def newer(path: Path) -> None:
    said = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**said, "format": 99, "prefdata": "9.9"}))


SOUND: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a later format": (newer, "was written by prefdata 9.9; upgrade to it"),
    "edited": (lambda path: (path / "README.md").write_text("x"), "somebody edited it"),
    "a file more": (lambda path: (path / "note.txt").write_text("x"), "is not of this version"),
    "a copy": (lambda path: shutil.copytree(path, path.with_name(f"{path.name}.bak")), ""),
    "a year": (lambda path: path.with_name("2026").mkdir(), ""),
}


@pytest.mark.parametrize("change", SOUND)
def test_what_is_sound_or_no_version_stays_where_it_is(built: Path, change: str):
    make, says = SOUND[change]
    make(built)
    before = sorted(built.parents[1].rglob("*"))
    found = told(built, repair=True)
    assert sorted(built.parents[1].rglob("*")) == before
    about = f"planted@{built.name}"
    assert (about in found) is bool(says)
    if says:
        assert found[about].level == "warning"
        assert says in found[about].says


def test_what_cannot_be_read_just_now_stays_where_it_is(
    built: Path, monkeypatch: pytest.MonkeyPatch
):
    real = Path.open

    def opened(self: Path, *how: Any, **more: Any) -> Any:
        if self.name == "prompts.parquet":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))
        return real(self, *how, **more)

    monkeypatch.setattr(Path, "open", opened)
    found = told(built, repair=True)
    assert "cannot be read" in found[f"planted@{built.name}"].says
    assert found["versions"].level == "warning"
    assert "0 of 1" in found["versions"].says
    assert not aside(built)


def test_what_is_moved_aside_is_no_garbage_yet(built: Path):
    (built / "prompts.parquet").unlink()
    os.utime(built, (0, 0))
    assert told(built)["versions"].level == "warning"
    found = told(built, repair=True)
    assert found[f"planted@{built.name}"].level == "ok"
    assert found["versions"].level == "ok"
    (moved,) = aside(built)
    assert "left over" not in found
    from prefdata.version import garbage

    garbage.remove(garbage.garbage(built.parents[2]))
    assert moved.is_dir()


def read_only(patch: pytest.MonkeyPatch) -> None:
    """A store in which nothing can be written."""
    real = os.open

    def opened(path: Any, flags: int, *how: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *how, **more)

    def renamed(self: Path, *_: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    patch.setattr(os, "open", opened)
    patch.setattr(Path, "rename", renamed)
    patch.setattr(os, "utime", renamed)


def test_in_a_store_that_may_only_be_read_all_is_looked_at(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = prefdata.build(tmp_path / "planted.toml", data=tmp_path / "data", limit=1)
    for version in (built, Path(other.path)):
        (version / "prompts.parquet").write_bytes(b"")
    with monkeypatch.context() as patch:
        read_only(patch)
        found = told(built, repair=True)
    for each in (built.name, other.id):
        assert found[f"planted@{each}"].level == "warning"
        assert "cannot be moved aside: Read-only file system" in found[f"planted@{each}"].says
    assert found["versions"].says.startswith("0 of 2")
    assert found["ledger"].level == "error"
    assert "Read-only file system" in found["ledger"].says
    assert "data folder" not in found  # it was looked at to the end


def test_a_torn_line_that_cannot_be_moved_yet_is_said_to_wait(built: Path):
    (segment,) = (built.parents[2] / "ledger").glob("*.jsonl")
    with segment.open("ab") as file:
        file.write(b"torn")
    assert "doctor --repair" in told(built)["ledger"].advice
    waiting = told(built, repair=True)["ledger"]
    assert waiting.level == "warning"
    assert "doctor --repair" not in waiting.advice
    assert "once its segment is closed" in waiting.advice
    os.utime(segment, (0, 0))
    assert told(built, repair=True)["ledger"].level == "ok"
    assert "not sound" not in told(built)["ledger"].says


def test_what_people_answered_is_looked_at(built: Path):
    data = built.parents[2]
    folder = data / "annotations" / "planted"
    folder.mkdir(parents=True)
    assert told(built)["annotations"].level == "ok"
    (folder / "annotations.jsonl").write_text('{"task_id": "x", "annot')
    found = told(built, repair=True)["annotations of planted"]
    assert found.level == "error"
    assert "annotations.jsonl, line 1 is damaged" in found.says
    assert (folder / "annotations.jsonl").read_text()
