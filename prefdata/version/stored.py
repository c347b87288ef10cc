"""Versions on disk: find, list, load and verify them."""

import contextlib
import hashlib
import json
import os
import re
import stat
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import polars as pl

from prefdata.disk.parquet import batches
from prefdata.errors import VersionError, nearest
from prefdata.tables import TABLES, empty
from prefdata.version import arrow
from prefdata.version.content import FORMAT, version_id
from prefdata.version.tags import FOLDER, ID, is_tag, tagged, tags

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
DIGITS = 12  # of an id
# What people read of a version and may well edit: nothing reads it and no id has it.
TEXTS = frozenset(["README.md", "report.html"])
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

    def table(
        self, name: str, *columns: str | pl.Expr, where: pl.Expr | None = None
    ) -> pl.DataFrame:
        """A table, without rows if nothing made it; `VersionError` if there is no such table.

        What `where` and `columns` leave out is not held, so that few of many rows can be had.
        """
        if name not in TABLES:
            known = {*TABLES, *self.manifest["exports"]}
            raise VersionError(f"{self.ref} has no {name!r}; {nearest(name, known)}")
        try:
            rows = empty(name).lazy()
            if name in self.manifest["tables"]:
                rows = pl.scan_parquet(self.path / f"{name}.parquet")
            rows = rows if where is None else rows.filter(where)
            return (rows.select(columns) if columns else rows).collect(engine="streaming")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self._damaged(f"table {name}", error) from error

    def parts(
        self, name: str, n_rows: int, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        """A table, or some of its columns, so many rows at a time; `VersionError` as of `table`."""
        if name not in self.manifest["tables"]:
            yield self.table(name).select(columns or pl.all())
            return
        with self._open(name) as file:
            for batch in batches(file, n_rows, columns):
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
            raise self._damaged(f"table {name}", error) from error

    def rows(
        self, view: str, split: str | None = None, *, where: pl.Expr | None = None
    ) -> pl.DataFrame:
        """The rows of an export, of one split or of all, where something holds."""
        if view not in self.manifest["exports"]:
            known = nearest(view, self.manifest["exports"])
            raise VersionError(f"{self.ref} has no export {view!r}; {known}")
        try:
            return arrow.read(self.path / view, split, where)
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise self._damaged(f"export {view}", error) from error

    def _damaged(self, what: str, error: Exception) -> VersionError:
        return VersionError(f"{self.path}: the {what} is damaged: {error}; {_REPAIR}")

    def summary(self) -> dict[str, Any]:
        """The manifest with path and tags, without files and lineage: what `show` prints."""
        said = {k: v for k, v in self.manifest.items() if k not in ("files", "lineage")}
        return {"path": str(self.path), "tags": self.tags, **said}


def verify(path: Path | str) -> Version:
    """Read every file of a version and compare it with the manifest.

    Raises `VersionError` with the first file that is missing, too short, changed or too many.
    """
    path = Path(path)
    if wrong := damage(path):
        raise VersionError(f"{wrong}; {_REPAIR}")
    if wrong := edited(path):
        raise VersionError(wrong)
    return at_path(path)


def damage(path: Path, *, by_size: bool = False) -> str:
    """What is surely not as it was written, of the content of a version; "" where all of it is.

    `by_size` reads no file but the manifest. Not meant is what `edited` tells. Raises
    `VersionError` where it cannot be told: a later format, a file that cannot be read now.
    """
    version = _read(path)
    if isinstance(version, str):
        return version
    stated: Mapping[str, Any] = version.manifest["files"]
    for name, state in stated.items():
        try:
            found = _state(path / name, by_size=by_size or name in TEXTS)
        except _NOTHING:
            return f"{path}: {name} is missing"
        except OSError as error:
            raise _unreadable(path / name, error) from error
        if name not in TEXTS and not (isinstance(state, dict) and found.items() <= state.items()):
            return f"{path}: {name} is not as it was written"
    if by_size:
        return ""
    try:
        made = manifest_id(version.manifest)
    except (KeyError, TypeError, AttributeError) as error:
        return f"{path / MANIFEST} is damaged: {type(error).__name__}: {error}"
    if made != version.id or path.name != version.id:
        return f"{path}: its manifest says {version.id}, its content {made}"
    return ""


def edited(path: Path) -> str:
    """What somebody changed or added in a sound version, which harms nothing; "" if nobody did."""
    stated = at_path(path).manifest["files"]
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    for name in sorted(found - {*stated, MANIFEST}):
        return f"{path}: {name} is not of this version; move it elsewhere"
    for name in sorted(TEXTS & stated.keys()):
        if _state(path / name) != stated[name]:
            return (
                f"{path}: {name} is not as it was written: somebody edited it. To have it as it "
                "was, move the folder away and build again"
            )
    return ""


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
    return _state(path)


def _state(path: Path, *, by_size: bool = False) -> dict[str, Any]:
    if not stat.S_ISREG((at := path.stat()).st_mode):
        raise FileNotFoundError(f"{path} is no file")
    if by_size:
        return {"bytes": at.st_size}
    with path.open("rb") as data:
        return {"bytes": at.st_size, "sha256": hashlib.file_digest(data, "sha256").hexdigest()}


_REPAIR = "move the folder away and build again: answered requests are in the ledger"
_NOTHING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def _unreadable(path: Path, error: OSError) -> VersionError:
    return VersionError(
        f"{path} cannot be read: {error.strerror or error}; allow it, or mend the disk, and do the "
        "same again"
    )


def set_aside(path: Path) -> Path:
    """Move a damaged version to where no build finds it, and say where; nothing is deleted."""
    aside = path.parents[1] / f".damaged-{path.parent.name}-{path.name}-{uuid.uuid4().hex[:6]}"
    os.utime(path)  # `garbage` counts from now
    path.rename(aside)
    return aside


def is_whole(path: Path) -> bool:
    """Whether a version is there with all its files in their sizes; reads no file but one."""
    try:
        return not damage(path, by_size=True)
    except VersionError:
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
    for path in folders(data, name):
        with contextlib.suppress(VersionError):  # `broken` says what is wrong
            found.append(at_path(path))
    return sorted(found, key=_age)


def broken(data: Path | str | None = None, name: str | None = None) -> dict[Path, str]:
    """The folders among the versions that are no whole version, and what is wrong with each."""
    wrong: dict[Path, str] = {}
    for path in folders(data):
        if name not in (None, path.parent.name):
            continue
        try:
            if said := damage(path, by_size=True):
                wrong[path] = f"{said}; {_REPAIR}"
        except VersionError as error:
            wrong[path] = str(error)
    return wrong


def folders(data: Path | str | None, name: str = "*") -> list[Path]:
    """Where a version can be: folders named by a whole id in folders named as datasets are."""
    every = (data_folder(data) / "versions").glob(f"{name}/*/")
    return sorted(
        path
        for path in every
        if NAME.fullmatch(path.parts[-2]) and ID.fullmatch(path.name) and len(path.name) == DIGITS
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
    if len(start) == DIGITS and (home / name / start).is_dir():
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
    found = _read(path)
    if isinstance(found, str):
        raise VersionError(f"{found}; {_REPAIR}")
    return found


def _read(path: Path) -> Version | str:
    """The version in this folder or what is wrong with its manifest.

    `VersionError` where that cannot be told.
    """
    try:
        said = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except _NOTHING:
        return f"{path} has no {MANIFEST}: it is no version"
    except OSError as error:
        raise _unreadable(path / MANIFEST, error) from error
    except ValueError as error:
        return f"{path / MANIFEST} is damaged: {error}"
    manifest = cast(dict[str, Any], said) if isinstance(said, dict) else {}
    made = manifest.get("format")
    if isinstance(made, int) and made > FORMAT:
        own = manifest.get("prefdata", "of a later day")
        raise VersionError(f"{path} was written by prefdata {own}; upgrade to it")
    odd = [key for key, kind in STATED.items() if not isinstance(manifest.get(key), kind)]
    if odd:
        fate = "not as expected" if odd[0] in manifest else "missing"
        return f"{path / MANIFEST} is not a version's manifest: {odd[0]!r} is {fate}"
    if not _is_moment(manifest["created"]):
        return f"{path / MANIFEST} is damaged: 'created' is no time"
    return Version(path, manifest)


def _is_moment(said: str) -> bool:
    try:
        return datetime.fromisoformat(said).tzinfo is not None
    except ValueError:
        return False
