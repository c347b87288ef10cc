"""The plan: a recipe with every name resolved and every option checked, before anything is spent.

`plan(recipe)` raises `RecipeError` for whatever a recipe can get wrong: a stage, option, model or
judge that does not exist, an option of another type, a table that nobody makes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata import sources
from prefdata.errors import RecipeError
from prefdata.judge import Judge, Jury
from prefdata.kinship import Asking, refuse_relatives
from prefdata.models.weights import is_path
from prefdata.planning.options import arguments, described, every
from prefdata.recipe import Recipe, StageSpec, find_stage, stages
from prefdata.stage import Contract, Model, Stage, contract
from prefdata.version.splits import checked
from prefdata.version.stored import NAME, TAKEN


@dataclass(frozen=True)
class PlannedStage:
    """A stage ready to run. `options` are its arguments; `described` is their JSON form.

    `place` is where the recipe has it, for messages: "recipe helpful, stage 3 (select.margin)".
    """

    name: str
    use: str
    function: Stage
    contract: Contract
    options: Mapping[str, Any]
    described: Mapping[str, Any]
    place: str

    @property
    def models(self) -> list[Model]:
        """The models among its options, and inside of collections and juries among them."""
        return [each for each in every(self.options.values()) if isinstance(each, Model)]

    @property
    def judges(self) -> list[Judge]:
        """The judges among its options, likewise."""
        return [each for each in every(self.options.values()) if isinstance(each, Judge)]

    @property
    def juries(self) -> list[Jury]:
        """The juries among its options."""
        return [each for each in self.options.values() if isinstance(each, Jury)]

    def judges_of(self, role: str) -> list[Judge]:
        """The judges that ask this model: those of its seats in a jury, else all."""
        seats = [seat for jury in self.juries for seat in jury.members if seat.model.role == role]
        if seats:
            return [seat.judge for seat in seats]
        return [each for each in self.options.values() if isinstance(each, Judge)]


@dataclass(frozen=True)
class Plan:
    """What will run, in order.

    `pairs_are_imported`: the pairs of the sources are the dataset's, for no stage makes others.
    """

    recipe: Recipe
    models: Mapping[str, Model]
    stages: tuple[PlannedStage, ...]
    exports: tuple[PlannedStage, ...]
    judges: Mapping[str, Judge]
    pairs_are_imported: bool

    @property
    def resolved(self) -> dict[str, Any]:
        """Everything of the recipe that can change the dataset, and nothing else.

        Paths, endpoints, keys, prices and time-outs are not in it; the content of sources is in
        the tables, that of weights in the models' identities, that of judges in their digests,
        which a version's id has beside this.
        """
        return {
            "seed": self.recipe.seed,
            "splits": self.recipe.splits,
            "models": {
                role: {
                    "label": m.label,
                    "identity": m.identity,
                    "options": dict(m.options),
                    "defaults": dict(m.defaults),
                }
                for role, m in self.models.items()
            },
            "stages": [_described(stage) for stage in self.stages],
            "exports": [_described(stage) for stage in self.exports],
        }


def _described(stage: PlannedStage) -> dict[str, Any]:
    named = {} if stage.name.startswith(stage.use) else {"name": stage.name}
    return {"use": stage.use, **named, **stage.described}


def plan(recipe: Recipe) -> Plan:
    """Resolve a recipe; see the module."""
    models = resolve_models(recipe)
    used: dict[str, Judge] = {}
    planned = _resolve("stage", recipe.stages, recipe, models, used)
    exports = _resolve("export", recipe.exports, recipe, models, used)
    checked(recipe.splits)
    has_pairs = any(
        spec.kind == "pairs" for spec in sources.resolved(recipe.sources, recipe.folder)
    )
    imported = has_pairs and not any(_makes_pairs(stage) for stage in planned)
    _check_flow(recipe, planned, exports, pairs_are_imported=imported)
    _check_names(recipe, exports)
    _check_judges(recipe, planned, exports)
    return Plan(recipe, models, planned, exports, used, imported)


def _makes_pairs(stage: PlannedStage) -> bool:
    """Whether a stage makes pairs, where one that also reads them only chooses among them."""
    return "pairs" in stage.contract.writes and "pairs" not in stage.contract.sees


def resolve_models(recipe: Recipe) -> dict[str, Model]:
    """The models of a recipe, each under a label that no other has.

    The label is what is served; roles that share it (at two temperatures, say) add `@role`.
    """
    served = {role: _served(spec.model) for role, spec in recipe.models.items()}
    shared = Counter(served.values())
    return {
        role: spec.resolve(
            role, f"{served[role]}@{role}" if shared[served[role]] > 1 else served[role]
        )
        for role, spec in recipe.specs.items()
    }


def _served(model: str) -> str:
    """A served name as it is; of a path to weights, its last part."""
    return Path(model).name if is_path(model) else model


def _resolve(
    kind: str,
    specs: Iterable[StageSpec],
    recipe: Recipe,
    models: Mapping[str, Model],
    used: dict[str, Judge],
) -> tuple[PlannedStage, ...]:
    planned: list[PlannedStage] = []
    seen: Counter[str] = Counter()
    for number, spec in enumerate(specs, 1):
        where = f"recipe {recipe.name}, {kind} {number} ({spec.use})"
        try:
            function = find_stage(spec.use, folder=recipe.folder)
            terms = contract(function)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error
        seen[spec.name or spec.use] += 1
        count = seen[spec.name or spec.use]
        name = (spec.name or spec.use) + (f"#{count}" if count > 1 else "")
        options = arguments(where, spec, terms, recipe, models)
        plain = {option: described(value) for option, value in sorted(options.items())}
        stage = PlannedStage(name, spec.use, function, terms, options, plain, where)
        for each in (*stage.judges, *stage.juries):
            if not NAME.fullmatch(each.name):
                raise RecipeError(
                    f"{where}: {each.name + '.toml'!r} is kept in the version under its name, "
                    "which has small letters, digits, '.', '_' and '-', a letter or digit first; "
                    "rename the file"
                )
        for judge in stage.judges:
            if used.setdefault(judge.name, judge).digest != judge.digest:
                raise RecipeError(
                    f"{where}: judge: two judges are called {judge.name!r}, and their votes "
                    "could not be told apart; rename one of the files"
                )
        planned.append(stage)
    return tuple(planned)


def _check_flow(
    recipe: Recipe,
    planned: tuple[PlannedStage, ...],
    exports: tuple[PlannedStage, ...],
    *,
    pairs_are_imported: bool,
) -> None:
    """Every table that a stage reads is made by a source, an earlier stage or people."""
    have = {*sources.tables_made(recipe.sources, recipe.folder), "annotations", "dropped"}
    if pairs_are_imported:
        have.add("pairs")
    for stage in (*planned, *exports):
        for table in stage.contract.reads:
            if table not in have:
                raise RecipeError(
                    f"{stage.place}: it reads the table {table}, which no source and no earlier "
                    f"stage makes; {_makers(table)}"
                )
        have |= set(stage.contract.writes)
    for stage in exports:
        if stage.contract.writes != ("rows",):
            raise RecipeError(f"{stage.place}: this is not an export but a stage")
    for stage in planned:
        if "rows" in stage.contract.writes:
            raise RecipeError(f"{stage.place}: this is an export; it belongs in [[exports]]")


def _check_names(recipe: Recipe, exports: tuple[PlannedStage, ...]) -> None:
    """Every export has a folder of its own."""
    for name, count in Counter(folder(stage) for stage in exports).items():
        if count > 1:
            raise RecipeError(
                f"recipe {recipe.name}: {count} exports would be written to the folder {name!r}; "
                f'give them names: name = "{name}-plain"'
            )
        if not NAME.fullmatch(name):
            raise RecipeError(
                f"recipe {recipe.name}: the export {name!r} cannot name a folder; give it a name "
                "of small letters, digits, '.', '_' and '-', a letter or digit first"
            )
        if name in TAKEN:
            raise RecipeError(
                f"recipe {recipe.name}: the export {name!r} would have the name of a table or file "
                f'of the version; give it another: name = "{name}-export"'
            )


def folder(export: PlannedStage) -> str:
    """The folder of an export: the name that the recipe gives it, else that of its method."""
    if not export.name.startswith(export.use):
        return export.name
    return re.split(r"[.:]", export.use)[-1]


def _check_judges(
    recipe: Recipe, planned: tuple[PlannedStage, ...], exports: tuple[PlannedStage, ...]
) -> None:
    """No judge is asked about its own family's completions, where the stage does not allow it.

    Nor do two juries share a name, under which a version keeps them.
    """
    named: dict[str, Jury] = {}
    for jury in (jury for stage in planned for jury in stage.juries):
        if named.setdefault(jury.name, jury) != jury:
            raise RecipeError(
                f"recipe {recipe.name}: two juries are called {jury.name!r}; rename one of their "
                "files"
            )
    asking: list[Asking] = []
    for spec, stage in zip(recipe.exports, exports, strict=True):
        if spec.allow_self:
            raise RecipeError(
                f"{stage.place}: allow_self belongs to a stage that asks a judge; remove it"
            )
    for spec, stage in zip(recipe.stages, planned, strict=True):
        roles = tuple(model.role for model in stage.models)
        # A stage of another verb may pass completions on, but its models did not write them.
        may_write = spec.use.startswith("generate.") or ":" in spec.use
        is_writing = may_write and "completions" in stage.contract.writes
        is_judging = bool(stage.judges) and not is_writing
        if spec.allow_self and not stage.judges:
            raise RecipeError(
                f"{stage.place}: allow_self says that a judge may judge its own family; this stage "
                "asks no judge: remove it, or put it on the stage that does"
            )
        asking.append(
            Asking(
                stage.place,
                writers=roles if is_writing else (),
                judges=roles if is_judging and not spec.allow_self else (),
            )
        )
    refuse_relatives(asking, recipe.models)


def _makers(table: str) -> str:
    known = {use: contract(find_stage(use)) for use in stages()}
    makers = [use for use, t in known.items() if table in t.writes and table not in t.reads]
    return f"stages that make it: {', '.join(makers)}" if makers else "no stage makes it"
