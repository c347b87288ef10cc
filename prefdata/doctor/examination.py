"""The whole examination: the installation, the data folder, the services, a recipe's models."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefdata.doctor import installation, models, place, services
from prefdata.finding import Finding
from prefdata.version import data_folder

UNFORESEEN = "set PREFDATA_TRACEBACK=1 to see where it comes from, and please report it"


@dataclass(frozen=True)
class Examination:
    findings: tuple[Finding, ...]

    @property
    def is_fit(self) -> bool:
        """Whether nothing is in the way of a build."""
        return all(each.level != "error" for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {"fit": self.is_fit, "findings": [_told(each) for each in self.findings]}


def _told(finding: Finding) -> dict[str, Any]:
    """Nothing was counted."""
    whole = finding.to_json()
    return {name: whole[name] for name in ("part", "check", "level", "says", "advice")}


def examine(
    recipe: str | None = None,
    *,
    data: Path | str | None = None,
    changes: tuple[str, ...] = (),
    ask: bool = True,
    repair: bool = False,
    tell: Callable[[Finding], None] | None = None,
) -> Examination:
    """Look at everything and `tell` each finding as it comes.

    With `recipe`, at what its build refuses and at its models too, each endpoint with a request of
    a token for each thing that is wanted of it, unless `ask` is false. `repair` moves aside what is
    damaged of the ledger and of versions; nothing is deleted.
    """

    def found() -> Iterator[Finding]:
        yield from _looked("installation", installation.findings)
        folder = data_folder(data)
        look = partial(place.findings, folder, repair=repair)
        yield from _looked("data folder", look)
        yield from _looked("services", services.findings)
        if recipe is not None:
            yield from _looked("models", partial(models.findings, recipe, changes, folder, ask=ask))

    told: list[Finding] = []
    for each in found():
        if tell is not None:
            tell(each)
        told.append(each)
    return Examination(tuple(told))


def _looked(part: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What is found of a part; that one cannot be looked at hides nothing of the others.

    What an error says may hold a key, so that only its type is told.
    """
    try:
        yield from look()
    except Exception as error:
        if os.environ.get("PREFDATA_TRACEBACK"):
            raise
        said = f"it could not be looked at to the end: {type(error).__name__}"
        yield Finding(part, "error", said, UNFORESEEN, part=part)
