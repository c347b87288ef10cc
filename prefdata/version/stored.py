"""Versions on disk: find, list, load and verify them."""

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import polars as pl

from prefdata.errors import VersionError, nearest
from prefdata.tables import TABLES, empty
from prefdata.version import arrow
from prefdata.version.content import FORMAT, version_id
from prefdata.version.tags import FOLDER, ID, is_tag, tagged, tags

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
# Of a version's folder, what no export can be called.
TAKEN = frozenset(
    [*TABLES, *("judges", "juries", "recipe.toml", "readme.md", "report.html"),
     MANIFEST, QUARANTINE]
)  # fmt: skip
# What every manifest says, and as what.
STATED: Mapping[str, type] = {
    **dict.fromkeys("name id created prefdata description".split(), str),
    **dict.fromkeys("tables exports files recipe splits judges counts licenses".split(), dict),
    **dict.fromkeys("format seed quarantined".split(), int),
}


@dataclass(frozen=True)
class Version:
    """A version on disk."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def id(self) -> str:
        return self.manifest["id"]

    @property
    def created(self) -> str:
        """When it was first written, in UTC."""
        return self.manifest["created"]

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.created)

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.id}"

    @property
    def tags(self) -> list[str]:
        """The tags that stand for it now."""
        return [tag for tag, meant in tags(self.path.parent).items() if meant == self.id]

    @property
    def partial(self) -> Mapping[str, Any] | None:
        """Why it is not whole and what is missing; None where nothing is."""
        return self.manifest.get("partial")

    def table(self, name: str) -> pl.DataFrame:
        """A table, without rows if nothing made it; `VersionError` if there is no such table."""
        if name not in TABLES:
            known = {*TABLES, *self.manifest["exports"]}
            raise VersionError(f"{self.ref} has no {name!r}; {nearest(name, known)}")
        if name not in self.manifest["tables"]:
            return empty(name)
        try:
            return pl.read_parquet(self.path / f"{name}.parquet")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise VersionError(
                f"{self.path}: the table {name} is damaged: {error}; {_REPAIR}"
            ) from error

    def scan(self, name: str) -> pl.LazyFrame:
        """A table unread, for a few columns or rows of one that is too large for memory."""
        if name not in self.manifest["tables"]:
            return self.table(name).lazy()
        return pl.scan_parquet(self.path / f"{name}.parquet")

    def parts(
        self, name: str, n_rows: int, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        """A table, or some of its columns, so many rows at a time; `VersionError` as of `table`."""
        if name not in self.manifest["tables"]:
            yield self.table(name).select(columns or pl.all())
            return
        with self._open(name) as file:
            for batch in file.iter_batches(n_rows, columns=columns):
                yield cast(pl.DataFrame, pl.from_arrow(batch))

    def unpacked(self, name: str) -> int:
        """The bytes of a table without its compression."""
        if name not in self.manifest["tables"]:
            return 0
        with self._open(name) as file:
            groups = (file.metadata.row_group(at) for at in range(file.metadata.num_row_groups))
            return sum(group.total_byte_size for group in groups)

    @contextlib.contextmanager
    def _open(self, name: str) -> Generator[Any]:
        import pyarrow
        from pyarrow import parquet

        try:
            with cast(Any, parquet).ParquetFile(self.path / f"{name}.parquet") as file:
                yield file
        except (OSError, cast(Any, pyarrow).ArrowException) as error:
            raise VersionError(
                f"{self.path}: the table {name} is damaged: {error}; {_REPAIR}"
            ) from error

    def rows(self, view: str, split: str | None = None) -> pl.DataFrame:
        """The rows of an export, of one split or of all."""
        if view not in self.manifest["exports"]:
            known = nearest(view, self.manifest["exports"])
            raise VersionError(f"{self.ref} has no export {view!r}; {known}")
        try:
            return arrow.read(self.path / view, split)
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise VersionError(
                f"{self.path}: the export {view} is damaged: {error}; {_REPAIR}"
            ) from error

    def summary(self) -> dict[str, Any]:
        """The manifest with path and tags, without files and lineage: what `show` prints."""
        said = {k: v for k, v in self.manifest.items() if k not in ("files", "lineage")}
        return {"path": str(self.path), "tags": self.tags, **said}


def verify(path: Path | str) -> Version:
    """Read every file of a version and compare it with the manifest.

    Raises `VersionError` with the first file that is missing, too short, changed or too many.
    """
    path = Path(path)
    version = at_path(path)
    stated: Mapping[str, Mapping[str, Any]] = version.manifest["files"]
    found = {str(f.relative_to(path).as_posix()) for f in path.rglob("*") if f.is_file()}
    for name in sorted(found.symmetric_difference({*stated, MANIFEST})):
        fate = "is missing" if name in stated else "is not of this version"
        raise VersionError(f"{path}: {name} {fate}; {_REPAIR}")
    for name, each in stated.items():
        if file_state(path / name) != each:
            raise VersionError(f"{path}: {name} is not as it was written; {_REPAIR}")
    manifest = version.manifest
    made = manifest_id(manifest)
    if made != version.id or path.name != version.id:
        raise VersionError(f"{path}: its manifest says {version.id}, its content {made}; {_REPAIR}")
    return version


def manifest_id(manifest: Mapping[str, Any]) -> str:
    """The id that a manifest's digests of tables and judges and its recipe give."""
    digests = {name: each["digest"] for name, each in manifest["tables"].items()}
    recipe = {part: manifest[part] for part in ("recipe", "splits", "seed")}
    if partial := manifest.get("partial"):
        # What was not asked is part of what a version is, even where its tables do not show it.
        recipe["missing"] = partial["missing"]
    return version_id(digests, recipe, manifest["judges"], manifest["format"])


