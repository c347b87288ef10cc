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
the same thing twice gives the same id and writes nothing. A version is written aside, its manifest
last, and appears by one rename; what a killed process leaves behind has no name that is looked at.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.errors import TableError, VersionError, nearest
from prefdata.secrets import refuse_secrets
from prefdata.stage import Saving
from prefdata.tables import TABLES, Rows, check, digest, references
from prefdata.version import arrow
from prefdata.version.card import card
from prefdata.version.content import FORMAT, table_digest
from prefdata.version.lineage import lineage
from prefdata.version.noise import noise
from prefdata.version.page import page
from prefdata.version.splits import TRAIN, assign_splits, part
from prefdata.version.stored import (
    MANIFEST,
    NAME,
    QUARANTINE,
    TAKEN,
    file_state,
    is_whole,
    manifest_id,
    set_aside,
)

ABANDONED = 24 * 3600  # seconds after which whoever wrote a folder aside is gone


@dataclass(frozen=True)
class Written:
    """Where a version is; `is_new` false: it was there already and nothing was written."""

    path: Path
    id: str
    is_new: bool


def write(
    data: Path | str,
    name: str,
    *,
    tables: Mapping[str, pl.DataFrame],
    exports: Mapping[str, pl.DataFrame],
    savings: Mapping[str, Saving] | None = None,
    recipe_text: str,
    resolved: Mapping[str, Any],
    judges: Mapping[str, str] | None = None,
    judge_digests: Mapping[str, str] | None = None,
    juries: Mapping[str, str] | None = None,
    counts: Mapping[str, Any] | None = None,
    quarantined: Iterable[Mapping[str, Any]] = (),
    splits: Mapping[str, float] | None = None,
    seed: int = 0,
    licenses: Mapping[str, str] | None = None,
    description: str = "",
    partial: Mapping[str, Any] | None = None,
) -> Written:
    """Write a version, or find that it is there.

    `resolved` is the recipe as plan resolved it, as JSON, without what cannot change an answer or
    differs between machines (base_url, time-outs, prices, absolute paths): all of it goes into the
    id. `savings` say of an export what is saved beside its Arrow folder. `judges` maps a judge's
    name to its file's text, `judge_digests` to the digest of what it says (by default that of the
    text), which goes into the id. `juries` maps a jury's name to its
    file's text; who sits is in `resolved` too. `counts` and `quarantined` rows are kept and are no
    part of the id; of `counts`, the card reads `stages`, a list of {use, table, in, out, dropped},
    and `requests`, `tokens` and `cost`. Splits are assigned here, to `pairs` and to the rows of
    every export; rows keep their order. `licenses` maps a source to its licence; `description` is
    the recipe's, for the card. `partial` is given where a limit ended the asking: its `missing`,
    requests by stage, goes into the id.

    Raises `TableError` if a table breaks its schema or refers to a row that is not there,
    `RecipeError` if something looks like a secret, `VersionError` if a name is none.
    """
    judges, splits = dict(judges or {}), dict(splits or {})
    digests = {
        **{name: digest("judge", text) for name, text in judges.items()},
        **(judge_digests or {}),
    }
    juries = dict(juries or {})
    _refuse_names(name, exports, {**judges, **juries})
    asked = [judges, juries]
    said = {"recipe": [recipe_text, resolved], "judges": asked, "counts": counts}
    refuse_secrets("version", said)
    frames = _split(_checked(tables), splits, seed)
    refuse_dangling(frames)
    manifest = _content(frames, resolved, digests, splits, seed)
    if partial:
        manifest["partial"] = dict(partial)
    home = Path(data) / "versions"
    path = home / name / manifest_id(manifest)
    if is_whole(path):
        return Written(path, path.name, is_new=False)
    savings = {view: (savings or {}).get(view, Saving()) for view in exports}
    parted = {
        view: _saved(part(rows, frames, splits, seed), savings[view])
        for view, rows in exports.items()
    }
    quarantine = [json.dumps(row, ensure_ascii=False, default=str) for row in quarantined]
    manifest |= {
        "name": name,
        "id": path.name,
        "description": description.strip(),
        "created": datetime.now(UTC).isoformat(),
        "prefdata": _own_version(),
        "licenses": dict(licenses or {}),
        "exports": {view: _shape(each) for view, each in parted.items()},
        "counts": dict(counts or {}),
        "quarantined": len(quarantine),
        "noise": noise(frames),
    }
    manifest["lineage"] = lineage(manifest)
    texts = {
        "recipe.toml": recipe_text,
        "README.md": card(manifest, frames, recipe_text),
        **({"report.html": shown} if (shown := page(manifest, frames)) else {}),
        **{f"judges/{judge}.toml": text for judge, text in judges.items()},
        **{f"juries/{jury}.toml": text for jury, text in juries.items()},
        **({QUARANTINE: "\n".join(quarantine) + "\n"} if quarantine else {}),
    }
    folder = aside(home)
    try:
        _fill(folder, manifest, texts, frames, parted, savings)
        return Written(path, path.name, is_new=_appear(folder, path))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_dangling(frames: Mapping[str, pl.DataFrame]) -> None:
    """`TableError` if a row refers to a row that no table has."""
    for name, table in frames.items():
        for column, other, key in references(name):
            there = frames[other][key] if other in frames else pl.Series(key, [], pl.String)
            said = table[column].drop_nulls().unique()
            lost = said.filter(~said.is_in(there.implode())).sort()
            if lost.len():
                raise TableError(
                    f"table {name}, column {column}: refers to {lost.len()} {other} that are not "
                    f"there, first {lost[0]!r}; a stage that removes rows of {other} has to leave "
                    "those that others refer to"
                )


