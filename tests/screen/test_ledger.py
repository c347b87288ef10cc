"""`prefdata ledger`: one object with --json, words without, and exit codes that scripts can use."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from prefdata import cli
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.segment import new_name
from prefdata.models.spec import ModelSpec
from tests.models.conftest import ask, load
from tests.models.kept import record


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFDATA_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "ledger"


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.app, ["ledger", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_a_ledger_is_counted_checked_merged_and_taken_elsewhere(folder: Path):
    record(folder, ["a", "b"])
    time.sleep(0.002)
    record(folder, ["a"], " new")
    told = answer("stats")
    assert (told["responses"], told["unique"], told["segments"]) == (3, 2, 2)
    assert told["models"]["m"]["tokens_in"] == 9
    drawn = run("stats").stdout
    assert "3, 1 of them superseded" in drawn
    assert answer("verify")["is_sound"]
    assert answer("compact")["segments"] == 0, "what was written a moment ago is left alone"
    assert "ago, less than 60" in run("compact").stdout
    done = answer("compact", "--idle", "0")
    assert (done["segments"], done["kept"], done["superseded"]) == (2, 2, 1)
    assert "Nothing to merge" in run("compact").stdout
    assert answer("export", "out.jsonl")["rows"] == 2
    texts = {json.loads(line)["text"] for line in Path("out.jsonl").read_text().splitlines()}
    assert texts == {"a new", "b"}
    assert "2 rows" in run("export", "out.parquet", "--model", "m", "--since", "2020-01-01").stdout


def test_what_is_not_sound_is_an_exit_code_until_it_is_mended(folder: Path):
    path = record(folder, ["a", "b"])
    with path.open("ab") as file:
        file.write(b"\x1b[2J rubbish\n")
    assert answer("verify", code=1)["faults"][0]["line"] == 3
    result = run("verify")
    assert result.exit_code == 1
    assert f"{path.name}:3" in result.stdout
    assert "--repair" in result.stdout
    assert "prefdata ledger verify" in run("stats").stdout
    mended = run("verify", "--repair", "--idle", "0")
    assert mended.exit_code == 0
    assert path.with_suffix(".damaged").name in mended.stdout
    assert run("verify").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["export"], 2),
        (["export", "out.jsonl", "--since", "yesterday"], 2),
        (["compact", "--idle", "-1"], 2),
        (["mend"], 2),
        (["export", "out.csv"], 1),
        (["export", "data/ledger/mine.jsonl"], 1),
    ],
)
def test_wrong_use_is_told_from_failure(folder: Path, arguments: list[str], code: int):
    record(folder, ["a"])
    result = run(*arguments)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr


def test_no_ledger_is_no_failure(folder: Path):
    assert answer("stats")["responses"] == 0
    assert "Nothing was ever answered" in run("stats").stdout
    assert answer("verify", "--repair")["is_sound"]
    assert answer("compact")["segments"] == 0
    assert not folder.exists()


def test_a_hostile_name_of_a_model_is_shown_and_not_obeyed(folder: Path):
    path = record(folder, ["a"])
    hostile = "\x1b[2J[red]m"
    record(folder, ["b"])
    text = path.read_text().replace('"model":"m"', f'"model":{json.dumps(hostile)}')
    path.with_name(new_name()).write_text(text[: text.rindex(',"crc"')] + "}\n")
    drawn = run("stats").stdout
    assert "\x1b" not in drawn
    assert "\\x1b[2J[red]m" in drawn


def test_no_secret_is_in_a_ledger_or_in_what_is_said_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    secret = "sk-planted-0123456789abcdefghij"
    monkeypatch.setenv("PLANTED_KEY", secret)
    with load("server").Server() as server:
        spec = ModelSpec(
            client="openai", model="repeatable", base_url=server.url, api_key_env="PLANTED_KEY"
        )
        with Edge({"m": spec}, Ledger(folder)) as edge:
            edge(ask(spec, [f"Question {i}" for i in range(20)]))
            assert edge.counts.asked == 20
    said = [run(*a, *j).output for j in ([], ["--json"]) for a in (["stats"], ["verify"])]
    run("export", "out.jsonl")
    run("export", "out.parquet")
    kept = [path.read_bytes() for path in Path().rglob("*") if path.is_file()]
    assert len(kept) >= 3
    assert not any(secret.encode() in each for each in kept)
    assert not any(secret in each for each in said)
    assert answer("verify")["is_sound"], "what an edge writes has the ids of its requests"
