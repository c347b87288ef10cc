"""Builds on a Ray of two nodes: the version of one machine, whatever is killed on the way.

The nodes are raylets of their own on loopback, each with its workers. `tests.flows.dawdling` is a
stage that asks a model and then waits as long as a test wants, so that something can be killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.dataset import Built
from prefdata.errors import ModelError, PrefdataError
from prefdata.models.scripted import ScriptedClient
from prefdata.models.spec import ModelSpec
from tests.chain import CHAIN
from tests.flows.dawdling import FOLDER
from tests.models.conftest import ask, small_model  # noqa: F401
from tests.models.replies import digest
from tests.models.server import Server
from tests.models.test_serving import free_port

pytest.importorskip("prefect")
pytest.importorskip("prefect_ray")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
N_PROMPTS, N_SHARDS = 12, 4
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

DEADLY = """
[[stages]]
use = "tests.flows.dawdling:deadly"
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
        self.two = self.cluster.add_node(num_cpus=1, env_vars=env)

    def log(self) -> list[list[str]]:
        """What was begun of the stage that dawdles: shard, process and node."""
        path = self.folder / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, is_so: Callable[[], Any], seconds: float = 120) -> Any:
        until = time.monotonic() + seconds
        while not (found := is_so()):
            assert time.monotonic() < until, self.log()
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def two(server: str) -> Iterator[Two]:
    """Shared by the tests of this file; both know an S3 server, where there is one."""
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
    with s3() as endpoint, pytest.MonkeyPatch.context() as patch:
        env["AWS_ENDPOINT_URL"] = endpoint
        for name, value in env.items():
            if name not in (FOLDER, "PYTHONPATH"):
                patch.setenv(name, value)
        patch.setenv("RAY_TMPDIR", str(folder))
        head = {
            "num_cpus": 1,
            "include_dashboard": False,
            "ray_client_server_port": free_port(),
            "env_vars": {**env, "PREFDATA_NODE": "one"},
        }
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        try:
            made = Two(cluster, folder, env, f"ray://127.0.0.1:{head['ray_client_server_port']}")
            made.start_second()
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield made
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def s3() -> Iterator[str]:
    """An S3 server of its own on loopback, with a bucket; empty where none can be had."""
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


@pytest.fixture
def models() -> Iterator[Server]:
    with Server(answers=says) as server:
        yield server


def says(body: dict[str, Any]) -> str:
    """What a model says: a judge a verdict, by a digest of what it is asked."""
    mark = digest(body)
    if "Which reply is better?" in body["messages"][-1]["content"]:
        return json.dumps({"verdict": "AB"[int(mark[0], 16) % 2]})
    return f"{body['model']} says {mark[: 1 + int(mark[0], 16)]}"


@pytest.fixture
def recipe(tmp_path: Path, models: Server) -> Path:
    prompts = (json.dumps({"prompt": f"Say something about {i}."}) for i in range(N_PROMPTS))
    (tmp_path / "prompts.jsonl").write_text("\n".join(prompts))
    roles = "".join(MODEL.format(role=role, url=models.url) for role in ("writer", "judge"))
    generate, rest = CHAIN.split("\n\n", 1)
    path = tmp_path / "recipe.toml"
    path.write_text(
        'name = "far"\nsources.prompts = "prompts.jsonl"\n'
        f"{roles}{generate}\n{DAWDLE}\n{rest}"
        '\n[[exports]]\nuse = "export.pairwise"\n'
    )
    return path


@pytest.fixture
def expected(recipe: Path, tmp_path: Path, models: Server) -> Built:
    """What one machine builds; the server has then forgotten it."""
    built = prefdata.build(recipe, data=tmp_path / "plain")
    assert built.tables["pairs"]
    models.reset()
    return built


def same(built: dict[str, Any], expected: Built) -> bool:
    """All but where it is, and what a shard found in the ledger because another had asked it."""
    asked = {key: n for key, n in built["requests"].items() if key != "cached"}
    assert asked.items() <= expected.requests.items()
    given = {"path": built["path"], "requests": built["requests"]}
    return built == {**expected.to_json(), **given}


