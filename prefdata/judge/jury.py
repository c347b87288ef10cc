"""A jury is data: several judges, each with the model that it asks.

A jury is a TOML file, named by its stem:

    description = "..."
    source = "..."              # where the idea comes from; may be left out

    [[members]]
    judge = "helpfulness"       # a bundled judge, or a path relative to this file
    model = "small"             # a role of the recipe's [models]

    [[members]]
    judge = "helpfulness"
    model = "large"
    by = "logits"               # how it is asked, see below; if left out, "verdict"

By "verdict" a member writes its verdict; by "logits" its opinion is read off the probabilities of
the letters A and B, which is a pairwise judge's and gets more out of a small model.

All judges are of one kind. No two members are alike, with the same judge asked of the same model
with the same options in the same way: the second would repeat the first, and its votes would count
twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tomli_w
from pydantic import Field, ValidationError

from prefdata.errors import JudgeError, nearest
from prefdata.judge._files import bundled, complaints, lines, stated, worded
from prefdata.judge.judge import Judge
from prefdata.judge.judge import load as load_judge
from prefdata.judge.scale import Kind, Strict
from prefdata.stage import Model

FOLDER = "juries"

By = Literal["verdict", "logits"]


class Member(NamedTuple):
    """A judge, the model that it asks, and how."""

    judge: Judge
    model: Model
    by: By = "verdict"

    @property
    def annotator(self) -> str:
        """Under which name it votes or rates."""
        way = "" if self.by == "verdict" else f":{self.by}"
        return f"llm:{self.model.name}/{self.judge.name}{way}"


@dataclass(frozen=True)
class Jury:
    """Several judges, in the order of their file; see the module."""

    name: str
    members: tuple[Member, ...]
    description: str = ""
    source: str = ""

    @property
    def kind(self) -> Kind:
        """Whether its members compare or rate."""
        return self.members[0].judge.kind

    def to_toml(self) -> str:
        """The jury as a file that `load` reads back, in a folder beside that of the judges."""
        members = [
            {"judge": f"../judges/{each.judge.name}.toml", "model": each.model.role, "by": each.by}
            for each in self.members
        ]
        said = {"description": self.description, "source": self.source, "members": members}
        return tomli_w.dumps(said)


class Seat(Strict):
    """A member as the file states it, by names."""

    judge: str
    model: str
    by: By = "verdict"


class File(Strict):
    """What a jury file says."""

    description: str
    source: str = ""
    members: Annotated[tuple[Seat, ...], Field(min_length=2, strict=False)]


def names() -> list[str]:
    """The bundled juries."""
    return bundled(FOLDER)


def load(name_or_path: str | Path, models: Mapping[str, Model], folder: Path | None = None) -> Jury:
    """A bundled jury by name, or a jury file by a path that ends in .toml.

    `models` are those of the recipe, by role. A relative path is relative to `folder`.
    `JudgeError` names file, key and what is wrong.
    """
    name, place, home, file = _read(name_or_path, folder)
    seats = enumerate(file.members)
    members = tuple(_member(f"{place}: members.{at}", seat, models, home) for at, seat in seats)
    _refuse_mixed(place, members)
    _refuse_alike(place, members)
    return Jury(name, members, file.description, file.source)


def read(name_or_path: str | Path, folder: Path | None = None) -> File:
    """What a jury file says, without a recipe's models; see `load`."""
    return _read(name_or_path, folder)[3]


def _read(name_or_path: str | Path, folder: Path | None) -> tuple[str, str, Path | None, File]:
    name, place, home, said = stated("jury", name_or_path, folder, FOLDER)
    try:
        return name, place, home, File.model_validate(said)
    except ValidationError as error:
        raise JudgeError(lines(place, map(_complaint, complaints(error)))) from error


def _member(at: str, seat: Seat, models: Mapping[str, Model], home: Path | None) -> Member:
    if seat.model not in models:
        raise JudgeError(
            f"{at}.model: no model {seat.model!r} in the recipe's [models]; "
            f"{nearest(seat.model, models)}"
        )
    try:
        judge = load_judge(seat.judge, home)
    except JudgeError as error:
        raise JudgeError(f"{at}.judge: {error}") from error
    if seat.by == "logits" and judge.kind != "pairwise":
        raise JudgeError(
            f'{at}.by: "logits" is for pairwise judges; {judge.name!r} is a {judge.kind} judge'
        )
    return Member(judge, models[seat.model], seat.by)


def _refuse_mixed(place: str, members: tuple[Member, ...]) -> None:
    kinds = {member.judge.kind: member.judge.name for member in members}
    if len(kinds) > 1:
        said = " and ".join(f"{name!r} is {kind}" for kind, name in kinds.items())
        raise JudgeError(f"{place}: members: {said}; write a jury for each kind")


def _refuse_alike(place: str, members: tuple[Member, ...]) -> None:
    for at, one in enumerate(members):
        for earlier, other in enumerate(members[:at]):
            if _asks(one) == _asks(other):
                raise JudgeError(
                    f"{place}: members.{at} and members.{earlier} ask the same judge "
                    f"{one.judge.name!r} of the same model with the same options "
                    f"({other.model.role!r} and {one.model.role!r}): the second would repeat the "
                    "votes of the first; remove it, or ask another model or judge"
                )


def _asks(member: Member) -> Any:
    return member.judge.digest, member.by, member.model.identity, dict(member.model.options)


def _complaint(error: Mapping[str, Any]) -> str:
    at = error["loc"]
    key = ".".join(map(str, at))
    match error["type"]:
        case "extra_forbidden":
            known = (Seat if len(at) > 1 else File).model_fields
            return f"{key}: there is no such key; {nearest(str(at[-1]), known)}"
        case "too_short":
            n = error["ctx"]["actual_length"]
            return f"{key}: a jury has at least two members, found {n}; one judge needs no jury"
        case _:
            return worded(error)
