"""Finding and reading the files that define judges and juries."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from prefdata.errors import JudgeError, nearest


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


def _parsed(kind: str, content: bytes, place: str | Path) -> dict[str, Any]:
    try:
        said = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise JudgeError(f"{place}: this is not TOML: {error}") from error
    if "name" in said:
        raise JudgeError(f"{place}: name: a {kind} is named by its file; remove this key")
    return said
