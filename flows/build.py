"""The Prefect flow around `prefdata.build`: the same loop, seen and run by Prefect.

    build_flow("quickstart", n_shards=4)         # or a deployment of it: its parameters are JSON

The order of stages exists once, in `prefdata.loop`; here are only its effects. A stage on one shard
is a task, and each batch of requests that it asks is a task within. What Prefect gives is
scheduling, logs, a view of what runs, and limits. What it is not asked for, and why:

- *Retries* belong to the client of a model, which knows what may be asked again (a time-out, a
  429) and what must not (a wrong key). A task is a pure function of its tables: what fails once
  fails again. What is lost when a process dies is in the ledger, so the flow is run again whole.
- *Caching and results*: the ledger is the one notion of "the same call". Two would disagree.
- *Tables as arguments*: Prefect looks through arguments and copies results. Tables go from task to
  task as Parquet files, in a folder of the run that is removed when it succeeds.
"""

# pyright: basic, reportCallIssue=false, reportMissingImports=false
# Of the type that Prefect's decorator of flows gives it makes nothing.

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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
import polars as pl  # noqa: E402
from prefdata.flows.limits import held  # noqa: E402
from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.futures import as_completed  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.settings import (  # noqa: E402
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402

from prefdata import dataset  # noqa: E402
from prefdata.errors import PrefdataError  # noqa: E402
from prefdata.loop import Run, Tables, run_stage  # noqa: E402
from prefdata.plan import PlannedStage  # noqa: E402
from prefdata.recipe import Recipe  # noqa: E402
from prefdata.screen.progress import Lines  # noqa: E402
from prefdata.stage import Ask, Model  # noqa: E402
from prefdata.tables import Requests, Responses, digest  # noqa: E402
from prefdata.version import data_folder, find  # noqa: E402
from prefdata.watch import Event, Made, Watch, silent  # noqa: E402
from prefdata.way import without_login  # noqa: E402

PATIENCE = 10.0  # seconds for the API to say that it is there
THREADS = 8  # shards of a stage at a time; their requests go on together in the client

Paths = dict[str, str]


@dataclass(frozen=True)
class Running:
    """The stage that a flow run is at. Its tasks find it here, by the folder they are given: a
    function and an open client cannot be the argument of a task."""

    stage: PlannedStage
    ask: Ask


RUNNING: dict[str, Running] = {}

_watch: ContextVar[Watch] = ContextVar("watch", default=silent)


def build(recipe: str, *, watch: Watch = silent, **options: Any) -> dataset.Built:
    """What `prefdata build --prefect` calls: run the flow in this process, and watch it."""
    reach_api()
    before = _watch.set(watch)
    try:
        return dataset.Built(**build_flow(str(recipe), **options))
    finally:
        _watch.reset(before)


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


@flow(  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
    name="prefdata-build",
    flow_run_name=_run_name,
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=THREADS),  # pyright: ignore[reportArgumentType]
)
def build_flow(
    recipe: str,
    data: str | None = None,
    changes: list[str] | None = None,
    limit: int | None = None,
    n_shards: int = 1,
    on_disk: bool | None = None,
    fresh: bool = False,
    strict: bool = False,
    budget: float | None = None,
    max_requests: int | None = None,
    push: str | None = None,
) -> dict[str, Any]:
    """Build a recipe (a bundled name or a path) and return what `prefdata build --json` prints.

    `push` names a repository of the Hub, to which the version is pushed when it is built: there,
    too, what is there already is not sent again.

    The options are those of `prefdata.build`. Fails with the `PrefdataError` that a build raises.
    """
    asked = Recipe.load(recipe, changes=changes or [])
    home = data_folder(data)
    log = _Log(_watch.get())
    with _folder(home, asked, limit) as folder:
        built = dataset.build(
            asked,
            data=home,
            limit=limit,
            n_shards=n_shards,
            on_disk=on_disk,
            fresh=fresh,
            strict=strict,
            budget=budget,
            max_requests=max_requests,
            run=_in_tasks(folder),
            watch=log,
        )
    log.publish(built)
    if push is not None:
        publish(f"{built.name}@{built.id}", push, str(home))
    return built.to_json()


@task(task_run_name="push {version} to {repo}", persist_result=False, cache_policy=NO_CACHE)
def publish(version: str, repo: str, data: str) -> None:
    """`prefdata push`: private where it makes the repository, by the HF_TOKEN of the worker."""
    from prefdata.hub import push

    pushed = push(find(data, version), repo)
    said = f"{pushed.files} files sent" if pushed.changed else "all of it was there"
    get_run_logger().info(f"{version} is at {pushed.url}: {said}")
    create_link_artifact(pushed.url, link_text=version, key="prefdata-pushed", description=said)


