"""A deployment is described in a file and deployed from it; a worker builds it, incrementally."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from prefdata.errors import BudgetError, PrefdataError, PushError, RecipeError
from prefdata.planning import refusals
from prefdata.recipe import Recipe
from tests.flows.conftest import N_PROMPTS, SLOW
from tests.flows.scheduled import api, finished, real_server, running
from tests.hub.server import OWNER, TOKEN, Hub
from tests.models.conftest import load

pytest.importorskip("prefect")


def read(file: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(file)


@pytest.mark.slow
def test_what_is_deployed_is_written_and_the_server_has_it(
    server: str,
    recipe: Path,
    tmp_path: Path,
):
    from prefdata.flows.deploy import Schedule, deploy
    from prefect.client.orchestration import get_client

    file = tmp_path / "prefect.yaml"
    file.write_text("# ours\nname: mine\ndeployments:\n  - name: other  # stays\n    tags: [a]\n")
    for cron in ("0 3 * * *", "30 4 * * 1"):  # made, then updated
        done = deploy(
            str(recipe),
            Schedule(cron=cron, timezone="Europe/Berlin"),
            file=file,
            data=tmp_path / "data",
            limit=5,
            budget=1.5,
            model_limits={"judge": 2},
        )
        assert done.name == "prefdata-build/planted"
    assert "# ours" in file.read_text()
    assert "# stays" in file.read_text()
    others, ours = read(file)["deployments"]
    assert others == {"name": "other", "tags": ["a"]}
    assert ours["schedules"] == [{"cron": "30 4 * * 1", "timezone": "Europe/Berlin"}]
    given = {"recipe": str(recipe), "data": str(tmp_path / "data"), "limit": 5, "budget": 1.5}
    wanted = {**given, "retries": 2}
    assert ours["parameters"] == wanted
    with get_client(sync_client=True) as client:
        kept = client.read_deployment_by_name(done.name)
        assert [str(each.schedule.cron) for each in kept.schedules] == ["30 4 * * 1"]
        assert kept.parameters == wanted
        assert kept.work_pool_name == "prefdata"
        assert client.read_work_pool("prefdata").type == "process"
        assert client.read_global_concurrency_limit_by_name(*done.limits).limit == 2


def test_batches_of_requests_have_the_tag_of_their_model(
    server: str,
    recipe: Path,
    tmp_path: Path,
):
    from prefdata.flows.build import build_flow
    from prefdata.flows.limits import tag
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterTags

    build_flow(str(recipe), data=str(tmp_path / "data"), changes=['name="tagged"'])
    specs = Recipe.load(recipe).specs
    for role, stage in (("writer", "generate.sample"), ("judge", "annotate.pairwise")):
        tagged = TaskRunFilter(tags=TaskRunFilterTags(all_=[tag(specs[role])]))
        until, names = time.monotonic() + 60, set[str]()
        while time.monotonic() < until and not names:  # the server hears of them some time later
            with get_client(sync_client=True) as client:
                runs = client.read_task_runs(task_run_filter=tagged)
            names = {run.name.partition(":")[0] for run in runs}
            time.sleep(0.5)
        assert names == {stage}


@pytest.mark.slow
def test_a_build_is_pushed_and_pushed_again_changes_nothing(
    server: str,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    import huggingface_hub.constants
    from prefdata.flows.build import build_flow

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for _ in range(2):
            built = build_flow(str(recipe), data=str(tmp_path / "data"), push=f"{OWNER}/planted")
        repo = hub.repos[f"{OWNER}/planted"]
    assert repo.private
    assert repo.tags == {built["id"]: repo.heads[-1]}
    assert "pairwise" in {path.split("/")[0] for path in repo.trees[repo.heads[-1]]}


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        *[("0 3 * *", None), ("61 3 * * *", None), ("0 3 * * *", "Berlin"), ("", None)],
        *[("0 3 * * *", "../../etc/passwd"), ("0 3 * * *; reboot", None), ("\n", None)],
        *[("0 3 31 2 *", None), ("0 0 31 4,6 *", "Europe/Berlin")],  # days that never come
    ],
)
def test_a_schedule_that_is_none_is_told(cron: str, zone: str | None):
    from prefdata.flows.deploy import Schedule

    with pytest.raises(RecipeError, match="no schedule can be made of cron"):
        Schedule(cron=cron, timezone=zone).to_yaml()


@pytest.mark.parametrize("every", [0, -5, 10**15])
def test_an_interval_that_is_none_is_told(every: int):
    from prefdata.flows.deploy import Schedule

    with pytest.raises(RecipeError, match="expected up to a year"):
        Schedule(every=every).to_yaml()
    with pytest.raises(RecipeError, match="time zone is of a cron expression"):
        Schedule(every=60, timezone="Europe/Berlin").to_yaml()


ODD = ["a/b", "a*", "-x", "", " ", "a%", "a&b", "<a>", "a\nb", "../x", "{{ $HOME }}", "\x1b[2J"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_means_something_else_to_prefect_is_refused(
    name: str, recipe: Path, tmp_path: Path
):
    """As `a/b`, by which it would deploy b, and `a*`, by which it would deploy others too."""
    from prefdata.flows.deploy import Schedule, deploy

    file = tmp_path / "prefect.yaml"
    for given in ({"name": name}, {"pool": name}):
        with pytest.raises(PrefdataError, match=r"can be no (deployment|pool)'s name"):
            deploy(str(recipe), Schedule(every=60), file=file, **given)
    assert not file.exists()


def test_what_would_fail_every_run_or_be_filled_in_is_refused(recipe: Path, tmp_path: Path):
    from prefdata.flows.deploy import Schedule, deploy

    file, hourly = tmp_path / "prefect.yaml", Schedule(every=3600)
    for repo in ("repo", "../x", "a/b/c", "org/re po", "", "https://hf.co/org/repo"):
        with pytest.raises(PrefdataError, match="names no repository"):
            deploy(str(recipe), hourly, file=file, push=repo)
    with pytest.raises(PrefdataError, match=r"changes.*'\{\{'"):
        deploy(str(recipe), hourly, file=file, changes=['description="{{ $HOME }}"'])
    assert not file.exists()


def test_what_a_build_refuses_is_not_deployed(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each of these would fail every night, some when all is paid for."""
    from prefdata.flows.deploy import Schedule, deploy

    file, hourly = tmp_path / "prefect.yaml", Schedule(every=3600)
    with pytest.raises(RecipeError, match=r"generate\.sample"):
        deploy(str(recipe), hourly, file=file, changes=["stages.generate.sample.n=0"])
    unpriced = ["models.judge={client='openai', model='m', base_url='http://127.0.0.1:9/v1'}"]
    with pytest.raises(BudgetError, match="'judge'"):
        deploy(str(recipe), hourly, file=file, changes=unpriced, budget=20)
    boundless = ["models.writer.price_out=1.0"]
    with pytest.raises(BudgetError, match=r"'writer'.*max_tokens"):
        deploy(str(recipe), hourly, file=file, changes=boundless, budget=20)
    monkeypatch.setattr(refusals, "is_installed", lambda package: package != "phonenumbers")
    with pytest.raises(PushError, match=r"prefdata\[hub\]"):
        deploy(str(recipe), hourly, file=file, push="org/name")
    assert not file.exists()


