"""The engines of a flow: where its tasks run, and where its models do.

    with engine_of("ray://head:10001", plan, folder) as machines: ...

Without a name it is a pool of threads. "ray" is the Ray that RAY_ADDRESS names, else one that is
started on this machine and ends with the flow; "ray://HOST:PORT" is a Ray reached as its client.
Ray, by prefect-ray's task runner, decides where a task runs, and runs again elsewhere what a worker
or a node had when it was lost; models of the client `vllm` are replicas there (`flows.replicas`).

Before anything is spent every node is looked at: that it has the same prefdata, with the recipe's
own stages, reads and writes the store, and reaches the Prefect API, to which tasks report. A node
that joins later has the first of these looked at with each task.
"""

# pyright: basic, reportMissingImports=false

import importlib.metadata
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefdata.flows import store as on_store
from prefdata.flows.replicas import Fleet, cpus_and_gpus
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, SettingsContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from prefdata.errors import PrefdataError
from prefdata.models.clients import Opens, open_client
from prefdata.models.spec import ModelSpec
from prefdata.planning.plan import Plan, PlannedStage
from prefdata.secrets import without_login
from prefdata.way import need_engine

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
    """Where tasks run. `ends` waits so many seconds for what a task runs in, and says whether it
    has ended; `opens` opens the clients of models, `n_shards` is how many shards are worked on at a
    time, `lost` is what is raised where a task could not be run to its end."""

    runner: TaskRunner[Any]
    ends: Callable[[Any, float], bool]
    n_shards: int = 1
    opens: Opens = open_client
    lost: tuple[type[Exception], ...] = ()

    def make(self, task: Any, given: dict[str, Any], *, goes_on: Callable[[], bool]) -> Any:
        """Run a task and return what it returns; `PrefdataError` once it need not go on.

        What a task raises may be a time-out too, of its store: so its end is waited for, and not
        taken from what asking for its result raises.
        """
        where = f"{given['stage']}, shard {given['shard']} of {given['of']}"
        future: Any = self.runner.submit(task, given)
        while not self.ends(future.wrapped_future, LOOK):
            if not goes_on():
                raise PrefdataError(f"{where}, was left: its stage has ended")
        try:
            return future.result()
        except self.lost as error:
            said, *_ = [*str(error).strip().splitlines(), ""]
            raise PrefdataError(
                f"{where}, could not be run on Ray, also when tried again: {type(error).__name__}: "
                f"{said}; what was answered is kept: build again"
            ) from error
        except OSError as error:
            raise PrefdataError(
                f"{where}: its tables could not be read or written: {type(error).__name__}: "
                f"{error}; look at the store; what was answered is kept: build again"
            ) from error


