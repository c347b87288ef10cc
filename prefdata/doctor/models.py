"""The models of a recipe: weights that are there, keys that are set, endpoints that answer."""

import importlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import tables
from prefdata.dataset import estimate
from prefdata.doctor.place import there
from prefdata.errors import PrefdataError
from prefdata.finding import Finding
from prefdata.holding import Room
from prefdata.models import weights
from prefdata.models.chat import NEWER_BOUND, NO_CHOICE
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.models.tokens import BYTES_A_TOKEN
from prefdata.planning.forecast import Forecast
from prefdata.planning.plan import plan
from prefdata.planning.refusals import refusals
from prefdata.recipe import Recipe
from prefdata.secrets import without_login
from prefdata.stage import Model, requests
from prefdata.tables import Requests

_found = partial(Finding, part="models")
PATIENCE = 30.0  # seconds for one token
# An endpoint works that says so: a model that thinks first may need more than a token for a word.
# The second is what OpenAI says of such a one.
WORKS = (NO_CHOICE, "model output limit was reached")


def findings(recipe: str, changes: tuple[str, ...], data: Path, *, ask: bool) -> Iterator[Finding]:
    """What a build of the recipe refuses, and each endpoint of each model that its stages ask.

    Endpoints are asked for what the stages want of them, as a plan has it.
    """
    said = partial(Finding, part="recipe")
    try:
        planned = plan(Recipe.load(recipe, changes=changes))
    except PrefdataError as error:
        yield said(recipe, "error", str(error), "mend it; nothing was asked")
        return
    wrong = dict.fromkeys(str(each) for each in refusals(planned))
    asking: list[Forecast] | None = None
    try:
        asking = estimate(recipe, data=data, changes=changes, fresh=True).asked
        if (room := Room.of(planned)).is_large:
            written = sum(stage.tokens_out for stage in asking)
            room.refuse(there(data / "versions"), written=round(BYTES_A_TOKEN * written))
    except PrefdataError as error:
        wrong[str(error)] = None
    for each in wrong:
        unasked = "; nothing was asked" if asking is None else ""
        yield said(recipe, "error", each, f"mend it{unasked}")
    if asking is None:
        return
    wants: dict[str, dict[str, _Want]] = {}
    for row in (row for stage in asking for row in stage.first):
        wants.setdefault(row["model"], {}).setdefault(row["want"], _Want.of(row))
    if not wrong:
        yield said(planned.recipe.name, "ok", f"{len(planned.stages)} stages")
    specs = planned.recipe.specs
    stages = (*planned.stages, *planned.exports)
    asked = {model.role: model for stage in stages for model in stage.models}
    for role, model in sorted(asked.items()):
        if specs[role].client != "openai":
            yield _own(role, specs[role])
            continue
        for url, key in specs[role].endpoints():
            one = specs[role].model_copy(update={"base_url": url, "api_key_env": key})
            for want in wants.get(role, {"text": _Want("text", model.options)}).values():
                yield _endpoint(role, model, one, want, ask=ask)


@dataclass(frozen=True)
class _Want:
    """What a stage asks of a model, with a question of our own in the place of its texts."""

    want: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_completed: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "_Want":
        return cls(row["want"], json.loads(row["options"]), row["completion"] is not None)

    def asked(self, model: Model, bound: str) -> Requests:
        """A request for one token at most."""
        word = self.options.get("choices", ["yes"])[0]
        turns = [{"role": "user", "content": f"Say {word}."}]
        reply = [{"role": "assistant", "content": word}]
        if self.want == "reward" and not self.is_completed:
            turns += reply  # two texts
        return requests(
            model,
            self.want,
            pl.Series([turns], dtype=tables.MESSAGES),
            completion=pl.Series([reply if self.is_completed else None], dtype=tables.MESSAGES),
            options={**self.options, bound: 1},
        )

    @property
    def bounds(self) -> tuple[str, ...]:
        """The name of the bound as a build says it; either, where it has none."""
        if NEWER_BOUND in self.options:
            return (NEWER_BOUND,)
        is_bounded = "max_tokens" in self.options or self.want != "text"
        return ("max_tokens",) if is_bounded else ("max_tokens", NEWER_BOUND)


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


def _endpoint(role: str, model: Model, spec: ModelSpec, want: _Want, *, ask: bool) -> Finding:
    where = f"{spec.model} at {without_login(str(spec.base_url or 'the default address'))}"
    quick = {"retries": 0, "mode": "live", "timeout": PATIENCE, "read_timeout": None}
    do = "see base_url, model and api_key_env of the recipe, and that the server runs"
    try:
        with (
            tempfile.TemporaryDirectory() as aside,
            Ledger(aside) as ledger,
            Edge({role: spec.model_copy(update=quick)}, ledger) as edge,
        ):
            if not ask:
                edge.clients.of(role)
                has_key = os.environ.get(spec.endpoints()[0][1] or "OPENAI_API_KEY", "").strip()
                key = "its key is set" if has_key else "it is asked without a key"
                return _found(role, "ok", f"{where}; {key}; it was not asked")
            began, why = time.monotonic(), ""
            for bound in want.bounds:
                why = edge(want.asked(replace(model, role=role), bound))["error"][0]
                if not str(why).startswith("bad request"):
                    break
    except PrefdataError as error:
        return _found(role, "error", str(error), do)
    except OSError as error:
        said = f"{where} was not asked, for a temporary folder cannot be made: {error.strerror}"
        return _found(role, "error", said, "make room there, or name another folder in TMPDIR")
    if why and not any(each in why for each in WORKS):
        return _found(role, "error", f"{where}: {why}", do)
    what = {"text": "", "embedding": " with an embedding"}.get(want.want, f" with a {want.want}")
    return _found(role, "ok", f"{where} answers{what}, in {time.monotonic() - began:.1f} s")
