"""Layouts: what well-known datasets call their columns, one file each in `layouts/`.

A layout is the table of a source without its place: `layout = "hh-rlhf"` in a source stands for
what `layouts/hh-rlhf.toml` says, and whatever the source says itself goes before it. Beside that a
layout has a `description`, where the format is `documented`, and the `kind` of its sources.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, cast

from prefdata.errors import nearest

ABOUT = ("description", "documented", "kind")
MERGED = ("columns", "values", "derive", "holds")


def names() -> list[str]:
    """The layouts that there are."""
    folder = files("prefdata.sources").joinpath("layouts")
    return sorted(each.name.removesuffix(".toml") for each in folder.iterdir())


@cache
def load(name: str) -> Mapping[str, Any]:
    """What a layout says; `ValueError` with the nearest name for one that is not there."""
    if name not in names():
        raise ValueError(f"there is no layout {name!r}; {nearest(name, names())}")
    text = files("prefdata.sources").joinpath("layouts", f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def applied(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A source with what its layout says of it, before which goes what the source says itself.

    Columns, values, derived columns and rules are added to the layout's; else one is the other's.

    A source of the Hub of no stated kind stays as it is, until it has the layout's.
    """
    name = str(spec["layout"])
    said = load(name)
    if kind == "hub":
        return dict(spec)
    if said["kind"] != kind:
        raise ValueError(f"layout {name!r} is of {said['kind']}; give it as sources.{said['kind']}")
    whole = {key: value for key, value in said.items() if key not in ABOUT}
    for key, value in spec.items():
        both = key in MERGED and isinstance(value, Mapping)
        whole[key] = {**whole.get(key, {}), **cast("Mapping[str, Any]", value)} if both else value
    return whole
