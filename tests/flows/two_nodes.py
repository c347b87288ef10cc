"""A Ray of two nodes on one machine, and a recipe whose models are behind a server of the tests.

The nodes are raylets of their own, each with its workers. `tests.flows.dawdling` is a stage of the
recipe that asks a model and then waits as long as it is told, so that something can be killed.
"""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# All of it on loopback: read when Ray is imported.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

from tests.chain import CHAIN
from tests.flows.dawdling import FOLDER
from tests.models.replies import digest
from tests.models.test_serving import free_port

ROOT = Path(__file__).parents[2]
N_PROMPTS, N_SHARDS = 12, 4
GPUS = 2  # of each node, for Ray to place by: a number that nothing is behind
MODEL = """
[models.{role}]
client = "openai"
model = "{role}"
family = "{role}"
seed = 1
base_url = "{url}"
"""
DAWDLE = """
[[stages]]
use = "tests.flows.dawdling:dawdle"
model = "judge"
"""


@dataclass
class Two:
    """A Ray of two nodes. `two` is the second, which may be killed; clients reach it at `url`."""

    cluster: Any
    folder: Path
    env: dict[str, str]
    url: str
    two: Any = field(default=None)

    def start_second(self) -> None:
        env = {**self.env, "PREFDATA_NODE": "two"}
        self.two = self.cluster.add_node(num_cpus=1, num_gpus=GPUS, env_vars=env)

    def log(self) -> list[list[str]]:
        """What was begun of the stage that dawdles: shard, process and node."""
        path = self.folder / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def build(self, recipe: Path, data: Path, **options: Any) -> dict[str, Any]:
        from prefdata.flows.build import build_flow

        (self.folder / "log").unlink(missing_ok=True)
        given = {"n_shards": N_SHARDS, "engine": "ray"}
        return build_flow(str(recipe), data=str(data), **{**given, **options})

    def build_and_kill(self, what: str, recipe: Path, data: Path) -> tuple[dict[str, Any], str]:
        """Kill a "worker" or "node" while the stage waits on both nodes; and the shard it was at.

        The second node is there again in the end.
        """
        made: dict[str, Any] = {}
        hold = self.folder / "hold"
        hold.touch()
        (self.folder / "log").unlink(missing_ok=True)  # what an earlier build began
        building = threading.Thread(target=lambda: made.update(self.build(recipe, data)))
        try:
            building.start()
            self._wait_for(lambda: {node for *_, node in self.log()} == {"one", "two"})
            shard, pid, _ = next(line for line in self.log() if line[2] == "two")
            if what == "node":
                os.kill(self.two.all_processes["raylet"][0].process.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):  # a worker whose raylet is gone may end by itself
                os.kill(int(pid), signal.SIGKILL)
        finally:
            hold.unlink()
            building.join(300)
            if what == "node":
                self.cluster.remove_node(self.two, allow_graceful=False)
                self.start_second()
        return made, shard

    def _wait_for(self, is_so: Callable[[], bool], seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < until, self.log()
            time.sleep(0.1)


@contextmanager
def two_nodes() -> Iterator[Two]:
    """The Ray that RAY_ADDRESS then names; both nodes know an S3 server, where there is one."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    folder = Path(tempfile.mkdtemp(prefix="prefdata-ray-", dir="/tmp"))  # sockets have short names
    env = {
        FOLDER: str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_memory_monitor_refresh_ms": "0",  # else it kills workers when others need memory
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with _s3() as endpoint, pytest.MonkeyPatch.context() as patch:
        env["AWS_ENDPOINT_URL"] = endpoint
        for name, value in env.items():
            if name not in (FOLDER, "PYTHONPATH"):
                patch.setenv(name, value)
        patch.setenv("RAY_TMPDIR", str(folder))
        port = free_port()
        head = {
            "num_cpus": 1,
            "num_gpus": GPUS,
            "include_dashboard": False,
            "ray_client_server_port": port,
            "env_vars": {**env, "PREFDATA_NODE": "one"},
        }
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        try:
            assert cluster.address.startswith("127.0.0.1:")
            made = Two(cluster, folder, env, f"ray://127.0.0.1:{port}")
            made.start_second()
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield made
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _s3() -> Iterator[str]:
    """The address of an S3 server of its own on loopback; empty where none can be had."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield ""
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def says(body: dict[str, Any]) -> str:
    """What a model says: a judge a verdict, by a digest of what it is asked."""
    mark = digest(body)
    if "Which reply is better?" in body["messages"][-1]["content"]:
        return json.dumps({"verdict": "AB"[int(mark[0], 16) % 2]})
    return f"{body['model']} says {mark[: 1 + int(mark[0], 16)]}"


def written(folder: Path, url: str, n_prompts: int = N_PROMPTS) -> Path:
    """The recipe, for models at an address."""
    prompts = (json.dumps({"prompt": f"Say something about {i}."}) for i in range(n_prompts))
    (folder / "prompts.jsonl").write_text("\n".join(prompts))
    roles = "".join(MODEL.format(role=role, url=url) for role in ("writer", "judge"))
    generate, rest = CHAIN.split("\n\n", 1)
    path = folder / "recipe.toml"
    path.write_text(
        'name = "far"\nsources.prompts = "prompts.jsonl"\n'
        f"{roles}{generate}\n{DAWDLE}\n{rest}"
        '\n[[exports]]\nuse = "export.pairwise"\n'
    )
    return path
