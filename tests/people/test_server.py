"""`prefdata annotate sync` against a server that speaks Label Studio's documented API."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import prefdata
from prefdata import cli
from prefdata.errors import ModelError, RecipeError
from prefdata.people import exchange
from prefdata.people.server import Server
from prefdata.people.store import Store
from prefdata.people.tasks import Choice
from prefdata.version import find
from tests.people.loopback import TOKEN, Studio, running
from tests.people.planted import better, build


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    with running() as (url, made):
        monkeypatch.setenv("LABEL_STUDIO_URL", url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        yield made


def sync(folder: Path, *more: str) -> dict[str, Any]:
    told = CliRunner().invoke(
        cli.app, ["annotate", "sync", "asked", *more, "--data", str(folder / "data"), "--json"]
    )
    answer = json.loads(told.stdout.splitlines()[-1])
    assert told.exit_code == (1 if "error" in answer else 0)
    return answer


def test_tasks_go_out_and_answers_come_in_twice_and_nothing_is_doubled(asked: Path, studio: Studio):
    first = sync(asked)
    assert (first["sent"], first["new"]) == (8, 0)
    (tasks,) = studio.tasks.values()
    for task in tasks[:5]:
        studio.annotate(task, by=3, answer=better(task["data"]))
    studio.annotate(tasks[5], by=3, answer=None)
    second = sync(asked, "--name", "3=anna")
    assert (second["sent"], second["new"], second["annotators"]) == (0, 6, ["human:anna"])
    third = sync(asked, "--name", "3=anna")
    assert (third["sent"], third["new"], third["known"]) == (0, 0, 6)
    assert (len(studio.projects), len(tasks)) == (1, 8)

    build(asked)
    votes = prefdata.load("asked", "votes", data=asked / "data")
    people = votes.filter(pl.col("annotator") == "human:anna")
    assert people.height == 6
    assert people["unscored"].drop_nulls().to_list() == ["skipped"]
    handed_out = {task["data"]["task_id"] for task in tasks}
    assert set(people["request_id"]) <= handed_out
    annotations = prefdata.load("asked", "annotations", data=asked / "data")
    assert annotations["seconds"].unique().to_list() == [7.25]
    assert annotations["answered_at"].unique().to_list() == ["2026-01-31T12:00:07+00:00"]


def test_a_mended_answer_takes_the_place_of_the_first(asked: Path, studio: Studio):
    sync(asked)
    (tasks,) = studio.tasks.values()
    made = studio.annotate(tasks[0], by=3, answer="first")
    sync(asked)
    made["result"][0]["value"]["choices"] = ["tie"]
    told = sync(asked)
    assert (told["mended"], told["new"]) == (1, 0)
    build(asked)
    votes = prefdata.load("asked", "votes", data=asked / "data")
    assert votes.filter(pl.col("annotator") == "human:3")["preference"].to_list() == [0.5]


def test_one_person_who_answers_a_task_twice_differently_counts_for_nothing(
    asked: Path, studio: Studio
):
    sync(asked, "--overlap", "2")
    (tasks,) = studio.tasks.values()
    assert studio.projects[1]["maximum_annotations"] == 2
    studio.annotate(tasks[0], by=3, answer="first")
    studio.annotate(tasks[0], by=3, answer="second")
    studio.annotate(tasks[0], by=4, answer="second")
    told = sync(asked, "--overlap", "2")
    assert (told["new"], len(told["quarantined"])) == (1, 2)
    assert "human:3 has answered this task in several ways" in told["quarantined"][0]["reason"]


def test_a_task_that_somebody_edited_on_the_server_is_quarantined(asked: Path, studio: Studio):
    sync(asked)
    (tasks,) = studio.tasks.values()
    tasks[0]["data"]["first"] = "another text"
    studio.annotate(tasks[0], by=3, answer="first")
    studio.annotate(tasks[1], by=3, answer="first")
    told = sync(asked)
    assert (told["new"], len(told["quarantined"])) == (1, 1)
    assert "its first is not what was handed out" in told["quarantined"][0]["reason"]


def test_what_was_sent_before_a_failure_is_not_sent_again(
    asked: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("prefdata.people.server.AT_ONCE", 3)
    studio.refuse_import_after = 6
    assert "500: planted failure" in sync(asked)["error"]
    studio.refuse_import_after = None
    assert sync(asked)["sent"] == 2
    ids = [task["data"]["task_id"] for task in studio.tasks[1]]
    assert len(ids) == len(set(ids)) == 8


def test_an_export_of_the_server_is_imported_as_a_file_too(asked: Path, studio: Studio):
    sync(asked)
    (tasks,) = studio.tasks.values()
    for task in tasks:
        studio.annotate(task, by=3, answer="second")
    back = asked / "project-1.json"
    back.write_text(json.dumps(tasks))
    arguments = ["annotate", "import", "asked", str(back), "--data", str(asked / "data")]
    told = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert json.loads(told.stdout)["new"] == 8
    assert sync(asked)["known"] == 8


def test_a_personal_token_is_exchanged_for_a_short_one(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a.b.c")
    assert list(Server()._projects()) == []
    assert studio.lines[0].startswith("POST /api/token/refresh")


def test_no_token_stands_in_an_address_an_error_or_a_file(
    asked: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    sync(asked)
    assert not [line for line in studio.lines if TOKEN in line]
    written = [path for path in (asked / "data").rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "another-token-9876543210")
    refused = sync(asked)["error"]
    assert "401: the token in LABEL_STUDIO_API_KEY is not accepted there" in refused
    assert "another-token" not in refused


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    with pytest.raises(RecipeError, match="give --url, or set LABEL_STUDIO_URL"):
        Server()
    with pytest.raises(RecipeError, match="LABEL_STUDIO_API_KEY is not set"):
        Server("http://localhost:1")
    with pytest.raises(RecipeError, match="--url holds a text that looks like a key or password"):
        Server("http://anna:secret@localhost:1", "token")
    with pytest.raises(ModelError, match="is Label Studio running there"):
        list(Server("http://127.0.0.1:9", "token")._projects())


@pytest.mark.parametrize("said", [{"results": None}, {"detail": "hello"}, ["task"], "hello", None])
def test_a_server_that_is_no_label_studio_is_said_to_be_none(
    asked: Path, studio: Studio, said: Any
):
    studio.answer = lambda *_: said
    assert "is it Label Studio that runs there?" in sync(asked)["error"]


def test_a_task_that_makes_no_sense_is_quarantined_and_the_rest_is_taken(
    asked: Path, studio: Studio
):
    sync(asked)
    (tasks,) = studio.tasks.values()
    for task in tasks:
        studio.annotate(task, by=3, answer="first")
    tasks[0]["annotations"] = ["not one"]
    tasks[1]["annotations"][0]["result"] = "nothing"
    told = sync(asked)
    assert (told["new"], len(told["quarantined"])) == (6, 2)


def test_of_two_at_once_one_makes_the_project_and_sends_the_tasks(asked: Path, studio: Studio):
    with ThreadPoolExecutor(4) as several:
        told = list(several.map(lambda _: synced(asked), range(4)))
    assert sorted(told) == [0, 0, 0, 8]
    assert (len(studio.projects), len(studio.tasks[1])) == (1, 8)


def synced(folder: Path) -> int:
    """How many tasks a sync sends that runs beside others; one thread at a time has a runner."""
    found = find(folder / "data", "asked")
    store = Store(folder / "data", "asked")
    asked = exchange.ask(found, store, "pairwise", None, Choice())
    return exchange.sync(Server(), store, "asked", asked, Choice())[1]
