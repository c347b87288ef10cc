"""Finding and reading the files that define judges and juries."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from prefdata.errors import JudgeError, found_in, nearest

# What pydantic says of Python's types, in the words of a file.
_WORDS = {
    "missing": "this key is missing",
    "tuple_type": "expected a list",
    "model_type": "expected a table",
}
_EITHER = ("int", "str")


class Stated(NamedTuple):
    """What a file says, its name, where it is in words, and the folder its paths start from."""

    name: str
    place: str
    folder: Path | None
    content: dict[str, Any]


def bundled(*at: str) -> list[str]:
    """The files of a kind that come with prefdata, by name."""
    folder = files("prefdata.judges").joinpath(*at)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(f.name.removesuffix(".toml") for f in found if f.name.endswith(".toml"))


def stated(kind: str, name_or_path: str | Path, folder: Path | None, *at: str) -> Stated:
    """A bundled file by name, or any file by a path that ends in .toml.

    A relative path is relative to `folder`; `at` is where the bundled files of this kind are.
    Raises `JudgeError` where there is no such file, or where it is no TOML.
    """
    if str(name_or_path).endswith(".toml"):
        path = (folder or Path()) / name_or_path
        if not path.is_file():
            raise JudgeError(f"{path}: there is no such {kind} file")
        return Stated(path.stem, str(path), path.parent, _parsed(kind, path.read_bytes(), path))
    name = str(name_or_path)
    known = bundled(*at)
    if name not in known:
        hint = nearest(name, known)
        raise JudgeError(f"there is no {kind} {name!r}; {hint} A path to a {kind} ends in .toml")
    found = files("prefdata.judges").joinpath(*at, f"{name}.toml")
    place = "/".join(("judges", *at, f"{name}.toml"))
    return Stated(name, place, None, _parsed(kind, found.read_bytes(), place))


def complaints(error: ValidationError) -> list[dict[str, Any]]:
    """What pydantic says is wrong in a file, without what only follows from something else.

    A list whose items are wrong counts as empty there: only the items are complained of.
    """
    said: list[dict[str, Any]] = [{**each} for each in error.errors()]
    places = [each["loc"] for each in said]
    return [
        each
        for each in said
        if each["type"] != "too_short" or not any(_inside(at, each["loc"]) for at in places)
    ]


def _inside(at: tuple[Any, ...], place: tuple[Any, ...]) -> bool:
    return len(at) > len(place) and at[: len(place)] == place


def worded(complaint: Mapping[str, Any]) -> str:
    """A complaint with its key and the value found."""
    at, said = complaint["loc"], complaint["msg"].removeprefix("Value error, ")
    if complaint["type"] in ("int_type", "string_type") and at[-1] in _EITHER:
        at, said = at[:-1], "expected a whole number or a text"
    elif complaint["type"] == "tuple_type" and isinstance(complaint["input"], dict):
        said = f"expected a list of tables: write [[{at[-1]}]]"
    else:
        said = _WORDS.get(complaint["type"], said)
    key = "".join(f"{part}: " for part in [".".join(map(str, at))] if part)
    return f"{key}{said}{found_in(complaint)}"


def lines(place: str, said: Iterable[str]) -> str:
    """Complaints about a file, each once, a line each."""
    return "\n".join(dict.fromkeys(f"{place}: {each}" for each in said))


def _parsed(kind: str, content: bytes, place: str | Path) -> dict[str, Any]:
    try:
        said = tomllib.loads(content.decode("utf-8-sig"))  # editors may begin it with a mark
    except UnicodeDecodeError as error:
        raise JudgeError(f"{place}: this is not TOML: {error}; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise JudgeError(f"{place}: this is not TOML: {error}") from error
    except RecursionError as error:
        raise JudgeError(f"{place}: this is nested too deeply") from error
    if "name" in said:
        raise JudgeError(f"{place}: name: a {kind} is named by its file; remove this key")
    return said
