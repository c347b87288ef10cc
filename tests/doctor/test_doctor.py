"""`prefdata doctor` finds what is in the way of a build, says what to do, and shows no key."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import prefdata
from prefdata.doctor import Examination, examine, installation
from prefdata.finding import Finding
from tests.models.server import Server

KEY = "sk-planted-0123456789abcdef0123456789abcdef"
RECIPE = """
name = "examined"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "openai"
model = "m"
base_url = ["{url}", "{other}"]
api_key_env = "DOCTOR_KEY"

[[stages]]
use = "generate.sample"
model = "writer"
n = 2
"""
PLANTED = """
name = "planted"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[[stages]]
use = "generate.sample"
model = "writer"
n = 2
"""


def found(examination: Examination, check: str) -> Finding:
    (finding,) = [each for each in examination.findings if each.check == check]
    return finding


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Say one."}\n{"prompt": "Say two."}\n')
    (tmp_path / "planted.toml").write_text(PLANTED)
    return tmp_path / "planted.toml"


def test_each_endpoint_is_asked_for_one_token_and_told(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCTOR_KEY", KEY)
    with Server() as server:
        path = tmp_path / "examined.toml"
        path.write_text(RECIPE.format(url=server.url, other="http://127.0.0.1:9/v1"))
        examination = examine(str(path), data=tmp_path / "data")
        (asked,) = server.requests
        writers = [each for each in examination.findings if each.check == "writer"]
        assert [each.level for each in writers] == ["ok", "error"]
        assert server.url in writers[0].says
        assert "127.0.0.1:9" in writers[1].says
        assert "base_url" in writers[1].advice
        assert not examination.is_fit
        server.fault("401")
        refused = examine(str(path), data=tmp_path / "data")
        assert [each.level for each in refused.findings if each.check == "writer"] == ["error"] * 2
        n = len(server.requests)
        unasked = examine(str(path), data=tmp_path / "data", ask=False)
        assert len(server.requests) == n
    assert asked["body"].get("max_tokens", asked["body"].get("max_completion_tokens")) == 1
    assert unasked.is_fit
    assert not (tmp_path / "data").exists()  # an examination makes nothing


def test_a_key_that_is_absent_is_named_and_one_that_is_there_is_not_shown(
    recipe: Path, tmp_path: Path
):
    path = tmp_path / "examined.toml"
    with Server() as server:
        path.write_text(RECIPE.format(url=server.url, other=server.url))
        for key in ("", KEY):
            ran = subprocess.run(
                [sys.executable, "-m", "prefdata", "doctor", str(path), "--json"],
                env={**os.environ, "DOCTOR_KEY": key, "HF_TOKEN": "hf_planted"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            said = json.loads(ran.stdout.splitlines()[-1])
            models = [each for each in said["findings"] if each["part"] == "models"]
            assert ran.returncode == (0 if key else 1), ran.stderr
            assert said["fit"] is bool(key)
            assert ("DOCTOR_KEY" in models[0]["says"]) is not bool(key)
            assert KEY not in ran.stdout + ran.stderr
            assert "hf_planted" not in ran.stdout + ran.stderr


def test_a_recipe_with_a_mistake_is_a_finding(recipe: Path, tmp_path: Path):
    examination = examine(str(recipe), data=tmp_path, changes=("stages.0.m=1",))
    (mistake,) = [each for each in examination.findings if each.part == "recipe"]
    assert mistake.level == "error"
    assert "stages" in mistake.says or "stage 1" in mistake.says


def test_damaged_versions_and_ledgers_are_found_repaired_and_built_again(
    recipe: Path, tmp_path: Path
):
    data = tmp_path / "data"
    built = prefdata.build(recipe, data=data)
    assert found(examine(data=data), "versions").says == "1 of 1 are as they were written"
    (Path(built.path) / "completions.parquet").unlink()
    (segment,) = (data / "ledger").glob("*.jsonl")
    lines = segment.read_text().splitlines(keepends=True)
    segment.write_text(lines[0].replace("{", "[", 1) + "".join(lines[1:]))
    old = segment.stat().st_mtime - 1000
    os.utime(segment, (old, old))

    sick = examine(data=data)
    assert found(sick, f"planted@{built.id}").level == "warning"
    assert "completions.parquet is missing" in found(sick, f"planted@{built.id}").says
    assert found(sick, "ledger").level == "warning"
    assert "1 lines are not sound" in found(sick, "ledger").says

    examine(data=data, repair=True)
    healed = examine(data=data)
    assert found(healed, "ledger").level == "ok"
    assert found(healed, "versions").says == "0 of 0 are as they were written"
    again = prefdata.build(recipe, data=data)
    assert again.id == built.id
    assert again.is_new
    assert again.requests["asked"] == 1  # the answer that was damaged; the others were kept


def test_a_folder_that_cannot_be_written_is_an_error():
    finding = found(examine(data="/proc/nowhere/data"), "write access")
    assert finding.level == "error"
    assert "PREFDATA_DATA" in finding.advice


def test_little_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def usage(_: Any) -> Any:
        return shutil._ntuple_diskusage(10**12, 10**12 - 10**8, 10**8)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert found(examine(data=tmp_path), "room").level == "error"


def test_an_extra_is_whole_absent_or_in_the_wrong_version(monkeypatch: pytest.MonkeyPatch):
    there = {"a": "1.5", "b": "3.0"}
    needed = [
        "a>=1",
        'b>=2; extra == "check"',
        'c; extra == "local"',
        'a>=2; extra == "route"',
        'd; extra == "dev"',
    ]

    def version(name: str) -> str:
        if name == "prefdata":
            return "0"
        if name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needed)
    said = {each.check: each for each in installation.findings()}
    assert said["packages"].level == "ok"
    assert said["extra check"].level == "ok"
    assert said["extra local"].level == "absent"
    assert said["extra route"].level == "warning"
    assert "a is 1.5, and >=2 is needed" in said["extra route"].says
    assert "extra dev" not in said
    there["a"] = "0.9"
    assert {each.check: each for each in installation.findings()}["packages"].level == "error"


def test_every_extra_of_the_project_has_its_use_told():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].keys()
    assert extras - {"dev", "all"} == installation.EXTRAS.keys()
