"""Files that are there whole or not at all, whoever writes or is killed meanwhile."""

import os
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from polars.exceptions import PolarsError

from prefdata.errors import PrefdataError

# How the names end of files that are being written; those of killed processes are left over.
ASIDE = ".tmp"


@contextmanager
def writing(path: Path) -> Generator[TextIO]:
    """A file that takes the place of `path` when all of it is on the disk, and else leaves it.

    `PrefdataError` where it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}{ASIDE}")
    with writable(path):
        try:
            with aside.open("w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    at = os.open(path, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)


def clock(folder: Path) -> float:
    """The time by the clock of a folder's file system, which is not always that of this machine."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"now")
        file.flush()
        return os.fstat(file.fileno()).st_mtime


@contextmanager
def writable(place: Path | str, kind: type[PrefdataError] = PrefdataError) -> Generator[None]:
    """While it is open, what a disk refuses, as where it is full, is an error of `kind`."""
    try:
        yield
    except (OSError, PolarsError) as error:
        why = getattr(error, "strerror", None) or error
        raise kind(
            f"{place} cannot be written: {why}; make room there or allow it, and do the same again"
        ) from error
