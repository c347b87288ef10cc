"""Schedules: a recipe as a Prefect deployment that a worker builds when its time comes.

    deploy("recipe.toml", Schedule(cron="0 3 * * *"), file=Path("prefect.yaml"))

What is deployed is written into `prefect.yaml`, beside whatever else that file holds, and then
deployed from it by `prefect deploy`: the file is to be read, changed, committed and deployed again
by hand. What `prefdata deploy` does not say of a deployment stays as it stands there. The work pool
and the limits of models are not in it but at the server, where this makes them. A run of the
deployment is `flows.build.build_flow`, a build like any other: prompts that came in since the last
one are found because their answers are not in the ledger, only they cost anything, and where
nothing is new the version is the one that is there already.

The pool's workers need what a build needs: this Python environment, the recipe's folder, the data
folder, and the keys of the models in their own environment. No key is ever a parameter.
"""

# pyright: basic, reportMissingImports=false
# It cannot see that flows/ is installed as prefdata.flows.

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prefdata.flows import limits as limited
from prefdata.flows.build import build_flow, keepable, reach_api
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.server.schemas.schedules import CronSchedule as Firing
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError
from ruamel.yaml import YAML, YAMLError

from prefdata.dataset import estimate
from prefdata.errors import PrefdataError, RecipeError, SourceError
from prefdata.planning.plan import Plan, plan
from prefdata.planning.refusals import of_roles, refuse
from prefdata.recipe import Recipe
from prefdata.version import data_folder
from prefdata.whole import writing

ENTRYPOINT = "prefdata.flows.build.build_flow"
IN_FOLDER = "prefect.deployments.steps.set_working_directory"
# The parameters of the flow that `deploy` decides; others may be added to the file by hand.
DECIDED = (
    *("recipe", "data", "changes", "limit", "budget", "max_requests"),
    *("push", "push_partial", "engine", "store", "retries"),
)
LONGEST = 366 * 86_400  # seconds between two runs
FORECAST = 50  # prompts of which it is looked whether a budget allows to ask of them
# What the command line of Prefect reads as a pattern, an option or two names, or its API refuses.
NAME = re.compile(r"\w[\w .()+-]*")
HEAD = """\
What runs when. `prefdata deploy` writes it and `prefect deploy --all` deploys it again.
Parameters are those of the flow prefdata.flows.build; what is added to a deployment stays. Keys of
models stay in the workers' environment, the pool and the limits of models are at the server.
"""


@dataclass(frozen=True)
class Schedule:
    """When: a cron expression in a time zone (UTC by default), or every so many seconds."""

    cron: str | None = None
    every: int | None = None
    timezone: str | None = None

    def to_yaml(self) -> dict[str, Any]:
        """As `prefect.yaml` has it. `RecipeError` where it is no schedule."""
        if (self.cron is None) == (self.every is None):
            raise RecipeError("a deployment needs one of a cron expression and an interval")
        if self.every is not None:
            if self.timezone:
                raise RecipeError("a time zone is of a cron expression; an interval has none")
            if not 0 < self.every <= LONGEST:
                raise RecipeError(f"an interval of {self.every} seconds; expected up to a year")
            return {"interval": self.every}
        try:
            CronSchedule(cron=str(self.cron), timezone=self.timezone)
            firing = Firing(cron=str(self.cron), timezone=self.timezone or "UTC")
            asyncio.run(firing.get_dates(n=1))
        except ValueError as error:  # of pydantic too
            raise RecipeError(
                f"no schedule can be made of cron {self.cron!r} in time zone {self.timezone!r}: "
                f"{_said(error)}. Expected are five fields (minute hour day month weekday), such "
                "as '0 3 * * *' for 3 o'clock every night, and a zone such as Europe/Berlin"
            ) from error
        return {"cron": self.cron, "timezone": self.timezone or "UTC"}


