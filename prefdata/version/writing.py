"""Versions: immutable, named by their content, there whole or not at all.

    data/versions/<name>/<id>/
      manifest.json      what it is, how it was made, every file with its size and digest
      recipe.toml        the recipe as it was written
      judges/*.toml      what judges were asked
      juries/*.toml      who sat in juries, if any
      *.parquet          every table that has rows
      quarantine.jsonl   source rows that could not be read, with their reasons, if any
      <export>/          a `datasets.DatasetDict` folder, one for each export; some also as files
                         that a trainer reads, with the settings by which it does
      README.md          the dataset card
      report.html        its constitution, and how scores are distributed, if there are any

`<id>` is 12 hexadecimal digits over tables, resolved recipe and judges (see `content`), so building
the same thing twice gives the same id, and the version that is there stays as it is. A version is
written aside, its manifest last, and appears by one rename; what a killed process leaves behind has
no name that is looked at.
"""

import contextlib
import json
import shutil
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack

import polars as pl

from prefdata import locks
from prefdata.disk.shards import Shards
from prefdata.errors import VersionError
from prefdata.secrets import refuse_secrets
from prefdata.stage import Saving
from prefdata.tables import digest
from prefdata.version.card import card
from prefdata.version.content import FORMAT
from prefdata.version.contents import Contents, Whole
from prefdata.version.lineage import lineage
from prefdata.version.page import page
from prefdata.version.stored import (
    MANIFEST,
    NAME,
    QUARANTINE,
    TAKEN,
    damage,
    file_state,
    listed,
    manifest_id,
    set_aside,
)
from prefdata.version.streamed import Streamed
from prefdata.whole import sync, writable

# How folders begin in which something is written, before they are held and then, and where in them.
UNHELD, BEGUN, MADE = ".new-", ".tmp-", "made"


@dataclass(frozen=True)
class Written:
    """Where a version is; `is_new` false: it was there already and nothing was written."""

    path: Path
    id: str
    is_new: bool


class Said(TypedDict, total=False):
    """What is said of a version beside its tables and exports.

    `resolved` is the recipe as plan resolved it, as JSON, without what cannot change an answer or
    differs between machines (base_url, time-outs, prices, absolute paths): all of it goes into the
    id. `judges` maps a judge's name to its file's text, `judge_digests` to the digest of what it
    says (by default that of the text), which goes into the id. `juries` maps a jury's name to its
    file's text; who sits is in `resolved` too. `counts` and `quarantined` rows are kept and are no
    part of the id; of `counts`, the card reads `stages`, a list of {use, table, in, out, dropped},
    and `requests`, `tokens` and `cost`. `licenses` maps a source to its licence; `description` is
    the recipe's, for the card. `partial` is given where a limit ended the asking: its `missing`,
    requests by stage, goes into the id.
    """

    recipe_text: Required[str]
    resolved: Required[Mapping[str, Any]]
    judges: Mapping[str, str] | None
    judge_digests: Mapping[str, str] | None
    juries: Mapping[str, str] | None
    counts: Mapping[str, Any] | None
    quarantined: Iterable[Mapping[str, Any]]
    licenses: Mapping[str, str] | None
    description: str
    partial: Mapping[str, Any] | None


def write(
    data: Path | str,
    name: str,
    *,
    tables: Mapping[str, pl.DataFrame],
    exports: Mapping[str, pl.DataFrame],
    savings: Mapping[str, Saving] | None = None,
    splits: Mapping[str, float] | None = None,
    seed: int = 0,
    **said: Unpack[Said],
) -> Written:
    """Write a version, or find that it is there.

    `savings` say of an export what is saved beside its Arrow folder. Splits are assigned here, to
    `pairs` and to the rows of every export; rows keep their order. What else is `said` of it is
    that of `Said`.

    Raises `TableError` if a table breaks its schema or refers to a row that is not there,
    `RecipeError` if something looks like a secret, `VersionError` if a name is none or the disk
    takes no more.
    """
    kept = {view: (savings or {}).get(view, Saving()) for view in exports}
    _refuse(name, exports, said)
    contents = Whole(tables, exports, kept, dict(splits or {}), seed)
    return _write(data, name, contents, dict(splits or {}), seed, said)


def write_shards(
    data: Path | str,
    name: str,
    *,
    shards: Shards,
    exports: Sequence[str],
    savings: Mapping[str, Saving] | None = None,
    splits: Mapping[str, float] | None = None,
    seed: int = 0,
    **said: Unpack[Said],
) -> Written:
    """`write` from shards, of which one at a time is in memory: the same id, the same tables.

    `exports` name tables of the shards. Their rows stand by shard; the card and the report show
    shares and distributions of a sample of prompts where there are many.
    """
    kept = {view: (savings or {}).get(view, Saving()) for view in exports}
    _refuse(name, exports, said)
    contents = Streamed(shards, kept, dict(splits or {}), seed)
    return _write(data, name, contents, dict(splits or {}), seed, said)


