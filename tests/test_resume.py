"""A build that is killed again and again ends as an undisturbed one and pays nothing twice."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KILLS = 10
IN_FLIGHT = 8
RECIPE = f"""
name = "resumed"
seed = 11
sources.prompts = "prompts.jsonl"
splits.test = 0.2

[models.writer]
client = "openai"
model = "repeatable"
temperature = 0.9
concurrency = {IN_FLIGHT}
seed = 1

[models.judge]
client = "openai"
model = "repeatable"
temperature = 0.0
concurrency = {IN_FLIGHT}

[[stages]]
use = "generate.sample"
model = "writer"
n = 3

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"

[[stages]]
use = "annotate.pointwise"
judge = "ultrafeedback"
model = "judge"

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server in a process of its own, and its log of requests."""
    log = tmp_path / "requests.jsonl"
    script = Path(__file__).parent / "models" / "server.py"
    command = [
        sys.executable,
        str(script),
        "--latency",
        "0.05",
        "--scatter",
        "0.1",
        "--log",
        str(log),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip(), log
    process.kill()
    process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"Question {i}: what is {i} + {i}?"}) for i in range(40)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def start(folder: Path, data: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, data],
        cwd=folder,
        env={"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def seen(log: Path) -> Counter[str]:
    return Counter(json.loads(line)["mark"] for line in log.read_text().splitlines())


def test_ten_kills_cost_only_what_was_in_flight(server: tuple[str, Path], folder: Path):
    url, log = server
    undisturbed = finish(start(folder, "whole", url))
    once = seen(log)
    assert set(once.values()) == {1}, "an undisturbed build asks nothing twice"
    log_lines = sum(once.values())

    moments = random.Random(20)
    killed = 0
    while killed < KILLS:
        before = log.stat().st_size
        process = start(folder, "killed", url)
        while log.stat().st_size == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.5))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    resumed = finish(start(folder, "killed", url))

    assert killed == KILLS, "the build is long enough to be killed so often"
    assert resumed["id"] == undisturbed["id"]
    marks = [json.loads(line)["mark"] for line in log.read_text().splitlines()]
    again = Counter(marks[log_lines:])
    assert set(again) == set(once)
    repeated = sum(count - 1 for count in again.values())
    assert repeated <= KILLS * IN_FLIGHT

    third = finish(start(folder, "killed", url))
    known = resumed["requests"]["cached"] + resumed["requests"]["asked"]
    assert third["requests"] == {"asked": 0, "cached": known, "failed": 0}
    assert third["is_new"] is False
    assert sum(seen(log).values()) == len(marks), "a finished build asks nothing"


def test_one_more_prompt_costs_its_own_requests(server: tuple[str, Path], folder: Path):
    url, log = server
    finish(start(folder, "data", url))
    before = sum(seen(log).values())
    with (folder / "prompts.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"prompt": "One more question"}))
    grown = finish(start(folder, "data", url))
    # 3 draws, 3 pairs in both orders, 3 ratings
    assert grown["requests"]["asked"] == sum(seen(log).values()) - before == 3 + 6 + 3
