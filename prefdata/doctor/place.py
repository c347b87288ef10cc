"""The data folder: whether it can be written, how much room there is, and what in it is damaged."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prefdata.errors import PrefdataError, VersionError, counted
from prefdata.finding import Finding
from prefdata.models import upkeep
from prefdata.models.journal import Journal
from prefdata.people.store import Store
from prefdata.version.garbage import left_over
from prefdata.version.stored import MANIFEST, NAME, damage, edited, folders, set_aside

_found = partial(Finding, part="data folder")
ELSEWHERE = "give a folder of your own with --data or PREFDATA_DATA"
PARTS = ("ledger", "versions", "builds", "annotations")
LITTLE, SCARCE = 10 * 2**30, 2**30  # bytes free, below which to warn and to stop


def findings(folder: Path, *, repair: bool) -> Iterator[Finding]:
    try:
        above = there(folder)
    except OSError as error:
        yield _found("write access", "error", f"{folder}: {error.strerror}", ELSEWHERE)
        return
    yield _writable(folder, above)
    yield _room(above)
    if (folder / "ledger").is_dir():
        yield _ledger(folder / "ledger", repair=repair)
        if (folder / "ledger" / "batches").is_dir():
            yield _batches(folder / "ledger")
    if (folder / "versions").is_dir():
        yield from _versions(folder, repair=repair)
    if (folder / "annotations").is_dir():
        yield from _annotations(folder)
    if left := left_over(folder):
        said = f"{len(left):,} files or folders that killed or repaired builds left"
        yield _found("left over", "warning", said, "prefdata gc")


def there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists, in which it would be made.

    A link that leads nowhere exists: nothing can be made in its place.
    """
    above = (folder.absolute(), *folder.absolute().parents)
    return next(up for up in above if os.path.lexists(up) or up.exists())


def _writable(folder: Path, above: Path) -> Finding:
    for each in (above, *(folder / part for part in PARTS if os.path.lexists(folder / part))):
        try:
            with tempfile.NamedTemporaryFile(dir=each, prefix=".prefdata-doctor-") as probe:
                probe.write(b"can this be written?")
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            return _found("write access", "error", f"{each}: {error.strerror}", ELSEWHERE)
    made = "" if folder.exists() else ", to be made by the first build"
    return _found("write access", "ok", f"{folder}{made}")


def _room(above: Path) -> Finding:
    try:
        free = shutil.disk_usage(above).free
    except OSError as error:
        return _found("room", "error", f"{above}: {error.strerror}", ELSEWHERE)
    said = f"{free / 2**30:,.1f} GiB free"
    if free >= LITTLE:
        return _found("room", "ok", said)
    do = "make room, or give a folder on another disk with --data; `prefdata gc` lists what can go"
    return _found("room", "error" if free < SCARCE else "warning", said, do)


def _ledger(folder: Path, *, repair: bool) -> Finding:
    about = "ledger"
    try:
        found = upkeep.verify(folder, repair=repair)
    except PrefdataError as error:
        return _found(about, "error", str(error))
    except OSError as error:
        do = f"allow {'reading and writing' if repair else 'reading'} there, and look again"
        return _found(about, "error", f"{error.filename or folder}: {error.strerror}", do)
    said = f"{found.responses:,} answers in {found.segments:,} segments"
    if not found.n_faults:
        return _found(about, "ok", said)
    first = found.faults[0]
    said = (
        f"{said}, {found.n_faults:,} lines are not sound; the first: {first.segment}, line "
        f"{first.line}: {first.found}"
    )
    if found.moved_to:
        said += f"; {found.repaired:,} were moved to {', '.join(found.moved_to)}"
    if found.is_sound:
        return _found(about, "ok", said)
    do = "they are asked again where they are needed; `prefdata doctor --repair` moves them aside"
    left = [each for each in found.faults if _aside(each.segment) not in found.moved_to]
    return _found(about, "warning", said, left[0].advice if repair and left else do)


def _aside(segment: str) -> str:
    return Path(segment).with_suffix(".damaged").name


def _batches(ledger: Path) -> Finding:
    about = "batches"
    try:
        there = Journal(ledger).entries()
    except OSError as error:
        return _found(about, "error", f"{ledger}: {error.strerror}", "see that it can be read")
    if not (damaged := [each.path for each in there if each.is_damaged]):
        return _found(about, "ok", f"{len(there):,} are under way or wait to be taken back")
    do = (
        "build again: the provider is asked what it is, by its name; where it says that it is none "
        "of its batches, remove the file"
    )
    said = f"{len(damaged):,} of {len(there):,} that were handed over cannot be read"
    return _found(about, "warning", f"{said}; the first: {damaged[0]}", do)


def _versions(data: Path, *, repair: bool) -> Iterator[Finding]:
    """Of what is damaged and what was edited; what cannot be read now is neither."""
    there, n_whole, n_moved = folders(data), 0, 0
    for path in there:
        about = f"{path.parent.name}@{path.name}"
        try:
            wrong, changed = damage(path), ""
            if not wrong:
                n_whole += 1
                changed = edited(path)
        except (VersionError, OSError) as error:
            yield _found(about, "warning", str(error))
            continue
        if wrong:
            found = _damaged(about, path, wrong, repair=repair)
            n_moved += found.level == "ok"
            yield found
        elif changed:
            yield _found(about, "warning", changed, "builds can use it; `prefdata push` refuses it")
    level = "ok" if n_whole + n_moved == len(there) else "warning"
    yield _found("versions", level, f"{n_whole:,} of {len(there):,} are as they were written")


def _damaged(about: str, path: Path, wrong: str, *, repair: bool) -> Finding:
    if not repair:
        do = "build its recipe again, or move it aside with `prefdata doctor --repair`"
        return _found(about, "warning", wrong, do)
    try:
        aside = set_aside(path)
    except OSError as error:
        said = f"{wrong}; it cannot be moved aside: {error.strerror}"
        return _found(about, "warning", said, f"allow writing in {path.parents[1]}")
    again = "build its recipe again: answered requests are in the ledger"
    lost = "" if (aside / MANIFEST).exists() else "; it has no manifest"
    return _found(about, "ok", f"{wrong}; moved to {aside}{lost}", again)


def _annotations(data: Path) -> Iterator[Finding]:
    """What people answered, which is nowhere else: whether a build can read it."""
    n, n_damaged = 0, 0
    for path in sorted(data.glob("annotations/*/")):
        if not NAME.fullmatch(path.name):
            continue
        store = Store(data, path.name)
        try:
            store.tasks()
            n += store.annotations().height
        except PrefdataError as error:
            n_damaged += 1
            yield _found(f"annotations of {path.name}", "error", str(error))
        except OSError as error:
            n_damaged += 1
            said = f"{path} cannot be read: {error.strerror}"
            yield _found(f"annotations of {path.name}", "error", said, "allow reading there")
    if not n_damaged:
        yield _found("annotations", "ok", counted(n, "answer"))