def far(recipe: Path, data: Path, **options: Any) -> dict[str, Any]:
    from prefdata.flows.build import build_flow

    given = {"n_shards": N_SHARDS, "engine": "ray"}
    return build_flow(str(recipe), data=str(data), **{**given, **options})


@contextmanager
def held(two: Two) -> Iterator[None]:
    """The stage waits, on both nodes."""
    (two.folder / "log").unlink(missing_ok=True)
    hold = two.folder / "hold"
    hold.touch()
    try:
        yield
    finally:
        hold.unlink(missing_ok=True)


def test_two_nodes_build_the_version_of_one_machine(
    two: Two, recipe: Path, expected: Built, models: Server, tmp_path: Path
):
    (two.folder / "log").unlink(missing_ok=True)
    built = far(recipe, tmp_path / "far")
    assert same(built, expected)
    assert {node for *_, node in two.log()} == {"one", "two"}
    assert max(models.seen().values()) == 1
    assert not list((tmp_path / "far" / "builds").iterdir())


@pytest.mark.parametrize("what", ["worker", "node"])
def test_a_kill_in_mid_build_costs_the_shards_in_flight(
    what: str,
    two: Two,
    recipe: Path,
    expected: Built,
    models: Server,
    tmp_path: Path,
):
    """The same version, each request asked once, and only what was at work is made again."""
    made: dict[str, Any] = {}
    try:
        with held(two):
            building = threading.Thread(target=lambda: made.update(far(recipe, tmp_path / "far")))
            building.start()
            two.wait_for(lambda: {node for *_, node in two.log()} == {"one", "two"})
            shard, pid, _ = next(line for line in two.log() if line[2] == "two")
            if what == "node":
                os.kill(two.two.all_processes["raylet"][0].process.pid, signal.SIGKILL)
            os.kill(int(pid), signal.SIGKILL)
        building.join(300)
        assert same(made, expected)
        assert max(models.seen().values()) == 1
        begun = [line[0] for line in two.log()]
        assert len(begun) == len(set(begun)) + 1
        assert begun.count(shard) == 2
    finally:
        if what == "node":
            two.cluster.remove_node(two.two, allow_graceful=False)
            two.start_second()


def test_tables_go_by_an_s3_store(two: Two, recipe: Path, expected: Built, tmp_path: Path):
    s3fs = pytest.importorskip("s3fs")
    if not two.env["AWS_ENDPOINT_URL"]:
        pytest.skip("no S3 server is installed: pip install -r tests/requirements-s3.txt")
    bucket = s3fs.S3FileSystem()
    bucket.mkdir("shelves")
    built = far(recipe, tmp_path / "far", store="s3://shelves/tables")
    assert built["id"] == expected.id
    assert not (tmp_path / "far" / "builds").exists()
    bucket.invalidate_cache()
    assert not bucket.find("shelves")


@pytest.mark.long
def test_the_command_reaches_a_ray_as_its_client(
    two: Two, server: str, recipe: Path, expected: Built, tmp_path: Path
):
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "prefdata", "build", str(recipe), "--engine", two.url),
            *("--data", str(tmp_path / "far"), "--json"),
        ],
        env={**os.environ, "PREFECT_API_URL": server},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1])["id"] == expected.id
    assert ran.stderr.startswith(f"building {recipe} on {two.url}, through Prefect")


