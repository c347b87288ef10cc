"""A recipe: the ordered list of what is done to make a dataset, read from TOML.

    name = "helpful-mini"
    sources.prompts = "prompts.jsonl"

    [models.writer]
    client = "openai"
    model = "Qwen/Qwen3-8B"

    [[stages]]
    use = "generate.sample"
    model = "writer"

    [[exports]]
    use = "export.pairwise"

Relative paths start at the recipe's folder, those in `changes` where the user is. What a recipe can
get wrong is a `RecipeError` with the file, the key and the nearest valid name.
"""

import importlib
import importlib.util
import pkgutil
import sys
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Self, TypeGuard, cast, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from prefdata.errors import RecipeError, found_in, nearest
from prefdata.models.spec import ModelSpec
from prefdata.secrets import refuse_secrets
from prefdata.sources import Sources
from prefdata.stage import Stage

_VERBS = "generate annotate aggregate explain estimate pair select route order measure export"
VERBS: tuple[str, ...] = tuple(_VERBS.split())


class StageSpec(BaseModel):
    """One entry of `[[stages]]` or `[[exports]]`; every other key is an option of the stage."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str = Field(description="verb.method of prefdata, or package.module:function")
    name: str = Field("", description="its name in reports; needed to tell two estimates apart")
    allow_self: bool = Field(
        False, description="whether its judge may be of the family of a model that it judges"
    )

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Recipe(BaseModel):
    """What `prefdata build` follows. `folder` is where relative paths start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", description="the dataset's name")
    description: str = ""
    seed: int = Field(0, ge=0, description="of all randomness in stages and splits")
    sources: Sources
    models: dict[str, ModelSpec] = Field(default_factory=dict[str, ModelSpec])
    stages: list[StageSpec] = Field(default_factory=list[StageSpec])
    exports: list[StageSpec] = Field(default_factory=list[StageSpec])
    splits: dict[str, float] = Field(
        default_factory=dict[str, float], description="share of prompt groups a split; rest: train"
    )

    budget: float | None = Field(
        None, ge=0, description="USD that one build may spend; what is left is asked by the next"
    )
    max_requests: int | None = Field(
        None,
        ge=0,
        description="requests that one build may send; what is left is asked by the next",
    )

    _folder: Path = PrivateAttr(default_factory=Path)
    _text: str = PrivateAttr("")

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def text(self) -> str:
        """The recipe's file as it was read; empty if it was changed or made in Python."""
        return self._text

    @property
    def specs(self) -> dict[str, ModelSpec]:
        """The models, with relative paths to weights taken from the recipe's folder."""
        return {
            role: spec.model_copy(
                update={
                    name: str((self.folder / path).resolve())
                    for name, path in (("model", spec.model), ("adapter", spec.adapter or ""))
                    if path.startswith(("./", "../"))
                }
            )
            for role, spec in self.models.items()
        }

    def to_toml(self) -> str:
        """The recipe as TOML."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_unset=True, exclude_none=True))

    @classmethod
    def load(cls, name_or_path: str | Path, *, changes: Sequence[str] = ()) -> Self:
        """Read a bundled recipe by name or any file by path; `changes` are "key=value" strings."""
        path = locate(name_or_path)
        try:
            text = path.read_bytes().decode("utf-8")
            raw = tomllib.loads(text)
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(f"{path} is not TOML: {error}") from error
        refuse_secrets(str(path), text)
        for change in changes:
            _set(raw, change)
        return cls.parse(raw, folder=path.parent, text="" if changes else text, where=str(path))

    @classmethod
    def parse(
        cls, raw: Mapping[str, Any], *, folder: Path, text: str = "", where: str = "recipe"
    ) -> Self:
        """A recipe from a dictionary."""
        refuse_secrets(where, raw)
        try:
            recipe = cls.model_validate(raw)
        except ValidationError as error:
            raise RecipeError(explain(error, raw, cls, where)) from error
        recipe._folder = folder
        recipe._text = text
        return recipe


def bundled() -> dict[str, Path]:
    """The recipes that come with prefdata, by name."""
    found = files("prefdata.flows.recipes").iterdir()
    return {p.name[:-5]: Path(str(p)) for p in found if p.name.endswith(".toml")}


def locate(name_or_path: str | Path) -> Path:
    """The file of a recipe: a path that exists, or a bundled name."""
    path = Path(name_or_path)
    if path.is_file():
        return path.resolve()
    known = bundled()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    raise RecipeError(
        f"no recipe {str(name_or_path)!r}: it is neither a file nor a bundled recipe; "
        + nearest(str(name_or_path), known)
    )


def _set(raw: dict[str, Any], change: str) -> None:
    """Apply one `key=value`; a stage is addressed by its index, name or `use`."""
    key, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change!r}: expected key=value, such as models.writer.seed=7")
    try:
        read = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        read = {"value": value}
    if len(read) != 1:
        raise RecipeError(f"--set {key}: the value goes on after a line break; give one a --set")
    rest = key.strip().split(".")
    parsed = _from_here(rest, read["value"])
    at: Any = raw
    while len(rest) > 1:
        at, rest = _into(at, rest, key)
    if not isinstance(at, dict):
        raise RecipeError(f"--set {key}: {rest[0]!r} would have to be in a table, but is in a list")
    at[rest[0]] = parsed


def _from_here(key: Sequence[str], value: Any) -> Any:
    """A changed value, whose relative paths start where the user is and not at the recipe."""
    if isinstance(value, dict):
        inner = cast(dict[str, Any], value)
        return {name: _from_here([*key, name], each) for name, each in inner.items()}
    if isinstance(value, list):
        return [_from_here(key, each) for each in cast(list[Any], value)]
    if isinstance(value, str) and _is_path(key, value):
        return str(Path.cwd() / Path(value).expanduser())
    return value


def _is_path(key: Sequence[str], value: str) -> bool:
    """Of sources by its key; of weights, judges and juries if it is written as one."""
    match key:
        case ["sources", kind, *rest]:
            named = [part for part in rest if not part.isdigit()]
            return named == ["path"] or (not named and kind != "hub")
        case ["models" | "stages" | "exports", *_]:
            return value.startswith(("./", "../")) or value.endswith(".toml")
        case _:
            return False


def _into(at: Any, rest: list[str], key: str) -> tuple[Any, list[str]]:
    if isinstance(at, dict):
        return cast(dict[str, Any], at).setdefault(rest[0], {}), rest[1:]
    if isinstance(at, list):
        items = cast(list[dict[str, str]], at)
        for index, item in enumerate(items):
            for name in (str(index), item.get("name", ""), item.get("use", "")):
                if name and rest[: len(name.split("."))] == name.split("."):
                    return item, rest[len(name.split(".")) :]
        known = [item.get("name", item.get("use", "")) for item in items]
        raise RecipeError(f"--set {key}: no stage {'.'.join(rest)!r}; " + nearest(rest[0], known))
    raise RecipeError(f"--set {key}: {rest[0]!r} is inside of a value that is not a table")


def explain(error: ValidationError, raw: Any, kind: type[BaseModel], where: str) -> str:
    """Every complaint of pydantic as a line: file, key, what was found, the nearest valid name."""
    lines: list[str] = []
    for complaint in error.errors(include_url=False):
        key = ".".join(str(part) for part in complaint["loc"])
        if complaint["type"] == "extra_forbidden":
            known = _fields(kind, complaint["loc"][:-1])
            lines.append(
                f"{where}: unknown key {key!r}; " + nearest(str(complaint["loc"][-1]), known)
            )
        elif complaint["type"] == "missing":
            lines.append(f"{where}: the key {key!r} is missing")
        else:
            reason = complaint["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {key}: {reason}{found_in(dict(complaint))}")
    return "\n".join(lines)


def _fields(kind: Any, loc: Sequence[int | str]) -> list[str]:
    """The names of the fields where a complaint points, as far as the models tell."""
    for part in loc:
        if _is_model(kind) and part in kind.model_fields:
            kind = kind.model_fields[str(part)].annotation
        kind = next((inner for inner in get_args(kind) if _is_model(inner)), kind)
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def stages() -> dict[str, str]:
    """Every stage that prefdata has, as verb.method, with the first line of its docstring."""
    found: dict[str, str] = {}
    for verb in VERBS:
        if importlib.util.find_spec(f"prefdata.{verb}") is None:
            continue
        package = importlib.import_module(f"prefdata.{verb}")
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                use = f"{verb}.{module.name}"
                found[use] = (find_stage(use).__doc__ or "").strip().partition("\n")[0]
    return found


def find_stage(use: str, *, folder: Path | None = None) -> Stage:
    """The function of `verb.method`, or of `package.module:function` (a plug-in).

    A plug-in may also be a module in `folder`, beside the recipe.
    """
    if ":" in use:
        return plug_in(use, folder=folder)
    verb, _, method = use.partition(".")
    name = f"prefdata.{verb}.{method}"
    known_verb = verb in VERBS and method.isidentifier() and not method.startswith("_")
    if not known_verb or importlib.util.find_spec(f"prefdata.{verb}") is None:
        raise RecipeError(f"no stage {use!r}; " + nearest(use, stages()))
    if importlib.util.find_spec(name) is None:
        raise RecipeError(f"no stage {use!r}; " + nearest(use, stages()))
    return getattr(importlib.import_module(name), method)


def plug_in(name: str, *, folder: Path | None = None) -> Callable[..., Any]:
    """The function of `package.module:function`, installed or in a module in `folder`."""
    module, _, function = name.partition(":")
    with _beside(folder):
        try:
            found = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise RecipeError(
                f"the plug-in {name!r} cannot be imported: {error}; expected "
                "package.module:function, installed or beside the recipe"
            ) from error
    if not callable(found):
        raise RecipeError(f"the plug-in {name!r} is no function but {type(found).__name__}")
    return found


@contextmanager
def _beside(folder: Path | None) -> Generator[None]:
    path = [] if folder is None else [str(folder)]
    sys.path[:0] = path
    try:
        yield
    finally:
        for entry in path:
            sys.path.remove(entry)
