"""The bundled recipe `full`: every part in one build, planted; then real, on a schedule, pushed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import prefdata
from prefdata.version import find, verify
from tests.flows.scheduled import finished, real_server, running
from tests.hub.server import OWNER, TOKEN, Hub
from tests.models.conftest import small_model  # noqa: F401

ROLES = ("writer", "judge", "target")
PLANTED = [f"models.{role}.client=scripted" for role in ROLES]
VIEWS = {"pairwise", "listwise", "binary"}


@pytest.mark.slow
def test_every_part_is_in_one_build_and_nothing_is_asked_twice(tmp_path: Path):
    built = prefdata.build("full", data=tmp_path, changes=PLANTED)
    version = verify(built.path)
    assert built.exports.keys() >= VIEWS
    assert all(built.exports[view] > 0 for view in VIEWS)
    scores = set(version.table("scores")["score"])
    assert scores >= {"ches", "ln_ches", "label_error", "preference"}
    measured = set(version.table("measures")["subject"])
    assert {"label_error", "icai"} <= measured
    assert version.table("assignments").height == 4
    assert any(each.startswith("principle:") for each in version.table("votes")["annotator"])
    reasons = set(version.table("dropped")["stage"])
    assert "select.lowest_score" in reasons
    again = prefdata.build("full", data=tmp_path, changes=PLANTED)
    assert (again.id, again.is_new, again.requests["asked"]) == (built.id, False, 0)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.torch
def test_on_a_schedule_with_a_real_model_and_pushed(tmp_path: Path, small_model: Path):  # noqa: F811
    """Two versions of it: the second with a prompt more, for which alone the models are asked."""
    pytest.importorskip("prefect")
    questions = [f"What is {a} plus {a + 2}?" for a in range(2, 7)]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in questions))
    changes = [f"sources.prompts.path={prompts}", f"models.target.model={small_model}"]
    for role in ("writer", "judge"):
        changes += [f"models.{role}.client=embedded", f"models.{role}.model=smollm2-135m"]
    with Hub() as hub, real_server(tmp_path) as env:
        env |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        subprocess.run(
            [
                *(sys.executable, "-m", "prefdata", "deploy", "full", "--every", "20s"),
                *("--push", f"{OWNER}/full", "--data", str(tmp_path / "data"), "--json"),
                *(word for change in changes for word in ("--set", change)),
            ],
            env=env,
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        with running(["worker", "start", "--pool", "prefdata"], tmp_path / "worker.log", env):
            finished(env, 1, within=900)
            first = find(tmp_path / "data", "full")
            with prompts.open("a") as out:
                out.write(json.dumps({"prompt": "What is nine minus one?"}) + "\n")
            finished(env, len(finished(env, 1, within=1)) + 2, within=900)
        second = find(tmp_path / "data", "full")
    assert second.id != first.id
    asked = second.manifest["counts"]["requests"]
    # Of the sixth prompt, and what sees all pairs at once: rules are proposed and voted on anew.
    before = first.manifest["counts"]["requests"]["asked"]
    assert 0 < asked["asked"] < before
    assert asked["cached"] > before / 2
    assert not any(asked[fate] for fate in ("failed", "unsent"))
    repo = hub.repos[f"{OWNER}/full"]
    assert repo.private
    assert {first.id, second.id} <= repo.tags.keys()
    assert repo.tags[second.id] == repo.heads[-1]
