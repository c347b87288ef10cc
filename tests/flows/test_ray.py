"""Builds on a Ray of two nodes: the version of one machine, whatever is killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.dataset import Built
from prefdata.errors import ModelError, PrefdataError
from prefdata.models.scripted import ScriptedClient
from prefdata.models.spec import ModelSpec
from tests.flows.two_nodes import DAWDLE, ROOT, Two, says, two_nodes, written
from tests.models.conftest import ask, small_model  # noqa: F401
from tests.models.server import Server

pytest.importorskip("prefect")
pytest.importorskip("prefect_ray")
pytestmark = pytest.mark.slow

DEADLY = """
[[stages]]
use = "tests.flows.dawdling:deadly"
"""


@pytest.fixture(scope="module")
def two(server: str) -> Iterator[Two]:
    with two_nodes() as made:
        yield made


@pytest.fixture
def models() -> Iterator[Server]:
    with Server(answers=says) as server:
        yield server


@pytest.fixture
def recipe(tmp_path: Path, models: Server) -> Path:
    return written(tmp_path, models.url)


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


def test_two_nodes_build_the_version_of_one_machine(
    two: Two, recipe: Path, expected: Built, models: Server, tmp_path: Path
):
    built = two.build(recipe, tmp_path / "far")
    assert same(built, expected)
    assert {node for *_, node in two.log()} == {"one", "two"}
    assert max(models.seen().values()) == 1
    assert not [each for each in (tmp_path / "far" / "builds").rglob("*") if each.is_file()]


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
    made, shard = two.build_and_kill(what, recipe, tmp_path / "far")
    assert same(made, expected)
    assert max(models.seen().values()) == 1
    begun = [line[0] for line in two.log()]
    assert len(begun) == len(set(begun)) + 1
    assert begun.count(shard) == 2


def test_tables_go_by_an_s3_store(two: Two, recipe: Path, expected: Built, tmp_path: Path):
    s3fs = pytest.importorskip("s3fs")
    if not two.env["AWS_ENDPOINT_URL"]:
        pytest.skip("no S3 server is installed: pip install -r tests/requirements-s3.txt")
    bucket = s3fs.S3FileSystem()
    bucket.mkdir("shelves")
    built = two.build(recipe, tmp_path / "far", store="s3://shelves/tables")
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

    found = machines.packages
    here, old = found(()), {"prefdata": "0.0 (of old)"}
    monkeypatch.setattr(machines, "packages", lambda stages: {**found(stages), **old})
    with pytest.raises(PrefdataError, match=r"4 faults on the nodes of Ray") as told:
        two.build(recipe, tmp_path / "far", store="memory://of-this-process")
    said = str(told.value)
    assert said.count(f"prefdata is {here['prefdata']}, not 0.0 (of old)") == 2
    assert said.count("the store memory://of-this-process") == 2
    for address in ("ray://127.0.0.1:9", "ray"):
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
        with pytest.raises(PrefdataError, match=r"no Ray answers at .*127\.0\.0\.1:9 .*ray start"):
            two.build(recipe, tmp_path / "far", engine=address)
    assert not models.requests


@pytest.mark.long
def test_failures_of_stages_surface_as_they_are(
    two: Two, recipe: Path, models: Server, tmp_path: Path
):
    models.fault("401")
    with pytest.raises(
        ModelError, match=r"^recipe far, stage 1 \(generate.sample\)|^the model 'writer'"
    ):
        two.build(recipe, tmp_path / "far")
    models.reset()
    deadly = recipe.with_name("deadly.toml")
    deadly.write_text(recipe.read_text().replace(DAWDLE, DEADLY))
    with pytest.raises(PrefdataError, match=r"deadly, shard \d of \d, could not be run on Ray"):
        two.build(deadly, tmp_path / "far", n_shards=1)
    assert max(models.seen().values()) == 1


@pytest.fixture
def connected(two: Two) -> Iterator[Any]:
    import ray

    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
    yield ray
    ray.shutdown()


def test_replicas_answer_as_one_client_and_outlive_a_kill(connected: Any):
    """A client of this machine, but as a replica, which is killed while it is asked."""
    from prefdata.flows.replicas import Fleet, Replicas

    spec = ModelSpec(client="scripted", model="planted")
    requests = ask(spec, [f"question {at}" for at in range(400)])
    alone = pl.concat(ScriptedClient(spec).answer(requests))
    asked = Replicas(spec, {}, Fleet(has_gpus=False))
    try:
        heard = asked.answer(requests)
        batches = [next(heard)]
        (actor,) = asked._actors
        os.kill(connected.get(actor.process.remote()), signal.SIGKILL)
        batches += heard
        again = list(asked.answer(requests))
    finally:
        asked.close()
    assert len(batches) > 1
    for each in (batches, again):
        assert pl.concat(each).sort("request_id").equals(alone.sort("request_id"))


def test_replicas_share_the_gpus_and_one_without_a_place_is_not_waited_for(
    connected: Any, monkeypatch: pytest.MonkeyPatch
):
    """Two nodes of two GPUs each, for one replica of two, two of one, and one too many."""
    from prefdata.flows import replicas
    from prefdata.flows.replicas import Fleet, Replicas

    monkeypatch.setattr(replicas, "FAREWELL", 1.0)  # one without a place says none
    small = ModelSpec(client="scripted", model="small")
    large = ModelSpec(client="scripted", model="large", engine={"tensor_parallel_size": 2})
    fleet = Fleet(has_gpus=True)
    three = Replicas(small.model_copy(update={"replicas": 3}), {}, fleet)
    one = Replicas(large, {}, fleet)
    try:
        for spec, asked in ((small, three), (large, one)):
            requests = ask(spec, [f"question {at}" for at in range(40)])
            heard = pl.concat(asked.answer(requests))
            assert set(heard["request_id"]) == set(requests["request_id"])
            assert not heard["error"].count()
    finally:
        three.close()
        one.close()


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


def test_a_ray_that_is_started_here_is_reached_from_here_only():
    look = (
        "from prefdata.flows.machines import _connected\n"
        "with _connected('ray') as ray:\n"
        "    print([node['NodeManagerAddress'] for node in ray.nodes()])"
    )
    folder = tempfile.mkdtemp(prefix="prefdata-ray-", dir="/tmp")  # sockets have short names
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    try:
        done = subprocess.run(
            [sys.executable, "-c", look],
            env={**env, "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.stdout == "['127.0.0.1']\n", done.stderr
