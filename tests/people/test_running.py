"""Label Studio, really running, and a browser: `make test-annotate` sets them up and runs this.

Tasks go out; a person's browser shows one and answers two; others are answered through the API;
the answers come in, twice; nothing is doubled, and each vote leads to its task.
"""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib import request

import polars as pl
import pytest
from typer.testing import CliRunner

import prefdata
from prefdata import cli
from prefdata.people.form import SIDES
from prefdata.people.server import Server
from tests.people.planted import better, build

# The folder of the programs of Label Studio's own environment.
BIN = os.environ.get("LABEL_STUDIO_BIN", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BIN, reason="needs Label Studio: make test-annotate"),
]
# The keys of the page.
KEYS = {value: str(at) for at, (value, _) in enumerate(SIDES.values(), start=1)}
Studio = dict[str, str]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A server with one user, on a free port, with its files in a folder that goes away."""
    home = tmp_path_factory.mktemp("studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"url": f"http://127.0.0.1:{port}", "user": "anna@example.org",
            "password": secrets.token_urlsafe(12), "key": secrets.token_hex(20)}  # fmt: skip
    quiet = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "0", "SENTRY_DSN": "",
             "FRONTEND_SENTRY_DSN": "", "DO_NOT_TRACK": "1"}  # fmt: skip
    setting = {**os.environ, **quiet, "LABEL_STUDIO_BASE_DATA_DIR": str(home),
               "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true"}  # fmt: skip
    start = [f"{BIN}/label-studio", "start", "--no-browser", "--port", port, "--username",
             told["user"], "--password", told["password"], "--user-token", told["key"]]  # fmt: skip
    with (home / "log").open("w") as log:
        server = subprocess.Popen(start, stdout=log, stderr=log, env=setting, cwd=home)
        try:
            _wait(f"{told['url']}/health", server, home / "log")
            yield told
        finally:
            server.terminate()
            server.wait(30)


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(1)
    raise AssertionError(log.read_text()[-3000:])


def _sync(folder: Path, studio: Studio, *more: str) -> dict[str, Any]:
    where = ["--url", studio["url"], "--data", str(folder / "data"), "--json"]
    told = CliRunner().invoke(
        cli.app, ["annotate", "sync", "asked", *more, *where],
        env={"LABEL_STUDIO_API_KEY": studio["key"]},
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout.splitlines()[-1])


def test_out_to_the_page_and_back_twice(tmp_path: Path, studio: Studio):
    build(tmp_path)
    first = _sync(tmp_path, studio)
    assert (first["sent"], first["new"]) == (8, 0)
    project = int(first["project"].rpartition("/")[2])
    server = Server(studio["url"], studio["key"])
    tasks = server.export(project)
    assert len(tasks) == 8

    browsed = tasks[:2]
    answers = [(task["id"], KEYS[better(task["data"])]) for task in browsed]
    picture = tmp_path / "page.png"
    asked = {**studio, "project": project, "answers": answers, "picture": str(picture)}
    browse = Path(__file__).with_name("browse.py")
    ran = subprocess.run(
        [f"{BIN}/python", str(browse)], input=json.dumps(asked), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    seen = json.loads(ran.stdout)["seen"]
    for text, task in zip(seen, browsed, strict=True):
        for name in ("first", "second"):
            assert task["data"][name] in text, "the page shows what was handed out"
        assert "llm:" not in text, "and nothing of what models voted"
    assert picture.stat().st_size > 10_000

    for task in tasks[2:6]:
        value = {"choices": [better(task["data"])]}
        result = [{"from_name": "answer_helpfulness", "to_name": "prompt", "type": "choices",
                   "value": value}]  # fmt: skip
        server._call("POST", f"/api/tasks/{task['id']}/annotations/",
                     {"result": result, "lead_time": 4.5})  # fmt: skip
    server._call("POST", f"/api/tasks/{tasks[6]['id']}/annotations/",
                 {"result": [], "was_cancelled": True})  # fmt: skip

    second = _sync(tmp_path, studio, "--name", "1=anna")
    assert (second["sent"], second["new"], second["quarantined"]) == (0, 7, [])
    third = _sync(tmp_path, studio, "--name", "1=anna")
    assert (third["sent"], third["new"], third["known"]) == (0, 0, 7)
    assert len(server.export(project)) == 8

    build(tmp_path)
    votes = prefdata.load("asked", "votes", data=tmp_path / "data")
    votes = votes.filter(pl.col("annotator") == "human:anna")
    kept = prefdata.load("asked", "annotations", data=tmp_path / "data")
    assert kept["seconds"].null_count() <= 1
    assert kept["answered_at"].null_count() == 0
    handed_out = {task["data"]["task_id"]: task["data"] for task in tasks}
    texts = {
        id: turns[0]["content"]
        for id, turns in prefdata.load("asked", "completions", data=tmp_path / "data")
        .select("completion_id", "completion").rows()
    }  # fmt: skip
    assert votes.height == 7
    for a, b, a_first, preference, task in votes.select(
        "completion_a", "completion_b", "a_first", "preference", "request_id"
    ).rows():
        shown = handed_out[task]
        assert (shown["first"], shown["second"]) == (
            (texts[a], texts[b]) if a_first else (texts[b], texts[a])
        )
        if preference is not None:
            assert preference == float((better(shown) == "first") == a_first)
    assert votes["preference"].null_count() == 1
