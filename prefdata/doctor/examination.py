"""The whole examination: the installation, the data folder, the services, a recipe's models."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.doctor import installation, models, place, services
from prefdata.finding import Finding
from prefdata.version import data_folder


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

    With `recipe`, at its models too, each endpoint with one request of a token, unless `ask` is
    false. `repair` moves aside what is damaged of the ledger and of versions; nothing is deleted.
    """

    def found() -> Iterator[Finding]:
        folder = data_folder(data)
        yield from installation.findings()
        yield from place.findings(folder, repair=repair)
        yield from services.findings()
        if recipe is not None:
            yield from models.findings(recipe, changes, ask=ask)

    told: list[Finding] = []
    for each in found():
        if tell is not None:
            tell(each)
        told.append(each)
    return Examination(tuple(told))