@contextmanager
def engine_of(name: str | None, planned: Plan, folder: str) -> Generator[Engine]:
    """The engine of a name, for a plan whose tables are handed on by a folder of a store.

    `PrefdataError` for whatever would fail on it.
    """
    if name is None:
        with ThreadPoolTaskRunner(max_workers=THREADS) as threads:
            yield Engine(threads, lambda run, seconds: bool(wait([run], seconds).done))
        return
    need_engine(name)
    with _connected(name) as ray, _api() as api:
        _refuse_misfits(ray, planned, folder, api)
        resources = ray.cluster_resources()
        with _task_runner() as runner:
            yield Engine(
                runner,
                lambda run, seconds: bool(ray.wait([run], timeout=seconds)[0]),
                n_shards=max(1, int(resources.get("CPU", 1))),
                opens=Fleet(has_gpus=resources.get("GPU", 0) > 0).open,
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


@dataclass(frozen=True)
class Api:
    """The Prefect API that tasks report to, by the settings they do it with, and their flow run."""

    url: str
    settings: Mapping[str, Any]
    run: UUID

    def lacks(self) -> str:
        """What keeps this machine from reporting to it; empty if nothing.

        That something listens at the address is not enough: at loopback it may be a Prefect of this
        machine's own.
        """
        patient = {PREFECT_CLIENT_MAX_RETRIES: 0}
        how = {"timeout": REACHED}
        try:
            with (
                SettingsContext(**self.settings),
                temporary_settings(patient),
                get_client(sync_client=True, httpx_settings=how) as client,
            ):
                client.read_flow_run(self.run)
        except ObjectNotFound:
            return "is another one, which does not know this flow run"
        except (ValueError, RuntimeError, httpx.HTTPError, httpx.InvalidURL) as error:
            return f"is not reached ({type(error).__name__})"  # what it says may hold a login
        return ""


@contextmanager
def _api() -> Generator[Api]:
    """The Prefect API, also that of a server that this flow has for itself."""
    run = FlowRunContext.get()
    assert run is not None
    assert run.flow_run is not None
    url = PREFECT_API_URL.value() or str(run.client.api_url).rstrip("/")
    with temporary_settings({PREFECT_API_URL: url}):
        settings = SettingsContext.get()
        assert settings is not None
        yield Api(url, settings.serialize(), run.flow_run.id)


def _refuse_misfits(ray: Any, planned: Plan, folder: str, api: Api) -> None:
    """`PrefdataError` where a node cannot run the tasks of a plan, or nobody its models."""
    roles = {m.role for each in (*planned.stages, *planned.exports) for m in each.models}
    specs = {role: spec for role, spec in planned.recipe.specs.items() if role in roles}
    refuse_crowds(specs, [n["Resources"] for n in ray.nodes() if n["Alive"]])
    stages = planned.stages  # exports are made where the flow runs
    strategies: Any = import_module("ray.util.scheduling_strategies")
    looks: dict[Any, str] = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        there = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        look = ray.remote(look_around).options(
            num_cpus=0, max_retries=0, scheduling_strategy=there, name="prefdata: look around"
        )
        looks[look.remote(packages(stages), stages, folder, on_store.probe(folder), api)] = (
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
    api: Api,
) -> list[str]:
    """What keeps this node from running tasks. That `stages` got here says that they can."""
    wrong = differences(expected, stages)
    try:
        on_store.read(probe)
        on_store.probe(folder)
    except Exception as error:  # noqa: BLE001  (whatever a file system may raise is told)
        wrong.append(
            f"the store {folder} is not shared: {type(error).__name__}: {error}; name one that all "
            "machines reach with --store, a folder or a URL such as s3://bucket/prefix"
        )
    if lacks := api.lacks():
        wrong.append(
            f"the Prefect API at {without_login(api.url)} {lacks}, and tasks report to it; start "
            "one that all machines reach, `prefect server start --host 0.0.0.0`, and set "
            "PREFECT_API_URL to its address there"
        )
    return wrong


class Sealed:
    """A stage as an argument: Prefect looks through dataclasses, not into this.

    It goes with what must be the same where it is run: a machine may have joined after all were
    looked at.
    """

    def __init__(self, stage: PlannedStage) -> None:
        self._stage, self._expected = stage, packages([stage])

    def open(self) -> PlannedStage:
        """The stage; `PrefdataError` on a machine that is not as the one where it was sealed."""
        if wrong := differences(self._expected, [self._stage]):
            raise PrefdataError(
                f"{self._stage.place}: on {socket.gethostname()}, which joined meanwhile, "
                + "; ".join(wrong)
            )
        return self._stage


def differences(expected: Mapping[str, str], stages: Sequence[PlannedStage]) -> list[str]:
    """What is not the same here as `packages` of these stages where the flow runs."""
    return [
        f"{what} is {found}, not {expected.get(what)} as where the flow runs; install the same"
        for what, found in packages(stages).items()
        if found != expected.get(what)
    ]


def packages(stages: Sequence[PlannedStage]) -> dict[str, str]:
    """What must be the same on all machines: versions, and of prefdata and plug-ins their code.

    Of a plug-in that is the file of its stage, which is imported there by its name.
    """
    own = f"{importlib.metadata.version('prefdata')} ({_code()})"
    others = {name: importlib.metadata.version(name) for name in ARITHMETIC}
    return {"prefdata": own, **others, **dict(filter(None, map(_plugin, stages)))}


@cache
def _code() -> str:
    names = ("prefdata", "prefdata.flows", "prefdata.schemas")
    return code({name: Path(str(import_module(name).__file__)).parent for name in names})


def code(roots: Mapping[str, Path]) -> str:
    """A digest of what prefdata is made of, its schemas too, by the folders of its packages.

    The same whether these lie in each other, as they are installed, or side by side. Judges and
    data are read where the flow runs.
    """
    files = {
        f"{name.replace('.', '/')}/{file.relative_to(root).as_posix()}": file
        for name, root in roots.items()
        for kind in ("*.py", "*.json")
        for file in root.rglob(kind)
    }
    digest = sha256()
    for place in sorted(files):
        if not place.startswith(("prefdata/judges/", "prefdata/data/")):
            digest.update(f"{place}\0".encode() + files[place].read_bytes())
    return digest.hexdigest()[:12]


def _plugin(stage: PlannedStage) -> tuple[str, str] | None:
    """The file of a stage that is not prefdata's own, by its digest.

    None where it has none: one of a notebook goes there itself.
    """
    name = stage.function.__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    if name.split(".")[0] in ("prefdata", "__main__") or file is None:
        return None
    return f"the plug-in {name}", sha256(Path(file).read_bytes()).hexdigest()[:12]


def refuse_crowds(specs: Mapping[str, ModelSpec], nodes: Sequence[Mapping[str, float]]) -> None:
    """`PrefdataError` where the replicas of models have no place on nodes of these resources.

    All of them at once, for each holds what it has until the build ends.
    """
    engines: dict[tuple[str, ...], list[ModelSpec]] = {}
    for spec in specs.values():
        if spec.client == "vllm":
            engines.setdefault(spec.served(), []).append(spec)
    wanted = [
        (cpus_and_gpus(alike[0], has_gpus=True)[1], max(s.replicas for s in alike), alike[0].model)
        for alike in engines.values()
    ]
    gpus = [node["GPU"] for node in nodes if node.get("GPU", 0.0) >= 1]
    if gpus:
        _refuse_unplaced(sorted(wanted, reverse=True), gpus)
        return
    needed, there = sum(n for _, n, _ in wanted), sum(node.get("CPU", 0.0) for node in nodes)
    if needed and needed >= there:
        raise PrefdataError(
            f"Ray has no GPU, so each replica takes a processor: {needed} of {there:.0f}, and none "
            "is left for the shards; lower `replicas` or add machines"
        )


def _refuse_unplaced(wanted: Sequence[tuple[int, int, str]], gpus: Sequence[float]) -> None:
    """`PrefdataError` where so many GPUs for so many replicas of a model, the largest first, do not
    fit onto machines with these. Each takes the fullest machine that has room."""
    free = [*gpus]
    for need, n, model in wanted:
        if need > max(gpus):
            raise PrefdataError(
                f"a replica of the model {model!r} needs {need} GPUs of one machine, but no "
                f"machine of Ray has more than {max(gpus):.0f}; lower its tensor_parallel_size or "
                "pipeline_parallel_size"
            )
        for done in range(n):
            room = [at for at, left in enumerate(free) if left >= need]
            if not room:
                all_of = ", ".join(f"{n} of {need} for {model!r}" for need, n, model in wanted)
                raise PrefdataError(
                    f"the replicas need more GPUs than there are: {all_of}, all at once, and the "
                    f"machines of Ray have {', '.join(f'{each:.0f}' for each in gpus)}: only "
                    f"{done} of the {n} for {model!r} find a place; lower `replicas` or "
                    "tensor_parallel_size, have roles share a model, or add machines"
                )
            free[min(room, key=lambda at: free[at])] -= need