def test_what_a_node_cannot_do_is_said_before_anything_is_asked(
    two: Two, recipe: Path, models: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows import machines

    here = machines.packages()
    monkeypatch.setattr(machines, "packages", lambda: {**here, "prefdata": "0.0 (of old)"})
    with pytest.raises(PrefdataError, match=r"4 faults on the nodes of Ray") as told:
        far(recipe, tmp_path / "far", store="memory://of-this-process")
    said = str(told.value)
    assert said.count(f"prefdata is {here['prefdata']}, not 0.0 (of old)") == 2
    assert said.count("the store memory://of-this-process") == 2
    for address in ("ray://127.0.0.1:9", "ray"):
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
        with pytest.raises(PrefdataError, match=r"no Ray answers at .*127\.0\.0\.1:9 .*ray start"):
            far(recipe, tmp_path / "far", engine=address)
    assert not models.requests


@pytest.mark.long
def test_failures_of_stages_surface_as_they_are(
    two: Two, recipe: Path, models: Server, tmp_path: Path
):
    models.fault("401")
    with pytest.raises(
        ModelError, match=r"^recipe far, stage 1 \(generate.sample\)|^the model 'writer'"
    ):
        far(recipe, tmp_path / "far")
    models.reset()
    deadly = recipe.with_name("deadly.toml")
    deadly.write_text(recipe.read_text().replace(DAWDLE, DEADLY))
    with pytest.raises(PrefdataError, match=r"deadly, shard \d of \d, could not be run on Ray"):
        far(deadly, tmp_path / "far", n_shards=1)
    assert max(models.seen().values()) == 1


def test_replicas_answer_as_one_client_and_outlive_a_kill(two: Two, tmp_path: Path):
    """A client of this machine, but as two replicas, one of which is killed while it is asked."""
    import ray
    from prefdata.flows.replicas import Replicas

    spec = ModelSpec(client="scripted", model="planted")
    requests = ask(spec, [f"question {at}" for at in range(400)])
    alone = pl.concat(ScriptedClient(spec).answer(requests))
    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
    asked = Replicas(spec.model_copy(update={"replicas": 1}), {})
    try:
        heard = list(asked.answer(requests))
        assert len(heard) > 1
        (actor,) = asked._actors
        os.kill(ray.get(actor.process.remote()), signal.SIGKILL)
        again = list(asked.answer(requests))
    finally:
        asked.close()
        ray.shutdown()
    for batches in (heard, again):
        assert pl.concat(batches).sort("request_id").equals(alone.sort("request_id"))


@pytest.mark.long
@pytest.mark.torch
def test_a_real_replica_answers_as_the_engine_of_one_machine(tmp_path: Path, small_model: Path):  # noqa: F811
    """By the command, with a Ray and a Prefect server of its own; then nothing is left to ask."""
    pytest.importorskip("vllm")
    (tmp_path / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"What is {at} plus two?"}) for at in range(6))
    )
    recipe = tmp_path / "real.toml"
    recipe.write_text(
        'name = "real"\nsources.prompts = "prompts.jsonl"\n[models.writer]\nclient = "vllm"\n'
        f"model = {json.dumps(str(small_model))}\nmax_tokens = 16\nseed = 1\n"
        "engine = { max_model_len = 512, enforce_eager = true }\n"
        '[[stages]]\nuse = "generate.sample"\nmodel = "writer"\nn = 2\n'
        '[[stages]]\nuse = "estimate.log_likelihood"\nmodel = "writer"\n'
    )
    small = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    home = Path(tempfile.mkdtemp(prefix="prefdata-ray-", dir="/tmp"))
    env = {**os.environ, **small, "OMP_NUM_THREADS": "2", "RAY_TMPDIR": str(home)}
    env |= {"PREFECT_HOME": str(home), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    env["RAY_memory_monitor_refresh_ms"] = "0"
    for name in ("RAY_ADDRESS", "PREFECT_API_URL"):
        env.pop(name, None)
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "prefdata", "build", str(recipe), "--engine", "ray"),
            *("--data", str(tmp_path / "data"), "--json"),
        ],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(home, ignore_errors=True)
    assert ran.returncode == 0, ran.stderr
    built = json.loads(ran.stdout.splitlines()[-1])
    assert built["requests"]["asked"] > 12
    assert not built["requests"]["failed"]
    again = prefdata.build(recipe, data=tmp_path / "data")
    assert (again.id, again.is_new, again.requests["asked"]) == (built["id"], False, 0)
