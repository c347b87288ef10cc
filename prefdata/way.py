"""Which way a build goes: directly, or through Prefect. Both give the same version."""

import os
import re
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.errors import PrefdataError, RecipeError
from prefdata.models.packages import is_installed
from prefdata.secrets import without_login

if TYPE_CHECKING:
    from prefdata.dataset import Built
    from prefdata.watch import Watch

Builds = Callable[..., "Built"]


def choose(*, plain: bool, prefect: bool, engine: str | None = None) -> tuple[Builds, str]:
    """What builds, and how to say so: Prefect where its API is set up, or where it is asked for.

    On an engine of many machines Prefect's tasks run. `RecipeError` where something is missing.
    """
    api = "" if plain else prefect_api()
    if engine is not None:
        need_engine(engine)
        where = f"the API at {without_login(api)}" if api else "a server of its own"
        return _by_prefect, f"on {engine}, through Prefect with {where}"
    there = is_installed("prefect")
    if prefect and not there:
        raise RecipeError(
            "--prefect needs Prefect, which is not installed: pip install 'prefdata[flows]'; "
            "without it, --plain builds the same version"
        )
    if prefect or (api and there):
        where = (
            f"its API at {without_login(api)}"
            if api
            else "a server of its own, which takes a while to start"
        )
        return _by_prefect, f"through Prefect, with {where}"
    if api:
        return _directly, "directly: a Prefect API is set up, but Prefect is not installed"
    return _directly, "directly" if plain else "directly: no Prefect API is set up"


def prefect_api() -> str:
    """The Prefect API that is set up in the environment or the active profile; empty if none."""
    return prefect_setting("PREFECT_API_URL")


def prefect_setting(name: str) -> str:
    """What the environment or Prefect's active profile says; empty if nothing.

    Read without Prefect, whose import takes seconds.
    """
    if name in os.environ:
        return os.environ[name]
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).expanduser()
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or said.get("active", "")
        return str(said["profiles"][active].get(name, ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""  # what is wrong with the file, Prefect says better


def need_engine(engine: str) -> None:
    """`RecipeError` where an engine is not one, or what it needs is not installed."""
    if not re.fullmatch(r"ray|ray://[^/\s@]+:\d+/?", engine):
        raise RecipeError(
            f"--engine {without_login(engine)!r} is none; expected 'ray' (the one that RAY_ADDRESS "
            "names, else one started here) or 'ray://HOST:PORT' (a Ray reached as its client)"
        )
    for package, extra in {"prefect": "flows", "ray": "ray", "prefect_ray": "ray"}.items():
        if not is_installed(package):
            raise RecipeError(
                f"--engine {engine} needs the package {package.replace('_', '-')}, which is not "
                f"installed: pip install 'prefdata[flows,{extra}]'"
            )


def need_prefect(command: str) -> None:
    """`PrefdataError` where Prefect is not installed."""
    if not is_installed("prefect"):
        raise PrefdataError(
            f"{command} needs Prefect, which is not installed: pip install 'prefdata[flows]'"
        )


def _directly(recipe: str, *, watch: "Watch", **options: Any) -> "Built":
    from prefdata.dataset import build

    return build(recipe, watch=watch, **options)


def _by_prefect(recipe: str, *, watch: "Watch", **options: Any) -> "Built":
    from prefdata.planning.plan import plan
    from prefdata.planning.rehearsal import rehearse
    from prefdata.recipe import Recipe

    # A wrong recipe needs no server to fail.
    rehearse(plan(Recipe.load(recipe, changes=options["changes"])))
    # Prefect's own console log would be written through what is drawn; its API has all of it.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    # By name, for pyright cannot see that flows/ is installed as prefdata.flows.
    flow = import_module("prefdata.flows.build")
    return flow.build(recipe, watch=watch, **options)
