"""What is broken here is told by the doctor, with what to do, and ends no other look."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from prefdata.doctor import examine, installation
from prefdata.errors import ModelError, RecipeError
from prefdata.finding import Finding
from prefdata.models.endpoint import Endpoint
from prefdata.models.spec import ModelSpec
from tests.models.server import Server

RECIPE = """
name = "examined"
sources.prompts = "prompts.jsonl"

[models.writer]
{model}

[[stages]]
use = "generate.sample"
model = "writer"
"""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def found(about: str, **how: Any) -> Finding:
    examination = examine(**how)
    (finding,) = [each for each in examination.findings if each.check == about]
    assert examination.findings[-1].part in ("services", "models", "recipe")
    return finding


def recipe(folder: Path, model: str) -> str:
    (folder / "prompts.jsonl").write_text('{"prompt": "Say one."}\n')
    (folder / "examined.toml").write_text(RECIPE.format(model=model))
    return str(folder / "examined.toml")


def folders(at: Path) -> dict[str, Path]:
    (at / "file").write_text("")
    (at / "lost").symlink_to(at / "nowhere" / "data")
    (at / "half" / "versions").mkdir(parents=True)
    (at / "half" / "ledger").symlink_to("/proc/self/fd")
    return {
        "a file": at / "file", "a link that leads nowhere": at / "lost",
        "a name that is too long": at / ("a" * 300), "a part that cannot be written": at / "half",
    }  # fmt: skip


def test_a_folder_that_no_build_could_write_is_an_error(tmp_path: Path):
    for what, folder in folders(tmp_path).items():
        finding = found("write access", data=folder)
        assert finding.level == "error", what
        assert "--data" in finding.advice, what


def test_what_was_handed_over_and_cannot_be_read_is_told_and_left(tmp_path: Path):
    batches = tmp_path / "ledger" / "batches"
    batches.mkdir(parents=True)
    assert found("batches", data=tmp_path).says == "0 are under way or wait to be taken back"
    damaged = batches / "0123456789abcdef01234567.jsonl"
    damaged.write_bytes(b"what was this?")
    for repair in (False, True):
        told = found("batches", data=tmp_path, repair=repair)
        assert told.level == "warning"
        assert str(damaged) in told.says
        assert "build again" in told.advice
        assert damaged.exists()


def test_a_look_that_fails_hides_no_other_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails() -> Any:
        yield Finding("prefdata", "ok", "there")
        raise RuntimeError("Authorization: sk-planted")

    monkeypatch.setattr(installation, "findings", fails)
    finding = found("installation", data=tmp_path)
    assert (finding.level, "RuntimeError" in finding.says) == ("error", True)
    assert "sk-planted" not in str(finding.to_json())


def test_without_a_folder_for_temporary_files_an_endpoint_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Server() as server:
        path = recipe(tmp_path, f'client = "openai"\nmodel = "m"\nbase_url = "{server.url}"')
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        finding = found("writer", recipe=path, data=tmp_path / "data")
        assert not server.requests
    assert finding.level == "error"
    assert "TMPDIR" in finding.advice


def test_weights_that_are_not_here_are_not_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = recipe(tmp_path, 'client = "local"\nmodel = "org/no-such-model"')
    finding = found("writer", recipe=path, data=tmp_path / "data")
    assert finding.level == "warning"
    assert "hf download org/no-such-model" in finding.advice
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"x")
    path = recipe(tmp_path, f'client = "local"\nmodel = "{tmp_path / "weights"}"')
    assert found("writer", recipe=path, data=tmp_path / "data").level == "ok"
    path = recipe(tmp_path, 'client = "scripted"')
    assert "no weights" in found("writer", recipe=path, data=tmp_path / "data").says


@pytest.mark.skipif(os.name != "posix", reason="a program that is a shell script")
def test_a_driver_that_speaks_no_text_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '\\377\\376 GPU\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "GPU" in found("GPU", data=tmp_path).says


@pytest.mark.parametrize("url", ["foo", "http://", "ftp://x/v1", "http://[::1", "http://x:99999"])
def test_an_address_that_is_none_is_refused_by_the_plan(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = recipe(tmp_path, f'client = "openai"\nmodel = "m"\nbase_url = "{url}"')
    finding = found(path, recipe=path, data=tmp_path / "data")
    assert "expected an address such as http://127.0.0.1:8000/v1" in finding.says
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises((ModelError, RecipeError), match="OPENAI_BASE_URL, which holds no address"):
        Endpoint(ModelSpec(client="openai", model="m"), None, None)
