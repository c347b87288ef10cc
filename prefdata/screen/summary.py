"""A finished build and the versions there are, as drawn on a terminal and as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from prefdata.dataset import Built
from prefdata.errors import VersionError, nearest
from prefdata.screen import write
from prefdata.version import Version, data_folder, listed
from prefdata.version.garbage import Garbage, size
from prefdata.version.stored import QUARANTINE


def draw_built(built: Built, on: Console) -> None:
    """What a build came to and what to do with it."""
    fate = "new version" if built.is_new else "was there already: nothing new to write"
    style = "bold green" if built.is_new else "bold"
    if built.partial:
        fate, style = f"{fate}, partial", "bold yellow"
    on.print()
    on.print(write.text(f"{built.name}@{built.id}", style), write.text(fate))
    on.print(write.text(built.path), soft_wrap=True)
    on.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    for name, said in _facts(built):
        facts.add_row(name, write.text(said))
    on.print(facts)
    if built.partial:
        on.print()
        draw_partial(built.partial, on)
    ref = f"{built.name}@{built.id}"
    on.print()
    on.print(write.text("look at it   "), write.text(f"prefdata show {ref}", "bold"), sep="")
    for view in list(built.exports)[:1]:
        said = f'prefdata.load("{ref}", "{view}")'
        on.print(write.text("load it      "), write.text(said, "bold"), sep="", soft_wrap=True)


def draw_partial(partial: Mapping[str, Any], on: Console) -> None:
    """Why a version is not whole, what is missing, and how to go on."""
    missing = ", ".join(f"{name} {write.count(n)}" for name, n in partial["missing"].items())
    said = f"partial: {partial['reason']}; requests that were not sent: {missing}"
    on.print(write.text(said, "yellow"))
    on.print(write.text(f"to go on: {partial['go_on']}", "dim"))
    if partial.get("advice"):
        on.print(write.text(partial["advice"], "dim"))


def _quarantined(built: Built) -> str:
    """How many rows could not be read, the first of them and why, and where all of them are."""
    if not built.quarantined:
        return ""
    said = f"{write.rows({'rows': built.quarantined})}, in {QUARANTINE} there"
    try:
        with Path(built.path, QUARANTINE).open(encoding="utf-8") as lines:
            first = json.loads(next(lines))
    except (OSError, ValueError, StopIteration):
        return said
    return f"{said}; the first: {first['source']}, line {first['line']}: {first['reason']}"


def _facts(built: Built) -> list[tuple[str, str]]:
    requests, tokens = built.requests, built.tokens
    asked = [f"{write.count(requests['asked'])} asked"]
    asked += [f"{write.count(requests['cached'])} from the ledger"]
    for name, said in (("failed", "failed"), ("unsent", "not sent")):
        asked += [f"{write.count(requests[name])} {said}"] if requests[name] else []
    asked += [write.dollars(built.cost)] if built.cost else []
    found = [
        ("tables", write.rows(built.tables)),
        ("exports", ", ".join(f"{name} {write.count(n)}" for name, n in built.exports.items())),
        ("dropped", write.reasons(built.dropped)),
        ("unscored", "; ".join(f"{s}: {write.reasons(by)}" for s, by in built.unscored.items())),
        ("made nothing", "; ".join(f"{s}: {why}" for s, why in built.nothing_made.items())),
        ("quarantined", _quarantined(built)),
        ("requests", ", ".join(asked) if any(requests.values()) else "none"),
        ("tokens", ", ".join(f"{write.count(n)} {way}" for way, n in tokens.items() if n)),
    ]
    return [(name, said) for name, said in found if said]


def versions(data: Path | None, name: str | None = None) -> list[dict[str, Any]]:
    """Every version, or those of one dataset, the newest last."""
    found = listed(data)
    if name is not None and name not in {version.name for version in found}:
        known = nearest(name, {version.name for version in found})
        raise VersionError(f"there is no version of {name!r} in {data_folder(data)}; {known}")
    return [_version(each) for each in found if name in (None, each.name)]


def _version(version: Version) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "name": version.name,
        "id": version.id,
        "tags": version.tags,
        "created": version.created,
        "path": str(version.path),
        "tables": {name: each["rows"] for name, each in manifest["tables"].items()},
        "exports": {
            view: sum(each["splits"].values()) for view, each in manifest["exports"].items()
        },
        "bytes": sum(each["bytes"] for each in manifest["files"].values()),
        "partial": manifest.get("partial"),
    }


def draw_versions(found: Sequence[Mapping[str, Any]], data: Path | None, on: Console) -> None:
    if not found:
        where = f"There is no version in {data_folder(data)} yet."
        on.print(write.text(where), "Build one: prefdata build quickstart")
        return
    table = write.table("version", "made (UTC)", "pairs#", "rows#", "size#", "tags", "exports", "")
    table.columns[0].no_wrap = True
    for entry in found:
        table.add_row(
            write.text(f"{entry['name']}@{entry['id']}", "bold"),
            write.text(write.moment(entry["created"])),
            write.count(entry["tables"].get("pairs", 0)),
            write.count(sum(entry["tables"].values())),
            write.size(entry["bytes"]),
            write.text(", ".join(entry["tags"]), "bold cyan"),
            write.text(", ".join(entry["exports"])),
            write.text("partial" if entry["partial"] else "", "yellow"),
        )
    on.print(table)


def draw_broken(wrong: Mapping[Path, str], on: Console) -> None:
    """Folders that should be versions and are none."""
    for path, why in wrong.items():
        named = f"{path.parent.name}@{path.name} cannot be used: "
        on.print(write.text(named, "yellow"), write.text(why), sep="", soft_wrap=True)


def draw_garbage(found: Garbage, n_bytes: int, *, removed: bool, on: Console) -> None:
    """What was or can be removed, and what stays and why."""
    sizes = {} if removed else {each.ref: write.size(size(each.path)) for each in found.removable}
    table = write.table("version", "size#", "")
    table.columns[0].no_wrap = True
    for version in found.removable:
        fate = "removed" if removed else "can be removed"
        table.add_row(write.text(version.ref), sizes.get(version.ref, ""), write.text(fate, "red"))
    for version, why in found.kept:
        table.add_row(write.text(version.ref, "bold"), "", write.text(f"stays: {why}", "dim"))
    for path in found.left_over:
        table.add_row(write.text(path.name), "", write.text("left by a build that ended", "red"))
    on.print(table)
    n = len(found.removable) + len(found.left_over)
    if not n:
        on.print("Nothing can be removed.")
    else:
        said = "freed" if removed else "can be freed; to remove, add --remove"
        on.print(write.text(f"{write.size(n_bytes)} {said}"))
