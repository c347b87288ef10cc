"""The Prefect flow gives what the plain loop gives, and hands on files, never tables."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import prefdata
from prefdata.errors import ModelError, PrefdataError, RecipeError
from prefdata.watch import Event, Made
from tests.flows.conftest import N_PROMPTS

prefect = pytest.importorskip("prefect")


def task_runs(wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Task runs by name; the server comes to know of them some time after they ran."""
    from prefect.client.orchestration import get_client

    until = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while True:
            runs = {run.name: run.model_dump() for run in client.read_task_runs(limit=200)}
            if wanted <= runs.keys() or time.monotonic() > until:
                return runs
            time.sleep(0.5)


def test_the_flow_gives_the_version_that_the_plain_loop_gives(
    server: str, recipe: Path, tmp_path: Path
):
    from prefdata.flows.build import ASKING, build_flow

    plain = prefdata.build(recipe, data=tmp_path / "plain")
    assert plain.tables["pairs"] == N_PROMPTS
    for n_shards, on_disk in ((1, None), (3, None), (3, True)):
        data = tmp_path / f"flow-{n_shards}-{on_disk}"
        built = build_flow(str(recipe), data=str(data), n_shards=n_shards, on_disk=on_disk)
        assert built == {**plain.to_json(), "path": built["path"]}
        assert built == json.loads(json.dumps(built))
        assert not list((data / "builds").iterdir())  # what was handed on is gone
    assert not ASKING
    assert not list(Path(os.environ["PREFECT_HOME"]).rglob("storage/*"))  # no result is kept


def test_a_task_for_each_stage_and_shard_and_for_each_batch(
    server: str, recipe: Path, tmp_path: Path
):
    from prefdata.flows.build import build_flow

    # on disk, where a shard is read when its task is made
    more = {"n_shards": 2, "on_disk": True, "changes": ['name="counted"']}
    build_flow(str(recipe), data=str(tmp_path / "data"), **more)
    asking = ("generate.sample", "annotate.pairwise")
    wanted = {f"{stage} {shard} of 2" for stage in asking for shard in (1, 2)}
    runs = task_runs(wanted)
    assert wanted <= runs.keys()
    assert [name for name in runs if re.fullmatch(r"generate\.sample: \d+ requests", name)]
    inputs = json.dumps([run["task_inputs"] for run in runs.values()], default=str)
    assert "Say something" not in inputs


def test_failures_surface_as_they_are_and_leave_nothing_running(
    server: str, recipe: Path, tmp_path: Path
):
    from prefdata.flows.build import ASKING, build_flow

    with pytest.raises(RecipeError, match=r"did you mean 'helpfulness'"):
        build_flow(str(recipe), data=str(tmp_path), changes=["stages.1.judge=helpfulnes"])
    unreachable = 'client = "openai"\nmodel = "m"\nretries = 0\nbase_url = "http://127.0.0.1:9/v1"'
    planted = 'client = "scripted"\naccuracy = 0.9\nmalformed_rate = 0.1'
    recipe.write_text(recipe.read_text().replace(planted, unreachable))
    with pytest.raises(
        ModelError, match=r"^recipe planted, stage 2 \(annotate.pairwise\): .*127\.0\.0\.1:9"
    ):
        build_flow(str(recipe), data=str(tmp_path), n_shards=3)
    assert not ASKING


def test_events_reach_whoever_watches(server: str, recipe: Path, tmp_path: Path):
    from prefdata.flows.build import build

    seen: list[Event] = []
    built = build(str(recipe), data=str(tmp_path), n_shards=2, watch=seen.append)
    made = {event.stage: event.tables for event in seen if isinstance(event, Made)}
    assert made["pair.best_vs_worst"]["pairs"] == built.tables["pairs"]


def test_the_command_line_goes_through_a_prefect_that_is_set_up(
    server: str, recipe: Path, tmp_path: Path
):
    command = [sys.executable, "-m", "prefdata", "build", str(recipe), "--shards", "2", "--json"]
    said: dict[str, str] = {}
    for way, options, environment in (
        ("plain", ["--plain"], {"PREFECT_API_URL": server}),
        ("configured", [], {"PREFECT_API_URL": server}),
        ("asked", ["--prefect"], {"PREFECT_API_URL": server}),
    ):
        ran = subprocess.run(
            [*command, *options, "--data", str(tmp_path / way)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        said[way] = json.loads(ran.stdout.splitlines()[-1])["id"]
        first = ran.stderr.splitlines()[0]
        assert ("through Prefect" in first) == (way != "plain"), first
        assert "prefect." not in ran.stderr  # none of its own log between our lines
    assert len(set(said.values())) == 1


@pytest.mark.parametrize("port", ["9", "p4ss-planted"])
def test_the_login_of_an_api_is_not_shown(
    port: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows.build import reach_api
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = f"http://user:p4ss-planted@127.0.0.1:{port}/api"
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(PrefdataError) as error:
        reach_api()
    assert "does not answer" in str(error.value)
    assert "p4ss-planted" not in str(error.value).replace(f"127.0.0.1:{port}", "")


@pytest.mark.parametrize("said", [b"<html>Welcome</html>", None])
def test_what_is_no_api_is_told_and_not_waited_for(
    said: bytes | None, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows import build as flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(flow, "PATIENCE", 0.5)
    ended = threading.Event()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if said is None:
                ended.wait(60)
            self.send_response(200)
            self.send_header("Content-Length", str(len(said or b"")))
            self.end_headers()
            self.wfile.write(said or b"")

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/api"
    try:
        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(PrefdataError, match="does not answer"),
        ):
            flow.reach_api()
        assert not ended.is_set()
    finally:
        ended.set()
        server.shutdown()


def test_an_api_that_does_not_answer_is_named(recipe: Path, tmp_path: Path):
    ran = subprocess.run(
        [sys.executable, "-m", "prefdata", "build", str(recipe), "--data", str(tmp_path), "--json"],
        env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert "http://127.0.0.1:9/api" in said["error"]
    assert "--plain" in said["error"]


def test_limits_and_what_is_missing_are_those_of_the_plain_loop(
    server: str, recipe: Path, tmp_path: Path
):
    from prefdata.flows.build import build_flow

    most = 3 * N_PROMPTS + 5
    plain = prefdata.build(recipe, data=tmp_path / "plain", max_requests=most)
    assert plain.partial is not None
    built = build_flow(str(recipe), data=str(tmp_path / "flow"), max_requests=most)
    assert built["partial"] == plain.partial
    assert built["id"] == plain.id
