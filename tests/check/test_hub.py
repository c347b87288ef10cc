"""`prefdata check` on datasets of the Hub in TRL's types, as `load_dataset` gives them.

The Hub is one on the loopback device (see `tests.hub.server`); the client and `datasets` are real.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.check import Report, of_frames, read, run
from prefdata.errors import SourceError
from tests.check.test_check import FEW, PLANTS, as_implicit, as_messages, clean
from tests.hub.conftest import environment
from tests.hub.server import Hub

Rows = list[dict[str, Any]]


def unpaired(rows: Rows) -> Rows:
    sides = (("chosen", True), ("rejected", False))
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": good}
        for row in rows
        for side, good in sides
    ]


PLANTED = {
    "explicit": PLANTS["identical"][1](clean()),
    "conversations": as_messages(PLANTS["refusals"][1](clean())),
    "implicit": as_implicit(PLANTS["near"][1](clean())),
    "unpaired": unpaired(PLANTS["stock phrases"][1](clean())),
    "clean": as_messages(clean()),
}


def as_repository(folder: Path, configs: dict[str, Rows]) -> Path:
    """A dataset's folder as it is on the Hub: a configuration each, the last third as test."""
    lines = ["---", "configs:"]
    for name, rows in configs.items():
        frame = pl.DataFrame(rows, infer_schema_length=None)
        (folder / name).mkdir(parents=True)
        held = 2 * frame.height // 3
        frame[:held].write_parquet(folder / name / "train.parquet")
        frame[held:].write_parquet(folder / name / "test.parquet")
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in ("train", "test"):
            lines += [f"  - split: {split}", f"    path: {name}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", "", "# Planted"]))
    return folder


def counts(report: Report) -> dict[str, tuple[str, int, int]]:
    return {each.check: (each.level, each.n, each.of) for each in report.findings}


@pytest.mark.parametrize("config", PLANTED)
def test_a_configuration_is_checked_as_its_rows_are(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dataset of the Hub that lies in a folder of its name is loaded by `load_dataset` too."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    as_repository(tmp_path / "org" / "planted", PLANTED)
    monkeypatch.chdir(tmp_path)
    report = run(f"org/planted:{config}")
    frame = pl.DataFrame(PLANTED[config], infer_schema_length=None)
    held = 2 * frame.height // 3
    by_hand = run(of_frames("x", {"train": frame[:held], "test": frame[held:]}))
    assert report.splits == by_hand.splits == {"train": held, "test": frame.height - held}
    assert counts(report) == counts(by_hand)
    assert report.passes("warning") == (config == "clean")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = as_repository(tmp_path_factory.mktemp("repository"), PLANTED)
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.*")}
    with Hub() as running:
        running.make("org/planted", private=False, **files)
        yield running


def command(hub: Hub, home: Path, *words: str) -> tuple[int, dict[str, Any]]:
    asked = [sys.executable, "-m", "prefdata.cli", "check", *words, "--json"]
    ran = subprocess.run(
        asked, env=environment(hub, home), capture_output=True, text=True, cwd=home
    )
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "check"), [("explicit", "identical"), ("implicit", "near_identical"), ("clean", "")]
)
def test_the_command_downloads_what_it_checks(
    hub: Hub, tmp_path: Path, config: str, check: str
) -> None:
    code, said = command(hub, tmp_path, f"org/planted:{config}", "--fail-on", "warning")
    found = {each["check"]: each for each in said["findings"]}
    assert said["splits"] == {"train": 80, "test": 40}
    alarms = {name for name, each in found.items() if each["level"] in ("error", "warning")}
    assert alarms == ({check} if check else set())
    assert code == (1 if check else 0)
    if check:
        assert found[check]["n"] == len(FEW)
        assert found[check]["examples"][0]["place"] in {f"train row {at}" for at in FEW}
    assert hub.seen(f"/resolve/{hub.repos['org/planted'].heads[-1]}/{config}/train.parquet")


@pytest.mark.slow
def test_a_dataset_that_is_not_on_the_hub_is_told(hub: Hub, tmp_path: Path) -> None:
    code, said = command(hub, tmp_path, "org/nowhere")
    assert code == 1
    assert said["kind"] == "SourceError"
    assert "org/nowhere" in said["error"]


def test_names_that_no_dataset_has_are_not_looked_for(tmp_path: Path) -> None:
    for name in ("../x", "a/b/c", "a b/c", "org/name:", "/x"):
        with pytest.raises(SourceError, match="neither a file"):
            read(name, tmp_path)


def test_a_folder_of_files_that_are_no_one_dataset_is_told(tmp_path: Path) -> None:
    (tmp_path / "train-1.json").write_text('[{"prompt": {"a": 1}, "chosen": "x", "rejected": "y"}]')
    (tmp_path / "train-2.json").write_text('[{"prompt": ["b"], "chosen": "x", "rejected": "y"}]')
    with pytest.raises(SourceError, match="the files of train in"):
        read(str(tmp_path))
    (tmp_path / "train-2.json").unlink()
    (tmp_path / "test.json").write_text('[{"prompt": ["b"], "chosen": "x", "rejected": "y"}]')
    with pytest.raises(SourceError, match="the splits of"):
        read(str(tmp_path))


def test_messages_without_one_type_are_read_as_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where some messages have more fields than others, `datasets` keeps each as JSON."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    rows = as_messages(PLANTS["identical"][1](clean()))
    for row in rows[::2]:
        row["chosen"][0]["name"] = "an assistant"
        row["prompt"][0]["weight"] = {"of": 1}
    folder = tmp_path / "org" / "mixed" / "data"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run("org/mixed:default")
    plain = run(
        of_frames("x", {"train": pl.DataFrame(as_messages(PLANTS["identical"][1](clean())))})
    )
    assert counts(report) == counts(plain)