def test_a_model_that_two_roles_share_has_one_limit(recipe: Path, tmp_path: Path):
    from prefdata.flows.deploy import Schedule, deploy

    same = ["models.judge.accuracy=0.5", "models.judge.malformed_rate=0.0"]
    same += ["models.writer.accuracy=0.5"]
    limits = {"writer": 1, "judge": 2}
    with pytest.raises(RecipeError, match=r"judge, writer are the same model.* 1 and 2"):
        deploy(
            str(recipe),
            Schedule(every=60),
            file=tmp_path / "prefect.yaml",
            changes=same,
            model_limits=limits,
        )


def test_what_was_written_by_hand_stays(tmp_path: Path):
    from prefdata.flows import deploy as deploying

    file = tmp_path / "prefect.yaml"
    first = {
        "name": "n",
        "description": "d",
        "entrypoint": "e",
        "schedules": [{"cron": "0 3 * * *"}],
        "parameters": {"recipe": "r", "data": "d", "budget": 1.0, "retries": 2},
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
        "work_pool": {"name": "p"},
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "/a"}}],
    }
    deploying._write(file, first)
    (ours,) = read(file)["deployments"]
    assert ours == first
    by_hand = file.read_text().replace("name: p\n", "name: p\n      work_queue_name: urgent\n")
    by_hand = by_hand.replace("retries: 2\n", "retries: 2\n      n_shards: 4  # ours\n")
    by_hand = by_hand.replace("limit: 1\n", "limit: 2\n")
    file.write_text(by_hand.replace("    entrypoint: e\n", "    entrypoint: e\n    tags: [a]\n"))
    second = {**first, "parameters": {"recipe": "r2", "data": "d"}, "work_pool": {"name": "p2"}}
    moved = [{"prefect.deployments.steps.set_working_directory": {"directory": "/b"}}]
    second["pull"] = moved
    deploying._write(file, {**second, "schedules": [{"interval": 60}]})
    (ours,) = read(file)["deployments"]
    assert ours == {
        "name": "n",
        "description": "d",
        "entrypoint": "e",
        "schedules": [{"interval": 60}],
        "parameters": {"recipe": "r2", "data": "d", "n_shards": 4},
        "concurrency_limit": {"limit": 2, "collision_strategy": "CANCEL_NEW"},
        "work_pool": {"name": "p2", "work_queue_name": "urgent"},
        "pull": moved,
        "tags": ["a"],
    }
    assert "# ours" in file.read_text()
    cloned = [{"prefect.deployments.steps.git_clone": {"repository": "r"}}, *moved]
    deploying._write(file, {**first, "name": "other", "pull": cloned})
    deploying._write(file, {**first, "name": "other"})
    assert read(file)["deployments"][1]["pull"] == cloned


