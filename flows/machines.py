"""The engines of a flow: where its tasks run, and where its models do.

    with engine_of("ray://head:10001", plan, folder) as machines: ...

Without a name it is a pool of threads. "ray" is the Ray that RAY_ADDRESS names, else one that is
started on this machine and ends with the flow; "ray://HOST:PORT" is a Ray reached as its client.
Ray, by prefect-ray's task runner, decides where a task runs, and runs again elsewhere what a worker
or a node had when it was lost; models of the client `vllm` are replicas there (`flows.replicas`).

Before anything is spent every node is looked at: that it has the same prefdata, with the recipe's
own stages, reads and writes the store, and reaches the Prefect API, to which tasks report.
"""

# pyright: basic, reportMissingImports=false

import importlib.metadata
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefdata.flows import store as on_store
from prefdata.flows.replicas import Replicas, cpus_and_gpus
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

import prefdata
from prefdata.errors import PrefdataError
from prefdata.models.client import Client
from prefdata.models.clients import Opens, open_client
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.planning.plan import Plan, PlannedStage
from prefdata.way import need_engine, without_login

THREADS = 8  # shards of a stage at a time; their requests go on together in the client
# Seconds in which a node says that it is well (it starts Python and loads prefdata), and in which
# it reaches the Prefect API.
LOOKED, REACHED = 180.0, 10.0
LOOK = 1.0  # seconds between two looks whether the build goes on
# Ray's word for whether its ports are at this machine's address, on any system, or at loopback.
OTHERS_REACH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
ADVICE = (
    ". Start one with `ray start --head` and name it: --engine ray://HOST:10001, or --engine ray "
    "with RAY_ADDRESS=HOST:6379 on one of its machines; without a name, that starts one here"
)
# Packages whose version may change what arithmetic comes to.
ARITHMETIC = ("polars", "numpy", "scipy")


@dataclass(frozen=True)
class Engine:
    """Where tasks run. `opens` opens the clients of models, `n_shards` is how many shards are
    worked on at a time, `lost` is what is raised where a task could not be run to its end."""

    runner: TaskRunner[Any]
    n_shards: int = 1
    opens: Opens = open_client
    lost: tuple[type[Exception], ...] = ()

    def make(self, task: Any, given: dict[str, Any], *, goes_on: Callable[[], bool]) -> Any:
        """Run a task and return what it returns; `TimeoutError` once it need not go on."""
        future = self.runner.submit(task, given)
        try:
            while True:
                try:
                    return future.result(timeout=LOOK)
                except TimeoutError:
                    if not goes_on():
                        raise
        except self.lost as error:
            said, *_ = [*str(error).strip().splitlines(), ""]
            raise PrefdataError(
                f"{given['stage']}, shard {given['shard']} of {given['of']}, could not be run on "
                f"Ray, also when tried again: {type(error).__name__}: {said}; what was answered is "
                "kept: build again"
            ) from error


@contextmanager
def engine_of(name: str | None, planned: Plan, folder: str) -> Generator[Engine]:
    """The engine of a name, for a plan whose tables are handed on by a folder of a store.

    `PrefdataError` for whatever would fail on it.
    """
    if name is None:
        with ThreadPoolTaskRunner(max_workers=THREADS) as threads:
            yield Engine(threads)
        return
    need_engine(name)
    on_store.probe(folder)
    with _connected(name) as ray, _api() as api:
        _refuse_misfits(ray, planned, folder, api)
        resources = ray.cluster_resources()
        with _task_runner() as runner:
            yield Engine(
                runner,
                n_shards=max(1, int(resources.get("CPU", 1))),
                opens=partial(_open, planned.recipe.specs),
                lost=(ray.exceptions.RayError,),
            )


def _task_runner() -> TaskRunner[Any]:
    # That of a Ray that is connected already.
    return import_module("prefect_ray").RayTaskRunner()