def _refuse(name: str, exports: Iterable[str], said: Said) -> None:
    judges, juries = dict(said.get("judges") or {}), dict(said.get("juries") or {})
    _refuse_names(name, exports, {**judges, **juries})
    recipe = [said["recipe_text"], said["resolved"]]
    told = {"recipe": recipe, "judges": [judges, juries], "counts": said.get("counts")}
    refuse_secrets("version", told)


def _write(
    data: Path | str,
    name: str,
    contents: Contents,
    splits: Mapping[str, float],
    seed: int,
    said: Said,
) -> Written:
    judges, juries = dict(said.get("judges") or {}), dict(said.get("juries") or {})
    digests = {
        **{each: digest("judge", text) for each, text in judges.items()},
        **(said.get("judge_digests") or {}),
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "recipe": json.loads(json.dumps(said["resolved"])),
        "splits": dict(splits),
        "seed": seed,
        "judges": dict(sorted(digests.items())),
        "tables": {n: {"rows": r, "digest": d} for n, (r, d) in contents.digests().items()},
    }
    if partial := said.get("partial"):
        manifest["partial"] = dict(partial)
    home = Path(data) / "versions"
    path = home / name / manifest_id(manifest)
    if _is_there(path):
        return Written(path, path.name, is_new=False)
    bad = said.get("quarantined") or ()
    quarantine = [json.dumps(row, ensure_ascii=False, default=str) for row in bad]
    manifest |= {
        "name": name,
        "id": path.name,
        "description": said.get("description", "").strip(),
        "created": _now(data, name).isoformat(),
        "prefdata": _own_version(),
        "licenses": dict(said.get("licenses") or {}),
        "exports": contents.shapes(),
        "counts": dict(said.get("counts") or {}),
        "quarantined": len(quarantine),
        "noise": contents.noise(),
    }
    if contents.sampled:
        manifest["sampled"] = contents.sampled
    manifest["lineage"] = lineage(manifest)
    frames = contents.shown()
    texts = {
        "recipe.toml": said["recipe_text"],
        "README.md": card(manifest, frames, said["recipe_text"]),
        **({"report.html": shown} if (shown := page(manifest, frames)) else {}),
        **{f"judges/{judge}.toml": text for judge, text in judges.items()},
        **{f"juries/{jury}.toml": text for jury, text in juries.items()},
        **({QUARANTINE: "\n".join(quarantine) + "\n"} if quarantine else {}),
    }
    with writable(path, VersionError), aside(home) as folder:
        contents.fill(folder)
        _finish(folder, manifest, texts)
        return Written(path, path.name, is_new=_appear(folder, path))


def _refuse_names(name: str, exports: Iterable[str], judges: Mapping[str, str]) -> None:
    for what, said in (("version", [name]), ("export", exports), ("judge", judges)):
        for each in said:
            if not NAME.fullmatch(each):
                raise VersionError(
                    f"{what} {each!r} cannot name a folder; use small letters, digits, '.', '_' "
                    "and '-', a letter or digit first"
                )
            if what == "export" and each in TAKEN:
                raise VersionError(f"export {each!r} is the name of a table or file; take another")


def _now(data: Path | str, name: str) -> datetime:
    """The time, later than that of each version of the dataset: a clock may have been put back."""
    later = (each.moment + timedelta(microseconds=1) for each in listed(data, name))
    return max([datetime.now(UTC), *later])


def _own_version() -> str:
    try:
        return installed("prefdata")
    except PackageNotFoundError:
        return "uninstalled"


@contextmanager
def aside(home: Path) -> Generator[Path]:
    """A new folder that no reader looks at; those that this machine's dead have left are removed.

    It is held while it is written, for days if need be and whatever a clock says.
    """
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{BEGUN}*"):
        if locks.is_dead(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = home / f"{UNHELD}{uuid.uuid4().hex}"
    try:
        (folder / MADE).mkdir(parents=True)
        with locks.held(folder):
            # Now others find it, and it is held.
            folder = folder.rename(home / f"{BEGUN}{locks.new_name()}")
            yield folder / MADE
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _finish(folder: Path, manifest: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    """The texts of a version beside its tables and exports, the manifest last; all on the disk."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync(path)
    states = {path.relative_to(folder).as_posix(): file_state(path) for path in files}
    said = json.dumps({**manifest, "files": states}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(said + "\n", encoding="utf-8")
    sync(folder / MANIFEST)
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync(each)


def _appear(folder: Path, path: Path) -> bool:
    """Give a written folder its name; false if another process was first."""
    path.parent.mkdir(exist_ok=True)
    if _is_there(path):
        return False
    with contextlib.suppress(FileNotFoundError):  # nothing was there, or another process moved it
        set_aside(path)
    try:
        folder.rename(path)
    except OSError:
        if _is_there(path):
            return False
        raise
    for each in (path.parent, path.parents[1]):  # its name, and that of a new dataset
        sync(each)
    return True


def _is_there(path: Path) -> bool:
    """Whether a version is there and all of it as it was written.

    All of it is read, for it is given to whoever builds. `VersionError` where that cannot be told:
    what may be sound is not replaced.
    """
    with writable(path, VersionError):
        return path.exists() and not damage(path)