def test_an_api_that_fails_in_the_middle_is_told(monkeypatch: pytest.MonkeyPatch):
    import httpx
    from prefdata.flows import deploy as deploying

    def fails(**_: Any) -> None:
        asked = httpx.Request("POST", "http://user:p4ss@127.0.0.1/api/work_pools/")
        raise httpx.HTTPStatusError("p4ss", request=asked, response=httpx.Response(500))

    monkeypatch.setattr(deploying, "get_client", fails)
    with pytest.raises(PrefdataError, match=r"the pool 'ours'.*\(500\); see its log") as error:
        deploying._prepare("ours", {})
    assert "p4ss" not in str(error.value)


def test_a_file_is_as_it_was_where_prefect_does_not_deploy_it(
    server: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows import deploy as deploying

    def fails(*_: Any) -> None:
        raise PrefdataError("Prefect did not deploy it")

    monkeypatch.setattr(deploying, "_deploy", fails)
    file, hourly = tmp_path / "prefect.yaml", deploying.Schedule(every=3600)
    for held in (None, b"# ours\r\ndeployments:\n - {name: other}\n"):
        if held is not None:
            file.write_bytes(held)
        with pytest.raises(PrefdataError, match="did not deploy it"):
            deploying.deploy(str(recipe), hourly, file=file)
        assert (file.read_bytes() if file.exists() else None) == held
    for odd in (tmp_path, tmp_path / "nowhere" / "prefect.yaml"):
        with pytest.raises(PrefdataError, match=r"cannot be (read|written)"):
            deploying.deploy(str(recipe), hourly, file=odd)


def test_mistakes_are_found_before_anything_is_deployed(
    server: str,
    recipe: Path,
    tmp_path: Path,
):
    from prefdata.flows.deploy import Schedule, deploy

    file = tmp_path / "prefect.yaml"
    nightly = Schedule(cron="0 3 * * *")
    with pytest.raises(RecipeError, match=r"did you mean 'helpfulness'"):
        deploy(str(recipe), nightly, file=file, changes=["stages.1.judge=helpfulnes"])
    with pytest.raises(RecipeError, match="asks no model 'jury'; it asks judge, writer"):
        deploy(str(recipe), nightly, file=file, model_limits={"jury": 1})
    assert not file.exists()
    for odd in ("deployments: {a: 1}", "- 1", "deployments: [", "just text", "deployments: [a]"):
        file.write_text(odd)
        with pytest.raises(PrefdataError, match=r"prefect\.yaml"):
            deploy(str(recipe), nightly, file=file)
        assert file.read_text() == odd
    file.write_bytes(b"deployments: \xff\xfe")
    with pytest.raises(PrefdataError, match="cannot be read as YAML"):
        deploy(str(recipe), nightly, file=file)


def test_without_a_server_the_command_says_how_to_have_one(
    recipe: Path,
    tmp_path: Path,
):
    ran = subprocess.run(
        [sys.executable, "-m", "prefdata", "deploy", str(recipe), "--every", "6h", "--json"],
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    assert "prefect server start" in json.loads(ran.stdout)["error"]
    assert not (tmp_path / "prefect.yaml").exists()


@pytest.mark.slow
@pytest.mark.long
def test_scheduled_runs_ask_only_for_what_is_new(recipe: Path, tmp_path: Path):
    """A real server and worker: two runs, prompts added between them, then one with nothing new."""
    with real_server(tmp_path) as env:
        command = [sys.executable, "-m", "prefdata", "deploy", str(recipe), "--every", "20s"]
        said = subprocess.run(
            [*command, "--set", "models.judge.malformed_rate=0", "--data", "data", "--json"],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(said.stdout)["pool"] == "prefdata"
        with running(["worker", "start", "--pool", "prefdata"], tmp_path / "worker.log", env):
            finished(env, 1, within=240)
            first = versions(tmp_path / "data")
            with (tmp_path / "prompts.jsonl").open("a") as out:
                out.write('\n{"prompt": "Say something about a new number."}')
            n = len(finished(env, 1, within=1))
            finished(env, n + 3, within=400)  # one may have begun before the prompt was there
    assert len(first) == 1
    both = versions(tmp_path / "data")
    assert len(both) == 2  # of at least four runs: nothing new is no new version
    (new,) = [each for each in both if each not in first]
    manifest = json.loads((new / "manifest.json").read_text())
    assert manifest["tables"]["prompts"]["rows"] == N_PROMPTS + 1
    asked = manifest["counts"]["requests"]
    assert asked["asked"] == 3 + 3 * 2  # one prompt's: 3 completions, 3 pairs, both orders
    assert asked["cached"] == N_PROMPTS * asked["asked"]


@pytest.mark.slow
@pytest.mark.long
def test_a_run_that_is_cancelled_keeps_what_is_in_flight(recipe: Path, tmp_path: Path):
    """By a real server and worker, which ends the run's process with SIGTERM."""
    recipe.write_text(SLOW)
    with load("server").Server() as model, real_server(tmp_path) as env:
        model.latency = 2.0
        env |= {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
        subprocess.run(
            [sys.executable, "-m", "prefdata", "deploy", str(recipe), "--cron", "0 0 1 1 *"],
            env=env,
            cwd=tmp_path,
            check=True,
        )
        until = time.monotonic() + 240
        deployment = api(env, "deployments/name/prefdata-build/slow", None, until)["id"]
        run = api(env, f"deployments/{deployment}/create_flow_run", {}, until)["id"]
        with running(["worker", "start", "--pool", "prefdata"], tmp_path / "worker.log", env):
            while len(model.requests) < 8:
                assert time.monotonic() < until
                time.sleep(0.05)
            cancel = {"state": {"type": "CANCELLING"}, "force": True}
            api(env, f"flow_runs/{run}/set_state", cancel, until)
            while (state := api(env, f"flow_runs/{run}", None, until)["state_type"]) != "CANCELLED":
                assert state == "CANCELLING"
                assert time.monotonic() < until
                time.sleep(0.2)
        sent = len(model.requests)
    kept = sum(each.read_text().count("\n") for each in (tmp_path / "data").rglob("*.jsonl"))
    assert 8 <= sent < 4 * N_PROMPTS
    assert kept == sent


def versions(data: Path) -> list[Path]:
    return sorted(path.parent for path in data.glob("versions/planted/*/manifest.json"))
