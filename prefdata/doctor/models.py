"""The models of a recipe: weights that are there, keys that are set, endpoints that answer."""

import importlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl

from prefdata import tables
from prefdata.errors import PrefdataError
from prefdata.finding import Finding
from prefdata.models import weights
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.planning.plan import plan
from prefdata.recipe import Recipe
from prefdata.secrets import without_login
from prefdata.stage import Model, requests

_found = partial(Finding, part="models")
QUESTION = [{"role": "user", "content": "Say yes."}]
PATIENCE = 30.0  # seconds for one token


def findings(recipe: str, changes: tuple[str, ...], *, ask: bool) -> Iterator[Finding]:
    """Each endpoint of each model that the recipe's stages ask."""
    try:
        planned = plan(Recipe.load(recipe, changes=changes))
    except PrefdataError as error:
        yield Finding(recipe, "error", str(error), "mend it; nothing was asked", part="recipe")
        return
    yield Finding(planned.recipe.name, "ok", f"{len(planned.stages)} stages", part="recipe")
    specs = planned.recipe.specs
    asked = {model.role: model for stage in planned.stages for model in stage.models}
    for role, model in sorted(asked.items()):
        if specs[role].client != "openai":
            yield _own(role, specs[role])
            continue
        for url, key in specs[role].endpoints():
            one = specs[role].model_copy(update={"base_url": url, "api_key_env": key})
            yield _endpoint(role, model, one, ask=ask)


def _own(role: str, spec: ModelSpec) -> Finding:
    """A model that runs on this machine, whose weights are here or at the Hub."""
    said = f"{spec.model or 'planted'} by the client {spec.client}"
    if spec.client == "scripted":
        return _found(role, "ok", f"{said}; it has no weights")
    if weights.locate(spec) or _is_fetched(spec):
        return _found(role, "ok", f"{said}; its weights are there")
    said += "; its weights are not on this machine: the first build fetches them from the Hub"
    return _found(role, "warning", said, f"`hf download {spec.model}` fetches them now")


def _is_fetched(spec: ModelSpec) -> bool:
    """Whether the Hub's cache has the model."""
    try:
        hub: Any = importlib.import_module("huggingface_hub")
        found = hub.try_to_load_from_cache(spec.model, "config.json", revision=spec.revision)
    except (ImportError, ValueError):
        return False
    return isinstance(found, str)


def _endpoint(role: str, model: Model, spec: ModelSpec, *, ask: bool) -> Finding:
    where = f"{spec.model} at {without_login(str(spec.base_url or 'the default address'))}"
    quick = {"retries": 0, "mode": "live", "timeout": PATIENCE, "read_timeout": None}
    wanted = requests(
        replace(model, role=role),
        "text",
        pl.Series([QUESTION], dtype=tables.MESSAGES),
        options={"max_tokens": 1},
    )
    do = "see base_url, model and api_key_env of the recipe, and that the server runs"
    try:
        with (
            tempfile.TemporaryDirectory() as aside,
            Ledger(aside) as ledger,
            Edge({role: spec.model_copy(update=quick)}, ledger) as edge,
        ):
            if not ask:
                edge.clients.of(role)
                return _found(role, "ok", f"{where}; its key is set; it was not asked")
            began = time.monotonic()
            why = edge(wanted)["error"][0]
    except PrefdataError as error:
        return _found(role, "error", str(error), do)
    except OSError as error:
        said = f"{where} was not asked, for a temporary folder cannot be made: {error.strerror}"
        return _found(role, "error", said, "make room there, or name another folder in TMPDIR")
    if why:
        return _found(role, "error", f"{where}: {why}", do)
    return _found(role, "ok", f"{where} answers, in {time.monotonic() - began:.1f} s")
