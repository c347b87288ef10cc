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
from types import SimpleNamespace
from typing import Any

import pytest

import prefdata
from prefdata.errors import ModelError, PrefdataError, PushError, RecipeError
from prefdata.models.ledger import Ledger
from prefdata.watch import Event, Made, Warned
from tests.flows.conftest import N_PROMPTS, RECIPE, SLOW
from tests.models.conftest import load

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
        assert not list((data / "builds" / "planted").iterdir()), "what was handed on is gone"
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


@pytest.mark.slow
def test_sigterm_lets_the_answers_in_flight_come_in(
    server: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As a run that is cancelled, a worker that is stopped and a pod that is evicted get it."""
    recipe.write_text(SLOW)
    command = [sys.executable, "-m", "prefdata", "build", "recipe.toml", "--prefect", "--json"]
    with load("server").Server() as model:
        model.latency = 1.0
        env = {"PREFECT_API_URL": server, "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
        process = subprocess.Popen(
            [*command, "--shards", "2", "--data", "data"],
            cwd=tmp_path,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 60
        while len(model.requests) < 8 and time.monotonic() < until:
            time.sleep(0.02)
        process.terminate()
        out, err = process.communicate(timeout=60)
        sent = len(model.requests)
    kept = sum(path.read_text().count("\n") for path in (tmp_path / "data").rglob("*.jsonl"))
    assert 8 <= sent <= 12, err
    assert kept == sent
    assert process.returncode == 130, err
    assert json.loads(out)["kind"] == "Interrupted"


FAILING = RECIPE.replace(
    '[[stages]]\nuse = "annotate.pairwise"',
    '[[stages]]\nuse = "tests.flows.failing:fail"\n\n[[stages]]\nuse = "annotate.pairwise"',
).replace(
    'client = "scripted"', 'client = "scripted"\nmax_tokens = 64\nprice_in = 1000\nprice_out = 1000'
)


@pytest.fixture
def failing(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with a stage that fails as often as the file says."""
    recipe.write_text(FAILING)
    monkeypatch.setenv("PREFDATA_FAILING", str(tmp_path / "times"))
    return recipe


@pytest.mark.slow
def test_a_build_that_is_tried_again_keeps_the_place_and_the_budget_of_its_run(
    server: str, failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that Prefect retried would lose its place while it waits, and begin a new budget."""
    from prefdata.flows import build as flows
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import ConcurrencyOptions
    from prefect.flow_engine import run_flow
    from prefect.states import Pending

    dear = prefdata.build(failing, data=tmp_path / "dear").cost
    budget = 0.7 * dear  # enough for what is written, not for all that is judged
    plain = prefdata.build(failing, data=tmp_path / "plain", budget=budget)
    assert plain.partial is not None
    assert 0.6 * budget < plain.cost <= budget

    (tmp_path / "times").write_text("2")
    given = {"recipe": str(failing), "data": str(tmp_path / "flow"), "budget": budget, "retries": 2}
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            client.create_flow(flows.build_flow),
            "retried",
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(collision_strategy="CANCEL_NEW"),
        )

        def begun() -> Any:
            run = client.create_flow_run_from_deployment(deployment, parameters=given)
            client.set_flow_run_state(run.id, Pending())
            return client.read_flow_run(run.id)

        waits: list[float] = []

        def between(seconds: float) -> None:
            waits.append(seconds)
            assert client.read_flow_run(first.id).state.is_running()
            assert begun().state.is_cancelled(), "the next run finds the place taken"

        monkeypatch.setattr(flows, "time", SimpleNamespace(sleep=between))
        first = begun()
        assert first.state.is_pending()
        built = run_flow(flows.build_flow, flow_run=first, parameters=given)
        assert begun().state.is_pending(), "the place is free again"
    assert waits == [flows.RETRY_AFTER] * 2
    assert (built["id"], built["partial"]) == (plain.id, plain.partial)
    with (
        Ledger(tmp_path / "plain" / "ledger") as once,
        Ledger(tmp_path / "flow" / "ledger") as all_,
    ):
        assert len(all_.sample(10_000)) == len(once.sample(10_000)), "no more than once was asked"


def test_what_people_must_mend_is_not_tried_again(
    server: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows import build as flows

    monkeypatch.setattr(flows, "time", SimpleNamespace(sleep=lambda _: pytest.fail("it waits")))
    wrong = ["stages.generate.sample.n=0"]
    with pytest.raises(RecipeError, match=r"generate\.sample"):
        flows.build_flow(str(recipe), data=str(tmp_path), changes=wrong, retries=2)


def test_what_is_asked_for_all_anew_is_not_tried_again(server: str, failing: Path, tmp_path: Path):
    from prefdata.flows.build import build_flow

    (tmp_path / "times").write_text("1")
    with pytest.raises(ModelError, match="does not answer now"):
        build_flow(str(failing), data=str(tmp_path / "data"), retries=2, fresh=True)


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is pushed, of which the first try fails."""
    from prefdata import hub

    pushed: list[str] = []

    def push(version: Any, repo: str) -> hub.Pushed:
        pushed.append(f"{version.ref} to {repo}")
        if len(pushed) == 1:
            raise PushError("the Hub does not answer")
        return hub.Pushed("https://hub/x", "c", [], changed=True, files=1, bytes=1)

    monkeypatch.setattr(hub, "push", push)
    monkeypatch.setenv("HF_TOKEN", "of-nobody")
    return pushed


@pytest.mark.slow
def test_a_push_is_tried_again_without_the_build(
    server: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pushes: list[str]
):
    from prefdata.flows import build as flows

    monkeypatch.setattr(flows, "RETRY_AFTER", 0.1)
    monkeypatch.setattr(flows, "time", SimpleNamespace(sleep=lambda _: pytest.fail("it waits")))
    built = flows.build_flow(str(recipe), data=str(tmp_path), push="org/name", retries=1)
    assert pushes == [f"planted@{built['id']} to org/name"] * 2
    pushes.clear()
    with pytest.raises(PushError, match="does not answer"):
        flows.build_flow(str(recipe), data=str(tmp_path), push="org/name")
    assert len(pushes) == 1


def test_a_partial_version_is_pushed_only_where_that_is_said(
    server: str, recipe: Path, tmp_path: Path, pushes: list[str]
):
    from prefdata.flows import build as flows

    pushes.append("one that failed")
    given = {"data": str(tmp_path), "push": "org/name", "max_requests": 3 * N_PROMPTS + 5}
    built = flows.build_flow(str(recipe), **given)
    assert built["partial"]
    assert len(pushes) == 1
    flows.build_flow(str(recipe), **given, push_partial=True)
    assert len(pushes) == 2


def test_what_keeps_a_version_from_being_pushed_is_told_before_anything_is_asked(
    server: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows.build import build_flow

    monkeypatch.delenv("HF_TOKEN", raising=False)
    for repo, said in (("org/name", "HF_TOKEN"), ("name", "names no repository")):
        with pytest.raises(PushError, match=said):
            build_flow(str(recipe), data=str(tmp_path / "data"), push=repo)
    assert not (tmp_path / "data" / "ledger").exists()


def test_a_store_that_removes_nothing_fails_no_build(
    server: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows import build as flows

    def refuses(folder: str) -> None:
        raise OSError("Access Denied")

    seen: list[Event] = []
    monkeypatch.setattr(flows.on_store, "remove", refuses)
    built = flows.build(str(recipe), data=str(tmp_path), retries=1, watch=seen.append)
    assert built.is_new
    (warned,) = [each.says for each in seen if isinstance(each, Warned)]
    assert "Access Denied" in warned


def test_a_store_that_cannot_be_used_is_told(server: str, recipe: Path, tmp_path: Path):
    from prefdata.flows.build import build_flow

    file = tmp_path / "file"
    file.write_text("no folder")
    for store in ("nosuch://bucket/x", str(file)):
        with pytest.raises(PrefdataError, match=f"the store cannot be used: {store}"):
            build_flow(str(recipe), data=str(tmp_path), store=store)


STORES = [
    *("s3://AKIAIOSFODNN7EXAMPLE:secret@bucket/x", "ftp://ann:p4ss-planted@host/x"),
    *("s3://ann:p4/ss-planted@bucket/x", "abfs://box/x?sv=1&sig=p4ss-planted"),
    *("https://host/x?token=p4ss-planted", "https://host/x?X-Amz-Signature=p4ss-planted"),
]


@pytest.mark.parametrize("store", STORES)
def test_a_secret_in_a_store_is_refused_before_prefect_keeps_it(
    store: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows import build as flows
    from prefdata.flows.deploy import Schedule, deploy

    monkeypatch.setattr(flows, "build_flow", lambda *_, **__: pytest.fail("Prefect has it"))
    file = tmp_path / "prefect.yaml"
    with pytest.raises(RecipeError, match="login or key") as built:
        flows.build(str(recipe), data=str(tmp_path), engine="ray", store=store)
    with pytest.raises(RecipeError, match="login or key") as deployed:
        deploy(str(recipe), Schedule(every=60), file=file, engine="ray", store=store)
    for error in (built, deployed):
        assert not re.search(r"p4ss|ss-planted|secret@|AKIA", str(error.value))
    assert not file.exists()


@pytest.mark.parametrize("store", ["file:///a/ann@example.org", "http://host:9000/a@b", "/a/b"])
def test_a_store_without_a_secret_is_none(store: str):
    from prefdata.flows.build import keepable

    assert keepable({"store": store}) == {"store": store}


def test_a_relative_store_is_that_of_the_folder_where_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows.build import keepable

    monkeypatch.chdir(tmp_path)
    assert keepable({"store": "shared", "limit": 1}) == {"store": f"{tmp_path}/shared", "limit": 1}


@pytest.mark.slow
def test_retries_that_prefect_is_told_of_elsewhere_are_not_those_of_a_build():
    code = "from prefdata.flows import build as b; print(b.build_flow.retries, b.make.retries, "
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}b.answer.retries)"],
        env={
            **os.environ,
            "PREFECT_TASKS_DEFAULT_RETRIES": "3",
            "PREFECT_FLOWS_DEFAULT_RETRIES": "3",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["0", "0", "0"]
