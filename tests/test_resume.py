"""A build that is killed again and again ends as an undisturbed one and pays nothing twice."""

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import prefdata
from tests.models.conftest import load

IN_FLIGHT = 8
MODELS = """
name = "resumed"
seed = 11
sources.prompts = "prompts.jsonl"
splits.test = 0.2

[models.writer]
client = "openai"
model = "repeatable"
temperature = 0.9
seed = 1
{asked}

[models.judge]
client = "openai"
model = "repeatable"
temperature = 0.0
{asked}
"""
STAGES = """
[[stages]]
use = "generate.sample"
model = "writer"
n = 3

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"
allow_self = true

[[stages]]
use = "annotate.pointwise"
judge = "ultrafeedback"
model = "judge"
allow_self = true

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"

[[exports]]
use = "export.pairwise"
"""
BUILD = """
import json, sys
import prefdata
print(json.dumps(prefdata.build("r.toml", data=sys.argv[1]).to_json()))
"""


@dataclass
class Served:
    """A server in a process of its own, and its log of requests."""

    url: str
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def marks(self) -> list[str]:
        return [each["mark"] for each in self.lines() if "mark" in each]

    def operations(self) -> Counter[str]:
        return Counter(each["operation"] for each in self.lines() if "operation" in each)


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    running: list[subprocess.Popen[str]] = []

    def start_one(*flags: str) -> Served:
        log = tmp_path / f"requests{len(running)}.jsonl"
        log.touch()
        script = Path(__file__).parent / "models" / "server.py"
        command = [sys.executable, str(script), "--log", str(log), *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        return Served(process.stdout.readline().strip(), log)

    yield start_one
    for process in running:
        process.kill()
        process.wait()


def recipe(folder: Path, asked: str, n_prompts: int = 40) -> None:
    rows = [json.dumps({"prompt": f"Question {i}: what is {i} + {i}?"}) for i in range(n_prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(rows))
    (folder / "r.toml").write_text(MODELS.format(asked=asked) + STAGES)


def start(folder: Path, data: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, data],
        cwd=folder,
        env={"OPENAI_API_KEY": "none", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def disturb(folder: Path, servers: list[Served], kills: int, longest: float) -> None:
    """Kill a build so often, each time a random while after its first request."""
    moments = random.Random(20)
    size = lambda: sum(each.log.stat().st_size for each in servers)  # noqa: E731
    for kill in range(kills):
        before = size()
        process = start(folder, "killed")
        while size() == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, longest))
        assert process.poll() is None, f"the build is too short: it ended after {kill} kills"
        process.kill()
        process.communicate()


def check(
    folder: Path, servers: list[Served], undisturbed: dict[str, Any], once: Counter[str], most: int
) -> None:
    """The rest of a killed build: nothing lost, and at most so much was asked again."""
    resumed = finish(start(folder, "killed"))
    assert resumed["id"] == undisturbed["id"]
    again = Counter(mark for each in servers for mark in each.marks())
    assert set(again) == set(once), "nothing is lost, and nothing else was asked"
    assert sum(again.values()) - len(again) <= most

    before = [len(each.lines()) for each in servers]
    third = finish(start(folder, "killed"))
    n = resumed["requests"]["cached"] + resumed["requests"]["asked"]
    assert third["requests"] == {"asked": 0, "cached": n, "failed": 0, "unsent": 0}
    assert third["is_new"] is False
    assert [len(each.lines()) for each in servers] == before, "a finished build asks nothing"


@pytest.fixture
def undisturbed(serve: Serve, tmp_path: Path) -> Callable[[int], tuple[dict[str, Any], Any]]:
    def build(n_prompts: int) -> tuple[dict[str, Any], Counter[str]]:
        calm = serve()
        recipe(tmp_path, f'base_url = "{calm.url}"', n_prompts)
        built = finish(start(tmp_path, "whole"))
        once = Counter(calm.marks())
        assert set(once.values()) == {1}, "an undisturbed build asks nothing twice"
        return built, once

    return build


SLOW = (pytest.mark.slow, pytest.mark.long)


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=SLOW)])
def test_kills_cost_only_what_was_in_flight(
    kills: int, serve: Serve, tmp_path: Path, undisturbed: Any
):
    calm = undisturbed(4 * kills)
    server = serve("--latency", "0.05", "--scatter", "0.1")
    recipe(tmp_path, f'base_url = "{server.url}"\nconcurrency = {IN_FLIGHT}', 4 * kills)
    disturb(tmp_path, [server], kills, 0.5)
    check(tmp_path, [server], *calm, kills * IN_FLIGHT)


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=SLOW)])
def test_kills_cost_only_what_was_in_flight_at_any_endpoint(
    kills: int, serve: Serve, tmp_path: Path, undisturbed: Any
):
    calm = undisturbed(5 * kills)
    servers = [serve("--latency", "0.05", "--scatter", "0.1") for _ in range(2)]
    urls = json.dumps([each.url for each in servers])
    recipe(tmp_path, f"base_url = {urls}\nconcurrency = {IN_FLIGHT // 2}", 5 * kills)
    disturb(tmp_path, servers, kills, 0.5)
    check(tmp_path, servers, *calm, kills * IN_FLIGHT)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=SLOW)])
def test_kills_cost_nothing_where_batches_are_handed_over(
    kills: int, serve: Serve, tmp_path: Path, undisturbed: Any
):
    """Every batch is found again, whether it was recorded, running or done when the build died."""
    calm = undisturbed(20)
    server = serve("--batch-looks", str(kills))
    batches = 'mode = "batch"\nbatch_size = 7'
    recipe(tmp_path, f'base_url = "{server.url}"\n{batches}', 20)
    disturb(tmp_path, [server], kills, 0.4)
    control = server.url.replace("/v1", "/control/batches")
    urllib.request.urlopen(urllib.request.Request(control, b'{"looks": 0}')).close()
    check(tmp_path, [server], *calm, 0)
    # 60 draws, 120 comparisons and 60 ratings, in batches of 7
    assert server.operations()["POST /v1/batches"] <= 9 + 18 + 9 + 3, "none was made in vain"


def test_one_more_prompt_costs_its_own_requests(serve: Serve, tmp_path: Path):
    server = serve()
    recipe(tmp_path, f'base_url = "{server.url}"')
    finish(start(tmp_path, "data"))
    before = len(server.marks())
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"prompt": "One more question"}))
    grown = finish(start(tmp_path, "data"))
    # 3 draws, 3 pairs in both orders, 3 ratings
    assert grown["requests"]["asked"] == len(server.marks()) - before == 3 + 6 + 3


@pytest.mark.parametrize("mode", ["live", "batch"])
def test_one_bad_prompt_of_two_hundred_costs_one_row(mode: str, tmp_path: Path):
    with load("server").Server() as server:
        server.fault("400", match="Question 77:")
        recipe(tmp_path, f'base_url = "{server.url}"\nmode = "{mode}"', 200)
        changes = ["stages.generate.sample.n=1", "stages.annotate.pointwise.reask=false"]
        built = prefdata.build(tmp_path / "r.toml", data=tmp_path / "data", changes=changes)
        assert server.asked()["Question 77: what is 77 + 77?"] == 1
    assert built.tables["completions"] == 199
    dropped = prefdata.load(f"resumed@{built.id}", "dropped", data=tmp_path / "data")
    reason = "error: bad request (400): told to answer 400"
    assert dropped.filter(dropped["table"] == "samples")["reason"].to_list() == [reason]
