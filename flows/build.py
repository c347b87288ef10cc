"""The Prefect flow around `prefdata.build`: the same loop, seen and run by Prefect.

    build_flow("quickstart", n_shards=4)         # or a deployment of it: its parameters are JSON

The order of stages exists once, in `prefdata.loop`; here are only its effects. A stage on one shard
is a task, and so is each batch of requests that it asks. What Prefect gives is scheduling, logs, a
view of what runs, and limits. What it is not asked for, and why:

- *Retries* belong to the client of a model, which knows what may be asked again (a time-out, a
  429) and what must not (a wrong key). A task is a pure function of its tables: what fails once
  fails again. What is lost when a process dies is in the ledger, so the build is tried again whole,
  in the same run: Prefect gives the place of its deployment away when a run waits to be retried,
  and a run may spend its budget once, however often it is tried.
- *Caching and results*: the ledger is the one notion of "the same call". Two would disagree.
- *Tables as arguments*: Prefect looks through arguments and copies results. Tables go from task to
  task as Parquet files, each until it is read, in a folder of the run that is left if it fails.

Where a task runs is its engine's (see `flows.machines`): a thread here, or a worker of Ray. Models
are asked here in either case, by the one edge of the build: one ledger, one budget, one limit of
rates, one account. A task that is away has no edge. It is a pure function of its tables and of the
answers so far; where its stage asks for more, the task ends and returns what is asked, and it is
made again when that is answered. So no worker is held while models answer, one that is lost costs
the shard it was at, and nobody else writes to the ledger. The price is that a stage of several
rounds begins anew for each: what ours reckon between them is small beside what models take. A
plug-in that reckons for hours in each pays them as often; without an engine it is made once.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportArgumentType=false
# Of the types that Prefect's decorators give it makes nothing.

import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

# Before Prefect is imported: its own server, started for one flow, needs longer than its default
# on a busy machine, and nothing here reports to anybody. What is set already stays.
for _name, _value in {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}.items():
    os.environ.setdefault(_name, _value)

import httpx  # noqa: E402
from prefdata.flows import store as on_store  # noqa: E402
from prefdata.flows.limits import held, limited, tag  # noqa: E402
from prefdata.flows.machines import Engine, Sealed, engine_of  # noqa: E402
from prefdata.flows.store import Paths  # noqa: E402
from prefdata.flows.telling import Telling  # noqa: E402
from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import create_link_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.settings import (  # noqa: E402
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from prefdata import dataset  # noqa: E402
from prefdata.errors import (  # noqa: E402
    BudgetError,
    ConvergenceError,
    JudgeError,
    PrefdataError,
    PushError,
    RecipeError,
    TableError,
)
from prefdata.loop import Run, run_stage  # noqa: E402
from prefdata.models.edge import Edge  # noqa: E402
from prefdata.models.purse import Purse  # noqa: E402
from prefdata.planning.plan import Plan, PlannedStage, plan  # noqa: E402
from prefdata.planning.refusals import of_roles, unpushable  # noqa: E402
from prefdata.recipe import Recipe  # noqa: E402
from prefdata.secrets import refuse_secrets, without_login  # noqa: E402
from prefdata.stage import Ask  # noqa: E402
from prefdata.tables import Requests, Responses, Tables  # noqa: E402
from prefdata.version import data_folder, find  # noqa: E402
from prefdata.watch import Warned, Watch, silent  # noqa: E402

PATIENCE = 10.0  # seconds for the API to say that it is there
# Seconds before a build that failed is tried again: what failed for all of a client's own retries
# needs more than a moment. What was answered is in the ledger by then.
RETRY_AFTER = 60.0
# What fails the same way when it is tried again.
FOR_PEOPLE = (RecipeError, JudgeError, TableError, ConvergenceError, BudgetError)


@dataclass(frozen=True)
class Asking:
    """How the running stage asks; the tags of models, by role, and of those that have a limit."""

    ask: Ask
    tags: Mapping[str, str]
    limited: Mapping[str, str]


# How the stage that a flow run is at asks, by the folder that its tasks are given: an open client
# cannot be the argument of a task. A task that does not find it here is away.
ASKING: dict[str, Asking] = {}

_watch: ContextVar[Watch] = ContextVar("watch", default=silent)


def build(recipe: str, *, watch: Watch = silent, **options: Any) -> dataset.Built:
    """What `prefdata build --prefect` calls: run the flow in this process, and watch it."""
    given = keepable(options)
    reach_api()
    before = _watch.set(watch)
    try:
        return dataset.Built(**build_flow(str(recipe), **given))
    finally:
        _watch.reset(before)


def keepable(options: Mapping[str, Any]) -> dict[str, Any]:
    """The flow's parameters as Prefect may keep them, in its database and in files.

    `RecipeError` where one is or holds a secret. A store is that of this folder.
    """
    kept = dict(options)
    if kept.get("store") is not None:
        kept["store"] = on_store.checked(str(kept["store"]))
    refuse_secrets("the parameters of the flow", kept)
    return kept


def reach_api() -> None:
    """`PrefdataError` where an API is set up and does not answer."""
    url = PREFECT_API_URL.value()
    if url:
        try:
            with (
                temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
                get_client(sync_client=True, httpx_settings={"timeout": PATIENCE}) as client,
            ):
                error = client.api_healthcheck()
                if error is None:  # a page that welcomes everybody is no API
                    client.read_flows(limit=1)
        except (ValueError, RuntimeError, httpx.HTTPError, httpx.InvalidURL) as wrong:
            error = wrong
        if error is not None:
            # What an error says of an address that is none may be the password in it.
            raise PrefdataError(
                f"the Prefect API at {without_login(url)} does not answer "
                f"({type(error).__name__}); `prefdata doctor` says more; start it with `prefect "
                "server start`, or build without it: --plain"
            )


def _run_name() -> str:
    return f"build {Path(flow_run.get_parameters()['recipe']).stem}"


def _build_flow(
    recipe: str,
    data: str | None = None,
    changes: list[str] | None = None,
    limit: int | None = None,
    n_shards: int | None = None,
    on_disk: bool | None = None,
    fresh: bool = False,
    strict: bool = False,
    budget: float | None = None,
    max_requests: int | None = None,
    push: str | None = None,
    push_partial: bool = False,
    engine: str | None = None,
    store: str | None = None,
    retries: int = 0,
) -> dict[str, Any]:
    """Build a recipe (a bundled name or a path) and return what `prefdata build --json` prints.

    `push` names a repository of the Hub, to which the version is pushed when it is built: there,
    too, what is there already is not sent again. One that a limit ended, which is partial, is
    pushed with `push_partial` only.

    `engine` is "ray" (the one that RAY_ADDRESS names, else one started here) or "ray://HOST:PORT",
    and then tables are handed on by `store`, a folder or URL that all machines reach; by default
    the folder `builds` of the data.

    What fails is tried again `retries` times, as far as that may help; `budget` and `max_requests`
    are of all tries together. With `fresh` it is not, for all would be asked once more.

    The other options are those of `prefdata.build`; by default there are as many shards as the
    engine works on at a time, without one a single one. Fails with the `PrefdataError` that a build
    raises.
    """
    asked = Recipe.load(recipe, changes=changes or [])
    planned, home = plan(asked), data_folder(data)
    dataset.refuse_limits(n_shards=n_shards or 1, budget=budget, max_requests=max_requests)
    if push is not None:
        _refuse_unpushable(push)
    log = Telling(_watch.get())
    where = f"{on_store.checked(store or str(home / 'builds')).rstrip('/')}/{asked.name}"
    purse = dataset.purse_for(asked, budget, max_requests)

    def build_once() -> dataset.Built:
        with _folder(where, log) as folder, engine_of(engine, planned, folder) as machines:
            return dataset.build(
                asked,
                data=home,
                limit=limit,
                n_shards=n_shards or machines.n_shards,
                on_disk=on_disk,
                fresh=fresh,
                strict=strict,
                purse=purse,
                run=_in_tasks(folder, machines, planned, n_shards or machines.n_shards),
                opens=machines.opens,
                watch=log,
            )

    built = _tried(build_once, 0 if fresh else retries, purse, log)
    log.publish(built, purse.spent)
    version = f"{built.name}@{built.id}"
    if push is not None and built.partial and not push_partial:
        log(Warned(f"{version} is not pushed to {push}, for it is partial; push_partial does"))
    elif push is not None:
        again = publish.with_options(retries=retries, retry_delay_seconds=RETRY_AFTER)
        again(version, push, str(home))
    return built.to_json()


def _refuse_unpushable(repo: str) -> None:
    """`PushError` for what would keep a version from being pushed, before it has cost anything."""
    for error in unpushable(repo):
        raise error
    if not os.environ.get("HF_TOKEN", "").strip():
        raise PushError(
            f"a version is to be pushed to {repo}, and HF_TOKEN is not set where the flow runs; "
            "give its worker a token of the Hub that may write"
        )


def _tried(
    build: Callable[[], dataset.Built], retries: int, purse: Purse, watch: Watch
) -> dataset.Built:
    """What a build comes to that is tried again when it fails, after a while."""
    for left in range(retries, 0, -1):
        try:
            return build()
        except FOR_PEOPLE:
            raise
        except Exception as error:  # noqa: BLE001  (it is told, and the last is raised)
            spent = f"; {purse.spent:.4f} USD of the budget are spent" if purse.is_budgeted else ""
            times = "once" if left == 1 else f"{left} times"
            watch(
                Warned(
                    f"it failed, and is tried again in {RETRY_AFTER:.0f} s, {times} at most{spent}:"
                    f" {type(error).__name__}: {error}"
                )
            )
            time.sleep(RETRY_AFTER)
    return build()


# A flow and a task for other machines are made of plain functions, which go there by their names:
# what a decorator has put in a function's place goes with all that it can reach, clients among it.
build_flow = flow(
    _build_flow,
    name="prefdata-build",
    flow_run_name=_run_name,
    persist_result=False,
    retries=0,
)


@task(task_run_name="push {version} to {repo}", persist_result=False, cache_policy=NO_CACHE)
def publish(version: str, repo: str, data: str) -> None:
    """`prefdata push`: private where it makes the repository, by the HF_TOKEN of the worker."""
    from prefdata.hub import push

    pushed = push(find(data, version), repo)
    said = f"{pushed.files} files sent" if pushed.changed else "all of it was there"
    get_run_logger().info(f"{version} is at {pushed.url}: {said}")
    create_link_artifact(pushed.url, link_text=version, key="prefdata-pushed", description=said)


@contextmanager
def _folder(store: str, watch: Watch) -> Generator[str]:
    """Where the tables of this run are handed on; left to be looked at if it fails."""
    folder = f"{store}/{flow_run.get_id()}"
    on_store.probe(folder)
    with on_store.held(folder):
        yield folder
    try:
        on_store.remove(folder)
    except Exception as error:  # noqa: BLE001  (whatever a file system may raise is told)
        watch(Warned(f"{folder} could not be removed, and is not needed any more: {error}"))


def _in_tasks(folder: str, machines: Engine, planned: Plan, at_once: int) -> Run:
    """The way to run a stage (see `prefdata.loop`) that makes each of its shards a task."""
    tags = {role: tag(spec) for role, spec in of_roles(planned).items()}
    known = limited(tags.values())
    bounded = {role: each for role, each in tags.items() if each in known}

    def run(stage: PlannedStage, shards: Sequence[Tables], ask: Ask) -> Iterator[Tables]:
        # Its own for each try: what is left of an earlier one must not find whom to ask.
        place = f"{folder}/{uuid.uuid4().hex[:8]}-{stage.use.replace(':', '.')}"
        ASKING[place] = Asking(ask, tags, bounded)
        # A thread a shard, which mostly waits: no shard's next round waits for another shard.
        pool = ThreadPoolExecutor(min(at_once, len(shards)), thread_name_prefix="prefdata-shard")
        left = iter(range(len(shards)))
        running: deque[tuple[int, Future[Paths]]] = deque()
        try:
            while True:
                # Some are made ahead of those that are read here, not all: their tables need room.
                for at in islice(left, 2 * at_once - len(running)):
                    work = copy_context().run, _finish, machines, stage, at, place, shards
                    running.append((at, pool.submit(*work)))
                if not running:
                    return
                while True:
                    undone = [each for _, each in running if not each.done()]
                    for _, each in running:
                        if each not in undone:
                            each.result()  # the first that fails ends the stage, and so the flow
                    if running[0][1] not in undone:
                        break
                    wait(undone, return_when=FIRST_COMPLETED)
                at, first = running.popleft()
                yield on_store.read(first.result())
                with suppress(Exception):  # all of the folder is removed at the end
                    on_store.remove(_of_shard(place, at))
        finally:
            # A shard that still runs after another one failed finds nobody to ask, and stops.
            del ASKING[place]
            pool.shutdown(wait=False, cancel_futures=True)

    return run


def _of_shard(place: str, at: int) -> str:
    return f"{place}/{at + 1}"


def _finish(
    machines: Engine, stage: PlannedStage, at: int, place: str, shards: Sequence[Tables]
) -> Paths:
    """A stage on one shard, by as many tasks as it takes."""
    folder = _of_shard(place, at)
    given = {"stage": stage.name, "shard": at + 1, "of": len(shards), "place": place}
    given |= {"sealed": Sealed(stage), "seen": on_store.write(shards[at], folder)}
    answered: list[Paths] = []
    while True:
        made = machines.make(make, {**given, "answered": answered}, goes_on=lambda: place in ASKING)
        if "requests" not in made:
            return made
        answered = [*answered, put(stage, made, place, folder)]


def _make(
    stage: str,
    shard: int,
    of: int,
    place: str,
    sealed: Sealed,
    seen: Paths,
    answered: Sequence[Paths],
) -> Paths:
    """A stage on one shard: Parquet files in, Parquet files out.

    Away from the edge only `answered` are answers, the first for the first that the stage asks;
    beyond them the requests are what is returned.
    """
    folder, planned = f"{place}/{shard}", sealed.open()
    left = iter(answered)

    def ask(requests: Requests) -> Responses:
        if place in ASKING:
            wanted = on_store.write({"requests": requests}, folder)
            return Responses(on_store.read(put(planned, wanted, place, folder))["responses"])
        if (paths := next(left, None)) is None:
            raise Wanted(requests)
        responses = Responses(on_store.read(paths)["responses"])
        if not responses["request_id"].equals(requests["request_id"]):
            raise PrefdataError(
                "it asked something else when it was made again. A stage is a function of its "
                "tables and answers: it may read no clock, and takes randomness from its seed only"
            )
        return responses

    try:
        made = run_stage(planned, on_store.read(seen), ask)
    except Wanted as wanted:
        made = {"requests": wanted.requests}
    return on_store.write(made, folder)


make = task(
    _make,
    name="make",
    task_run_name="{stage} {shard} of {of}",
    persist_result=False,
    cache_policy=NO_CACHE,
    retries=0,
)


class Wanted(BaseException):
    """A stage asks what is not answered yet. It is no error, so that nobody takes it for one."""

    def __init__(self, requests: Requests) -> None:
        super().__init__()
        self.requests = requests


def put(stage: PlannedStage, wanted: Paths, place: str, folder: str) -> Paths:
    """Put requests of a stage to the models, in a task that bears their tags.

    A place is waited for at models that have a limit and are asked what the ledger does not answer.
    """
    asking = ASKING[place]
    requests = Requests(on_store.read(wanted)["requests"])
    roles = set(requests["model"])
    tags = {asking.tags[role] for role in roles}
    places: set[str] = set()
    if isinstance(asking.ask, Edge) and not roles.isdisjoint(asking.limited):
        waited = asking.ask.would_ask(requests) & asking.limited.keys()
        places = {asking.limited[role] for role in waited}

    def check() -> None:
        if place not in ASKING:
            raise PrefdataError("the build has ended")

    with held(places, check):
        return answer.with_options(tags=tags)(stage.name, requests.height, place, wanted, folder)


@task(task_run_name="{stage}: {n} requests", persist_result=False, cache_policy=NO_CACHE, retries=0)
def answer(stage: str, n: int, place: str, wanted: Paths, folder: str) -> Paths:
    """One batch of requests, put to the models by the edge of the running build."""
    responses = ASKING[place].ask(Requests(on_store.read(wanted)["requests"]))
    return on_store.write({"responses": responses}, folder)