@contextmanager
def _folder(home: Path, recipe: Recipe, limit: int | None) -> Generator[Path]:
    """Where the tables of this run are handed on; left to be looked at if it fails."""
    what = digest("build", recipe.model_dump(mode="json"), limit)
    folder = home / "builds" / what / str(flow_run.get_id())
    shutil.rmtree(folder, ignore_errors=True)  # of a run that is tried again
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _in_tasks(folder: Path) -> Run:
    """The way to run a stage (see `prefdata.loop`) that makes each of its shards a task."""

    def run(stage: PlannedStage, shards: Sequence[Tables], ask: Ask) -> list[Tables]:
        place = folder / f"{digest(stage.name)[:8]}-{stage.use.replace(':', '.')}"
        RUNNING[str(place)] = Running(stage, ask)
        try:
            futures = [
                make.submit(
                    stage.name, i, len(shards), str(place), _write(shard, place / f"{i}-in")
                )
                for i, shard in enumerate(shards, start=1)
            ]
            for future in as_completed(futures):
                future.result()  # the first that fails ends the stage, and with it the flow
            return [_read(future.result()) for future in futures]
        finally:
            # A shard that still runs after another one failed finds nobody to ask, and stops.
            del RUNNING[str(place)]

    return run


@task(task_run_name="{stage} {shard} of {of}", persist_result=False, cache_policy=NO_CACHE)
def make(stage: str, shard: int, of: int, place: str, seen: Paths) -> Paths:
    """A stage on one shard: Parquet files in, Parquet files out."""
    running = RUNNING[place]
    n_asked = 0

    def ask(requests: Requests) -> Responses:
        nonlocal n_asked
        n_asked += 1
        at = Path(place) / f"{shard}-asked-{n_asked}"
        wanted = _write({"requests": requests}, at)
        asked = requests["model"].unique().to_list()
        tags = {model_tag(each) for each in running.stage.models if each.role in asked}
        with held(tags):
            answered = answer.with_options(tags=tags)(stage, requests.height, place, wanted)
        return Responses(_read(answered)["responses"])

    made = run_stage(running.stage, _read(seen), ask)
    return _write(made, Path(place) / f"{shard}-out")


def model_tag(model: Model) -> str:
    """The tag of the batches of requests at a model, by which they are limited."""
    return f"model:{model.name}"


@task(task_run_name="{stage}: {n} requests", persist_result=False, cache_policy=NO_CACHE)
def answer(stage: str, n: int, place: str, wanted: Paths) -> Paths:
    """One batch of requests, put to the models by the edge of the running build."""
    responses = RUNNING[place].ask(Requests(_read(wanted)["requests"]))
    return _write({"responses": responses}, Path(wanted["requests"]).parent)


def _write(tables: Tables, folder: Path) -> Paths:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: str(folder / f"{name}.parquet") for name in tables}
    for name, frame in tables.items():
        frame.write_parquet(paths[name], compression="lz4")
    return paths


def _read(paths: Paths) -> Tables:
    return {name: pl.read_parquet(path) for name, path in paths.items()}


class _Log:
    """Tells the flow's log, and whoever else watches, what happens; keeps the counts of stages."""

    def __init__(self, watch: Watch) -> None:
        self._lines = Lines(get_run_logger().info)
        self._watch = watch
        self._stages: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        self._lines(event)
        self._watch(event)
        if isinstance(event, Made):
            said = {"stage": event.stage, "seconds": round(event.seconds, 1)}
            lost = {"dropped": event.dropped, "unscored": sum(event.unscored.values())}
            rows = ", ".join(f"{n} {name}" for name, n in event.tables.items())
            self._stages.append({**said, "rows": rows, **lost})

    def publish(self, built: dataset.Built) -> None:
        """What came of it, as artifacts of the flow run: the funnel, what it cost, the report."""
        key = f"prefdata-{built.name}".replace(".", "-").replace("_", "-").lower()
        version = f"{built.name}@{built.id}"
        create_table_artifact(
            self._stages, key=key, description=f"Rows by stage of {version} in {built.path}"
        )
        create_markdown_artifact(_told(built), key=f"{key}-cost", description=f"Cost of {version}")
        report = Path(built.path) / "report.html"
        if report.exists():
            create_link_artifact(
                report.as_uri(),
                link_text="report.html",
                key=f"{key}-report",
                description=f"Report of {version}, on the machine that built it",
            )


def _told(built: dataset.Built) -> str:
    """What a build came to, in Markdown."""
    what = "a new version" if built.is_new else "nothing new: this version was there already"
    asked = built.requests
    said = [
        f"**{built.name}@{built.id}**, {what}",
        f"- {built.cost:.4f} USD, {built.tokens['in']:,} tokens in, {built.tokens['out']:,} out",
        f"- requests: {', '.join(f'{n:,} {name}' for name, n in asked.items())}",
        f"- rows: {', '.join(f'{n:,} {name}' for name, n in built.tables.items())}",
    ]
    if built.partial:
        said.append(f"- partial: {built.partial['reason']}; {built.partial['go_on']}")
    return "\n".join(said)