@contextmanager
def _connected(name: str) -> Generator[Any]:
    """Ray, connected; one that this process is connected to already is left as it is."""
    named = os.environ.get("RAY_ADDRESS") if name == "ray" else name
    if not named:
        os.environ.setdefault(OTHERS_REACH, "0")  # read when Ray is imported
    ray: Any = import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    own = {} if named else {"include_dashboard": False}
    if named:
        _refuse_deaf(named)
    # Ray would end the process on a SIGTERM, by which a build ends in order.
    heeded = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            named or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            # A task has one processor; as many threads as there are would be in each other's way.
            runtime_env={"env_vars": {"POLARS_MAX_THREADS": "1"}},
            **own,
        )
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        said = " ".join(str(error).split())[:300]
        what = f"the Ray at {named} cannot be used" if named else "no Ray could be started here"
        raise PrefdataError(f"{what}: {type(error).__name__}: {said}{ADVICE}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, heeded)
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_deaf(named: str) -> None:
    """`PrefdataError` where nobody listens: Ray would try for minutes, and end the process."""
    where = urlsplit(named if "://" in named else f"ray://{named}")
    if where.hostname is None or where.port is None:  # as in "auto", which Ray knows
        return
    try:
        socket.create_connection((where.hostname, where.port), REACHED).close()
    except OSError as error:
        raise PrefdataError(f"no Ray answers at {named} ({error}){ADVICE}") from error


@contextmanager
def _api() -> Generator[str]:
    """The address of the Prefect API, also of a server that this flow has for itself."""
    run = FlowRunContext.get()
    assert run is not None
    url = PREFECT_API_URL.value() or str(run.client.api_url).rstrip("/")
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


def _refuse_misfits(ray: Any, planned: Plan, folder: str, api: str) -> None:
    """`PrefdataError` where a node cannot run the tasks of a plan, or nobody its models."""
    refuse_crowds(planned.recipe.specs, [n["Resources"] for n in ray.nodes() if n["Alive"]])
    strategies: Any = import_module("ray.util.scheduling_strategies")
    looks: dict[Any, str] = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        there = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        look = ray.remote(look_around).options(
            num_cpus=0, max_retries=0, scheduling_strategy=there, name="prefdata: look around"
        )
        looks[look.remote(packages(), planned.stages, folder, on_store.probe(folder), api)] = (
            f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        )
    _, silent = ray.wait(list(looks), num_returns=len(looks), timeout=LOOKED)
    wrong = [f"{looks[look]}: no answer in {LOOKED:.0f} s" for look in silent]
    for look, node in looks.items():
        if look in silent:
            continue
        try:
            wrong += [f"{node}: {each}" for each in ray.get(look)]
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            continue  # the node has gone meanwhile
        except ray.exceptions.RayError as error:
            said = [*str(error).strip().splitlines(), ""]
            # What Python raised there ends the message, what befell the worker begins it.
            last = isinstance(error, ray.exceptions.RayTaskError)
            wrong.append(f"{node}: {said[-2 if last else 0]}")
    if wrong:
        raise PrefdataError(
            f"{len(wrong)} faults on the nodes of Ray, before anything was asked:\n  "
            + "\n  ".join(wrong)
        )


def look_around(
    expected: Mapping[str, str],
    stages: Sequence[PlannedStage],
    folder: str,
    probe: on_store.Paths,
    api: str,
) -> list[str]:
    """What keeps this node from running tasks. That `stages` got here says that they can."""
    wrong = [
        f"{package} is {found}, not {expected[package]} as where the flow runs; install the same"
        for package, found in packages().items()
        if found != expected[package]
    ]
    try:
        on_store.read(probe)
        on_store.probe(folder)
    except Exception as error:  # noqa: BLE001  (whatever a file system may raise is told)
        wrong.append(
            f"the store {folder} is not shared: {type(error).__name__}: {error}; name one that all "
            "machines reach with --store, a folder or a URL such as s3://bucket/prefix"
        )
    where = urlsplit(api)
    port = where.port or {"http": 80, "https": 443}[where.scheme]
    try:
        socket.create_connection((where.hostname, port), REACHED).close()
    except OSError as error:
        wrong.append(
            f"the Prefect API at {without_login(api)} is not reached ({error}), and tasks report "
            "to it; start one that all machines reach, `prefect server start --host 0.0.0.0`, and "
            "set PREFECT_API_URL to its address there"
        )
    return wrong


@cache
def packages() -> dict[str, str]:
    """What must be the same on all machines: versions, and of prefdata its very code."""
    code = sha256()
    for root in (Path(prefdata.__file__).parent, Path(__file__).parent):
        for file in sorted(root.rglob("*.py")):
            code.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    own = f"{importlib.metadata.version('prefdata')} ({code.hexdigest()[:12]})"
    others = {name: importlib.metadata.version(name) for name in ARITHMETIC}
    return {"prefdata": own, **others}


def refuse_crowds(specs: Mapping[str, ModelSpec], nodes: Sequence[Mapping[str, float]]) -> None:
    """`PrefdataError` where the replicas of models have no place on nodes of these resources."""
    engines: dict[tuple[str, ...], list[ModelSpec]] = {}
    for spec in specs.values():
        if spec.client == "vllm":
            engines.setdefault(spec.served(), []).append(spec)
    gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    needed = 0
    for alike in engines.values():
        cpus, need = cpus_and_gpus(alike[0], has_gpus=gpus > 0)
        needed += cpus * max(spec.replicas for spec in alike)
        if need > gpus > 0:
            raise PrefdataError(
                f"a replica of the model {alike[0].model!r} needs {need} GPUs of one machine, but "
                f"no machine of Ray has more than {gpus:.0f}; lower its tensor_parallel_size or "
                "pipeline_parallel_size"
            )
    if engines and needed >= (there := sum(node.get("CPU", 0.0) for node in nodes)) and needed:
        raise PrefdataError(
            f"Ray has no GPU, so each replica takes a processor: {needed} of {there:.0f}, and none "
            "is left for the shards; lower `replicas` or add machines"
        )


def _open(
    specs: Mapping[str, ModelSpec],
    spec: ModelSpec,
    ledger: Ledger,
    roles: Mapping[str, ModelSpec],
    fresh: bool,
) -> Client:
    """A client here, but for the models that are replicas on Ray."""
    if spec.client == "vllm":
        return Replicas(spec, roles)
    return open_client(spec, ledger, roles, fresh)