def _said(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(str(each["msg"]) for each in error.errors())
    return str(error)


@dataclass(frozen=True)
class Deployed:
    """What was deployed: its full `name` at the server, and the `file` that describes it."""

    name: str
    file: str
    pool: str
    schedule: dict[str, Any]
    parameters: dict[str, Any]
    limits: dict[str, int] = field(default_factory=dict[str, int])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def deploy(
    recipe: str,
    schedule: Schedule,
    *,
    file: Path,
    name: str | None = None,
    pool: str = "prefdata",
    retries: int = 2,
    model_limits: Mapping[str, int] | None = None,
    data: str | Path | None = None,
    changes: list[str] | None = None,
    **options: Any,
) -> Deployed:
    """Make or update the deployment `name` (by default the recipe's name) of a recipe.

    The pool is made if there is none, of the type that starts a process for each run. `options`
    are those of `build_flow`. `retries` are of a whole build, within its run. `model_limits` bounds
    the batches of requests that may be at a model at a time over everything that this Prefect
    server runs, by the model's role in the recipe; it counts for whoever asks the same model, until
    another is given, or 0, which is none.

    Raises a `PrefdataError` for whatever would make every run fail: what a build refuses, what is
    not installed here, a schedule that is none, an API that does not answer; and for a parameter
    that holds a secret, before it is written anywhere. The file is then as it was.
    """
    loaded = Recipe.load(recipe, changes=changes or [])
    planned = plan(loaded)
    when = schedule.to_yaml()
    _refuse_names(deployment=name, pool=pool)
    given = {
        "recipe": str(Path(recipe).resolve()) if Path(recipe).is_file() else recipe,
        "data": str(data_folder(data).resolve()),
        **({"changes": changes} if changes else {}),
        **{option: value for option, value in options.items() if value is not None},
        "retries": retries,
    }
    parameters = keepable(given)
    _refuse_templates(parameters)
    refuse(
        planned,
        budget=options.get("budget"),
        push=options.get("push"),
        away=("vllm",) if options.get("engine") else (),
    )
    with suppress(SourceError):  # they may be there when it is time
        estimate(loaded, data=data, limit=FORECAST, fresh=True, budget=options.get("budget"))
    limits = _limits(planned, model_limits or {})
    reach_api()
    if not PREFECT_API_URL.value():
        raise PrefdataError(
            "schedules are kept by a Prefect server, and none is set up: start one with `prefect "
            "server start` and name it with `prefect config set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    told = "" if "{{" in loaded.description else loaded.description
    name = name or loaded.name
    described = {
        "name": name,
        "description": told or f"Builds the recipe {loaded.name}.",
        "entrypoint": ENTRYPOINT,
        "schedules": [when],
        "parameters": parameters,
        # A run that is due while the last one is at work is left out: the next takes its prompts.
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
        "work_pool": {"name": pool},
        # Where paths in `changes` start, as they did here.
        "pull": [{IN_FOLDER: {"directory": str(Path.cwd())}}],
    }
    with _put_back(file):
        _write(file, described)
        _prepare(pool, limits)
        _deploy(file, name)
    return Deployed(
        name=f"{build_flow.name}/{name}",
        file=str(file.resolve()),
        pool=pool,
        schedule=when,
        parameters=parameters,
        limits=limits,
    )


def _limits(planned: Plan, by_role: Mapping[str, int]) -> dict[str, int]:
    """The limits of models by their tags; `RecipeError` for roles that are none, or contradict."""
    tags = {role: limited.tag(spec) for role, spec in of_roles(planned).items()}
    limits: dict[str, int] = {}
    for role, most in by_role.items():
        if role not in tags:
            raise RecipeError(
                f"recipe {planned.recipe.name} asks no model {role!r}; it asks {', '.join(tags)}"
            )
        if limits.setdefault(tags[role], most) != most:
            alike = ", ".join(each for each, tag in tags.items() if tag == tags[role])
            raise RecipeError(
                f"{alike} are the same model at the same address, which has one limit: give one "
                f"of them, not {limits[tags[role]]} and {most}"
            )
    return limits


def _refuse_names(**names: str | None) -> None:
    for what, name in names.items():
        if name is not None and not NAME.fullmatch(name):
            raise PrefdataError(
                f"{name!r} can be no {what}'s name: expected are letters, digits, blanks and "
                "._+-(), with a letter or digit first"
            )


def _refuse_templates(parameters: Mapping[str, Any]) -> None:
    """Prefect would put something in the place of braces, such as what the environment holds."""
    for name, value in parameters.items():
        if "{{" in json.dumps(value, ensure_ascii=False):
            raise PrefdataError(
                f"the parameter {name} of a deployment holds '{{{{', which Prefect takes for a "
                "place to be filled; put it into the recipe's file, which stays as it is"
            )


@contextmanager
def _put_back(file: Path) -> Generator[None]:
    """What the file held, should the deployment fail."""
    try:
        held = file.read_bytes() if file.exists() else None
    except OSError as error:
        raise PrefdataError(f"{file} cannot be read: {error.strerror}") from error
    if not file.parent.is_dir():
        raise PrefdataError(f"{file} cannot be written, for there is no folder {file.parent}")
    try:
        yield
    except BaseException:
        if held is None:
            file.unlink(missing_ok=True)
        elif file.read_bytes() != held:
            file.write_bytes(held)
        raise


def _write(file: Path, described: dict[str, Any]) -> None:
    """Put a deployment into `prefect.yaml`, in the place of the one of its name if there is one."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000
    try:
        whole = yaml.load(file) if file.exists() else None
    except (YAMLError, UnicodeDecodeError) as error:
        raise PrefdataError(
            f"{file} cannot be read as YAML, and is left as it is: {error}"
        ) from None
    if whole is None:
        whole = yaml.load("deployments: []")
        whole.yaml_set_start_comment(HEAD)
    standing = whole.get("deployments") if isinstance(whole, dict) else None
    if (
        not isinstance(whole, dict)
        or not isinstance(standing, list | None)
        or not all(isinstance(each, dict) for each in standing or ())
    ):
        raise PrefdataError(
            f"{file} is no prefect.yaml: expected is a mapping with a list `deployments` of "
            "mappings; name another file with --file"
        )
    if standing is None:
        standing = whole["deployments"] = []
    at = [i for i, each in enumerate(standing) if each.get("name") == described["name"]]
    if at:
        _update(standing[at[0]], described)
    else:
        standing.append(described)
    with writing(file) as out:
        yaml.dump(whole, out)


def _update(entry: dict[str, Any], described: dict[str, Any]) -> None:
    """Say anew of a deployment what `deploy` says, and leave what was said by hand."""
    steps = [list(each) for each in entry.get("pull") or () if isinstance(each, dict)]
    is_ours = steps == [[IN_FOLDER]]
    by_hand = {"concurrency_limit"} if is_ours else {"concurrency_limit", "pull"}
    for key, value in described.items():
        if key in ("parameters", "work_pool") and isinstance(entry.get(key), dict):
            for each in DECIDED if key == "parameters" else ():
                entry[key].pop(each, None)
            entry[key].update(value)
        elif key not in by_hand or key not in entry:
            entry[key] = value


def _prepare(pool: str, limits: Mapping[str, int]) -> None:
    """The pool and the limits by tag, at the server."""
    try:
        with get_client(sync_client=True) as client:
            try:
                client.read_work_pool(pool)
            except ObjectNotFound:
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        limited.put(limits)
    except httpx.HTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "no answer")
        raise PrefdataError(
            f"Prefect's API does not take the pool {pool!r} and the limits of models ({status}); "
            "see its log, and deploy again"
        ) from error


def _deploy(file: Path, name: str) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy"]
    ran = subprocess.run(
        [*command, "--prefect-file", file.name, "--name", name],
        cwd=file.resolve().parent,
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        said = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-8:])
        raise PrefdataError(f"Prefect did not deploy {name!r} of {file}:\n{said}")
