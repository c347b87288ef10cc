"""A stage's options: from a recipe's words to the arguments that its signature asks for, and back.

What a recipe says is read strictly, by a form made of the signature; a model, a judge, a jury and a
plug-in are named there and read from their names.
"""

import inspect
import json
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from prefdata import judge as judges
from prefdata.errors import JudgeError, RecipeError, nearest
from prefdata.judge import Judge, Jury
from prefdata.judge import jury as juries
from prefdata.kinship import stated
from prefdata.recipe import Recipe, StageSpec, explain, plug_in
from prefdata.stage import Contract, Model, PlugIn

# Options that mean the same in every stage that has them.
BOUNDS: Mapping[str, Mapping[str, Any]] = {
    "seed": {"ge": 0},
    "max_iterations": {"ge": 1},
    "tolerance": {"gt": 0},
}


def arguments(
    where: str, spec: StageSpec, terms: Contract, recipe: Recipe, models: Mapping[str, Model]
) -> dict[str, Any]:
    """The keyword arguments of a stage, checked against its signature."""
    given = dict(spec.options)
    if "seed" in terms.options and "seed" not in given:
        given["seed"] = recipe.seed
    kin = stated(recipe.models, models) if "families" in terms.options else {}
    if kin and isinstance(own := given.get("families", {}), dict):
        given["families"] = {**own, **{k: v for k, v in kin.items() if k not in own}}

    def model_of(role: Any) -> Model:
        if not isinstance(role, str) or role not in models:
            raise ValueError(f"no model {role!r} in [models]; " + nearest(str(role), models))
        return models[role]

    def judge_of(name: Any) -> Judge:
        try:
            return judges.load(name, folder=recipe.folder)
        except JudgeError as error:
            raise ValueError(str(error)) from error

    def jury_of(name: Any) -> Jury:
        try:
            return juries.load(name, models, folder=recipe.folder)
        except JudgeError as error:
            raise ValueError(str(error)) from error

    def plug_in_of(name: Any) -> PlugIn:
        try:
            return PlugIn(str(name), plug_in(str(name), folder=recipe.folder))
        except RecipeError as error:
            raise ValueError(str(error)) from error

    read = {Model: model_of, Judge: judge_of, Jury: jury_of, PlugIn: plug_in_of}
    readers = {kind: BeforeValidator(reader) for kind, reader in read.items()}
    fields: dict[str, Any] = {
        name: (
            _readable(option.annotation, readers),
            Field(
                ... if option.default is inspect.Parameter.empty else option.default,
                **BOUNDS.get(name, {}),
            ),
        )
        for name, option in terms.options.items()
    }
    config = ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )
    form: type[BaseModel] = create_model("options", __config__=config, **fields)
    try:
        # Through JSON, where strictness still lets an array be a tuple.
        checked = form.model_validate_json(json.dumps(given, default=str))
    except ValidationError as error:
        raise RecipeError(explain(error, given, form, where)) from error
    return {name: getattr(checked, name) for name in form.model_fields}


def _readable(hint: Any, readers: Mapping[Any, Any]) -> Any:
    """A type hint in which `Model`, `Judge`, `Jury` and `PlugIn` are read from their names."""
    if hint in readers:
        return Annotated[hint, readers[hint]]
    inner = tuple(_readable(each, readers) for each in get_args(hint))
    if not inner or inner == get_args(hint):
        return hint
    if get_origin(hint) in (Union, types.UnionType):
        return Union[inner]  # noqa: UP007  (made at run time)
    return get_origin(hint)[inner]


def described(value: Any) -> Any:
    """An option as JSON; a judge, a model and a plug-in are their names, a jury its members."""
    if isinstance(value, Jury):
        return [
            {"judge": each.judge.name, "model": each.model.role}
            | ({"by": each.by} if each.by != "verdict" else {})
            for each in value.members
        ]
    if isinstance(value, (Judge, PlugIn)):
        return value.name
    if isinstance(value, Model):
        return value.role
    if isinstance(value, (list, tuple, set, frozenset)):
        return [described(each) for each in every([value])]
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value


def every(values: Iterable[Any]) -> Iterable[Any]:
    """Values, with those inside of collections and juries."""
    for value in values:
        if isinstance(value, Jury):
            yield from every(value.members)
        elif isinstance(value, (list, tuple, set, frozenset)):
            yield from every(value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield value
