"""A Prefect server and worker of processes of their own on loopback, and what ran there."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def running(command: list[str], log: Path, env: dict[str, str]) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *command], stdout=out, stderr=out, env=env
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def real_server(folder: Path) -> Iterator[dict[str, str]]:
    """A Prefect server of its own process on loopback; the environment that reaches it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    command = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, folder / "server.log", env):
        until = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"{env['PREFECT_API_URL']}/health", timeout=5):
                    break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)
        yield env


def finished(env: dict[str, str], n: int, within: float) -> list[dict[str, Any]]:
    """The first n runs of the server's deployments that completed, by their times."""
    until = time.monotonic() + within
    while True:
        runs = flow_runs(env, until)
        failed = [run for run in runs if run["state_type"] in ("FAILED", "CRASHED")]
        assert not failed, failed[0]["state"]
        done = [run for run in runs if run["state_type"] == "COMPLETED"]
        if len(done) >= n:
            return done
        assert time.monotonic() < until, [(run["name"], run["state_name"]) for run in runs]
        time.sleep(1)


def flow_runs(env: dict[str, str], until: float) -> list[dict[str, Any]]:
    """What the server knows of runs."""
    return api(env, "flow_runs/filter", {"sort": "START_TIME_ASC"}, until)


def api(env: dict[str, str], path: str, body: dict[str, Any] | None, until: float) -> Any:
    """What the server's API says; a busy one is asked again."""
    asked = urllib.request.Request(
        f"{env['PREFECT_API_URL']}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > until:
                raise
