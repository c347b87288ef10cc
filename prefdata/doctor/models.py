"""The models of a recipe: weights that are there, keys that are set, endpoints that answer."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import polars as pl

from prefdata import tables
from prefdata.errors import PrefdataError
from prefdata.finding import Finding
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.plan import plan
from prefdata.recipe import Recipe
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
            said = f"{specs[role].model or 'planted'} by the client {specs[role].client}"
            yield _found(role, "ok", f"{said}; its weights are there")
            continue
        for url, key in specs[role].endpoints():
            one = specs[role].model_copy(update={"base_url": url, "api_key_env": key})
            yield _endpoint(role, model, one, ask=ask)


def _endpoint(role: str, model: Model, spec: ModelSpec, *, ask: bool) -> Finding:
    where = f"{spec.model} at {spec.base_url or 'the default address'}"
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
    if why:
        return _found(role, "error", f"{where}: {why}", do)
    return _found(role, "ok", f"{where} answers, in {time.monotonic() - began:.1f} s")