def _checked(frames: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The tables that have rows, in canonical form and in the order of the pipeline."""
    unknown = [name for name in frames if name not in TABLES]
    if unknown:
        raise VersionError(f"there is no table {unknown[0]!r}; {nearest(unknown[0], TABLES)}")
    rows = {name: frames[name] for name in TABLES if name in frames and frames[name].height}
    return {name: check(name, table, where="version") for name, table in rows.items()}


def _split(
    frames: dict[str, pl.DataFrame], splits: Mapping[str, float], seed: int
) -> dict[str, pl.DataFrame]:
    assigned = assign_splits(frames, splits, seed)
    changed = {name: t for name, t in assigned.items() if t is not frames.get(name)}
    kept = {name: t for name, t in frames.items() if name not in changed} | _checked(changed)
    return {name: kept[name] for name in TABLES if name in kept}


def _refuse_names(name: str, exports: Mapping[str, Any], judges: Mapping[str, str]) -> None:
    for what, said in (("version", [name]), ("export", exports), ("judge", judges)):
        for each in said:
            if not NAME.fullmatch(each):
                raise VersionError(
                    f"{what} {each!r} cannot name a folder; use small letters, digits, '.', '_' "
                    "and '-', a letter or digit first"
                )
            if what == "export" and each in TAKEN:
                raise VersionError(f"export {each!r} is the name of a table or file; take another")


def _content(
    frames: Mapping[str, pl.DataFrame],
    resolved: Mapping[str, Any],
    judges: Mapping[str, str],
    splits: Mapping[str, float],
    seed: int,
) -> dict[str, Any]:
    """The part of a manifest that the id is made of."""
    digests = {name: (table.height, table_digest(table)) for name, table in frames.items()}
    return {
        "format": FORMAT,
        "recipe": json.loads(json.dumps(resolved)),
        "splits": splits,
        "seed": seed,
        "judges": dict(sorted(judges.items())),
        "tables": {name: {"rows": rows, "digest": said} for name, (rows, said) in digests.items()},
    }


def _shape(splits: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    columns = next(iter(splits.values())).columns
    return {"columns": columns, "splits": {name: rows.height for name, rows in splits.items()}}


def _own_version() -> str:
    try:
        return installed("prefdata")
    except PackageNotFoundError:
        return "uninstalled"


def aside(home: Path) -> Path:
    """A new folder that no reader looks at; older ones, left by killed processes, are removed."""
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(".tmp-*"):
        try:
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:  # another process removed it
            continue
    folder = home / f".tmp-{uuid.uuid4().hex}"
    folder.mkdir()
    return folder


def _fill(
    folder: Path,
    manifest: Mapping[str, Any],
    texts: Mapping[str, str],
    frames: Mapping[str, pl.DataFrame],
    parted: Mapping[str, Mapping[str, pl.DataFrame]],
    savings: Mapping[str, Saving],
) -> None:
    """All files of a version, on the disk, the manifest last."""
    for name, table in frames.items():
        table.write_parquet(folder / f"{name}.parquet", compression="zstd")
    for view, splits in parted.items():
        arrow.write(folder / view, splits)
        _also(folder / view, splits, savings[view])
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    states = {path.relative_to(folder).as_posix(): file_state(path) for path in files}
    said = json.dumps({**manifest, "files": states}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(said + "\n", encoding="utf-8")
    _sync(folder / MANIFEST)
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync(each)


def _also(folder: Path, splits: Mapping[str, pl.DataFrame], saving: Saving) -> None:
    """What an export has beside its Arrow folder."""
    for name, rows in splits.items():
        if saving.saved_as == "jsonl":
            rows.write_ndjson(folder / f"{name}.jsonl")
        elif saving.saved_as == "parquet":
            rows.write_parquet(folder / f"{name}.parquet")
    for name, text in saving.beside({split: Rows(rows) for split, rows in splits.items()}).items():
        (folder / name).write_text(text, encoding="utf-8")


def _saved(splits: Mapping[str, pl.DataFrame], saving: Saving) -> dict[str, pl.DataFrame]:
    """The splits as they are saved: that for training may be parted by a column."""
    train, column = splits[TRAIN], saving.parted_by
    named = {TRAIN: train}
    if column and not train.is_empty():
        parts = train.partition_by(column, as_dict=True)
        named = {f"{column}_{value}": rows for (value,), rows in sorted(parts.items())}
    others = {name: rows for name, rows in splits.items() if name != TRAIN}
    return {**named, **{name: saving.held_out(Rows(rows)) for name, rows in others.items()}}


def _appear(folder: Path, path: Path) -> bool:
    """Give a written folder its name; false if another process was first."""
    path.parent.mkdir(exist_ok=True)
    if path.exists() and not is_whole(path):
        with contextlib.suppress(FileNotFoundError):  # another process moved it
            set_aside(path)
    try:
        folder.rename(path)
    except OSError:
        if is_whole(path):
            return False
        raise
    _sync(path.parent)
    return True


def _sync(path: Path) -> None:
    at = os.open(path, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
