"""Workers of a real Prefect server that are killed with the run that they have begun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.chaos.place import IN_FLIGHT, Place
from tests.flows.scheduled import flow_runs, real_server

pytest.importorskip("prefect")
pytestmark = [pytest.mark.slow, pytest.mark.long]
KILLS = 2
SELDOM = 10  # it takes minutes
WITHIN = 400.0


@contextmanager
def worker(log: Path, env: dict[str, str]) -> Iterator[None]:
    """A worker, which is killed in the end with all that it started."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "prefdata"]
    with log.open("w") as out:
        started = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def test_a_worker_that_is_killed_costs_what_was_in_flight_and_holds_up_nobody(
    chance: Random, place: Place, monkeypatch: pytest.MonkeyPatch
):
    """The places that its run held at the server, of its deployment and of models, are given up."""
    monkeypatch.setenv("PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION", "30")
    place.server.latency, place.server.scatter = 0.3, 0.3
    command = [sys.executable, "-m", "prefdata", "deploy", "r.toml", "--every", "10s", "--json"]
    command += ["--model-limit", "writer=1", "--model-limit", "judge=1", "--data", "data"]
    with real_server(place.folder) as env:
        subprocess.run(command, env=env, cwd=place.folder, check=True, stdout=subprocess.DEVNULL)
        for at in range(KILLS):
            asked = len(place.server.requests)
            wanted = chance.randint(1, 2 * IN_FLIGHT)
            with worker(place.folder / f"worker{at}.log", env):
                until = time.monotonic() + WITHIN
                while len(place.server.requests) < asked + wanted:
                    assert time.monotonic() < until, (place.folder / f"worker{at}.log").read_text()
                    time.sleep(0.01)
        assert len(place.server.requests) < len(place.calm.asked), "it was killed too late"
        place.server.latency = place.server.scatter = 0.0
        with worker(place.folder / "worker.log", env):
            until = time.monotonic() + WITHIN
            while not any(run["state_type"] == "COMPLETED" for run in flow_runs(env, until)):
                assert time.monotonic() < until, (place.folder / "worker.log").read_text()[-9000:]
                time.sleep(1)
    assert place.paid_again() <= KILLS * IN_FLIGHT
    (made,) = place.versions.glob("*/manifest.json")
    assert json.loads(made.read_text())["id"] == place.calm.id
    place.is_repaired()