def file_state(path: Path) -> dict[str, Any]:
    """A file's size and SHA-256, as a manifest states them."""
    with path.open("rb") as data:
        said = hashlib.file_digest(data, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": said}


_REPAIR = "move the folder away and build again: answered requests are in the ledger"


def set_aside(path: Path) -> Path:
    """Move a damaged version to where no build finds it, and say where; nothing is deleted."""
    aside = path.parents[1] / f".damaged-{path.parent.name}-{path.name}-{uuid.uuid4().hex[:8]}"
    path.rename(aside)
    return aside


def is_whole(path: Path) -> bool:
    """Whether a version is there with all its files in their sizes; reads no file but one."""
    try:
        stated = at_path(path).manifest["files"]
        return all((path / name).stat().st_size == each["bytes"] for name, each in stated.items())
    except (VersionError, OSError):
        return False


def data_folder(data: Path | str | None = None) -> Path:
    """Where ledger, builds and versions are: as given, `PREFDATA_DATA`, or the project's `data`.

    The project is the nearest folder upwards with a `pyproject.toml` or `.git`, else this folder.
    """
    if data is not None or os.environ.get("PREFDATA_DATA"):
        return Path(data if data is not None else os.environ["PREFDATA_DATA"])
    here = Path.cwd()
    marks = ("pyproject.toml", ".git")
    homes = (up for up in (here, *here.parents) if any((up / mark).exists() for mark in marks))
    return next(homes, here) / "data"


def listed(data: Path | str | None = None, name: str = "*") -> list[Version]:
    """Every version whose manifest can be read, by name and then by time; or those of a dataset."""
    found: list[Version] = []
    for path in _folders(data, name):
        with contextlib.suppress(VersionError):  # `broken` says what is wrong
            found.append(at_path(path))
    return sorted(found, key=_age)


def broken(data: Path | str | None = None, name: str | None = None) -> dict[Path, str]:
    """The folders among the versions that are no whole version, and what is wrong with each."""
    wrong: dict[Path, str] = {}
    for path in _folders(data):
        if name not in (None, path.parent.name) or is_whole(path):
            continue
        try:
            at_path(path)
            wrong[path] = f"files are missing or not as long as they were; {_REPAIR}"
        except VersionError as error:
            wrong[path] = str(error)
    return wrong


def _folders(data: Path | str | None, name: str = "*") -> list[Path]:
    """Where a version can be: folders named by an id in folders named as datasets are."""
    every = (data_folder(data) / "versions").glob(f"{name}/*/")
    return sorted(
        path for path in every if NAME.fullmatch(path.parts[-2]) and ID.fullmatch(path.name)
    )


def find(data: Path | str | None, ref: str) -> Version:
    """The version that "name" (the newest), "name@id", "name@<start of id>" or "name@tag" means."""
    name, at, start = ref.partition("@")
    if not NAME.fullmatch(name) or (at and not (ID.fullmatch(start) or is_tag(start))):
        raise VersionError(
            f"{ref!r} names no version; write name, name@id, the start of an id or name@tag"
        )
    home = data_folder(data) / "versions"
    if is_tag(start) and (home / name).is_dir():
        start = tagged(home / name, start)
    if len(start) == 12 and (home / name / start).is_dir():
        return at_path(home / name / start)
    named = [version for version in listed(data) if version.name == name]
    for path in (home / name).iterdir() if not named and (home / name).is_dir() else ():
        if path.name != FOLDER:
            # what is wrong with the only ones there are is worth more than that there are none
            at_path(path)
    if not named:
        known = nearest(name, {version.name for version in listed(data)})
        raise VersionError(f"there is no version of {name!r} in {home}; {known}")
    meant = [version for version in named if version.id.startswith(start)]
    if not meant or (start and len(meant) > 1):
        ids = ", ".join(version.id for version in meant or named)
        what = "is the start of several" if meant else "is none; there is"
        raise VersionError(f"{name}: {start!r} {what}: {ids}")
    return meant[-1]


def _age(version: Version) -> tuple[str, str, str]:
    return version.name, version.created, version.id


def load(ref: str, view: str, data: Path | str | None = None) -> Any:
    """An export as a `datasets.DatasetDict`, memory-mapped, or a table as a `polars.DataFrame`.

    `load("helpful-mini@3f2a", "pairwise")["train"]`, `load("helpful-mini", "votes")`.
    """
    version = find(data, ref)
    if view not in version.manifest["exports"]:
        return version.table(view)
    import datasets

    return datasets.load_from_disk(str(version.path / view))


def at_path(path: Path) -> Version:
    """The version in this folder, or a `VersionError`."""
    try:
        said = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VersionError(f"{path} has no {MANIFEST}: it is no version; {_REPAIR}") from error
    except ValueError as error:
        raise VersionError(f"{path / MANIFEST} is damaged: {error}; {_REPAIR}") from error
    manifest = cast(dict[str, Any], said) if isinstance(said, dict) else {}
    odd = [key for key, kind in STATED.items() if not isinstance(manifest.get(key), kind)]
    if odd:
        raise VersionError(
            f"{path / MANIFEST} is not a version's manifest: {odd[0]!r} is "
            f"{'not as expected' if odd[0] in manifest else 'missing'}; {_REPAIR}"
        )
    if not _is_moment(manifest["created"]):
        raise VersionError(f"{path / MANIFEST} is damaged: 'created' is no time; {_REPAIR}")
    if manifest["format"] > FORMAT:
        raise VersionError(f"{path} was written by prefdata {manifest['prefdata']}; upgrade to it")
    return Version(path, manifest)


def _is_moment(said: str) -> bool:
    try:
        return datetime.fromisoformat(said).tzinfo is not None
    except ValueError:
        return False
