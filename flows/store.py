"""Tables between the tasks of a flow: Parquet files on a store that all of its machines reach.

A store is a folder (of this machine, or shared) or any URL that fsspec opens, such as
s3://bucket/prefix. A file gets a name that no other has and is known by it only when it is whole,
for the path is what the writer returns. So nothing is ever overwritten, no file system has to
rename at once, and what a writer that died left half done is never read: it goes with the folder.
"""

# pyright: basic, reportMissingImports=false, reportArgumentType=false

import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import fsspec
import polars as pl
from fsspec import get_filesystem_class
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from prefdata import locks
from prefdata.errors import PrefdataError, RecipeError
from prefdata.secrets import holds_secret, without_login
from prefdata.tables import Tables
from prefdata.whole import writable

Paths = dict[str, str]


def checked(store: str) -> str:
    """A store as all machines understand it.

    `RecipeError` if its URL may not be written down, `PrefdataError` if this Python cannot open it.
    """
    if holds_secret(store):
        raise RecipeError(
            f"the store {without_login(store)} holds a login or key, and a flow's parameters are "
            "kept: leave it out, and give each machine what its file system reads of the "
            "environment (for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    if "://" not in store:
        return str(Path(store).expanduser().absolute())
    try:
        get_filesystem_class(get_protocol(store))
    except (ImportError, ValueError) as error:
        raise _unusable(store, error) from error
    return store


def write(tables: Mapping[str, pl.DataFrame], folder: str) -> Paths:
    """Write tables as files of a folder on a store, and say where each is."""
    paths = {name: f"{folder}/{name}-{uuid.uuid4().hex}.parquet" for name in tables}
    fs, place = url_to_fs(folder)
    if isinstance(fs, LocalFileSystem):  # elsewhere a folder is but the beginning of a name
        fs.makedirs(place, exist_ok=True)
    for name, frame in tables.items():
        with fsspec.open(paths[name], "wb") as file:
            frame.write_parquet(file, compression="lz4")
    return paths


def read(paths: Paths, columns: list[str] | None = None) -> Tables:
    """Read tables, or columns of them."""
    found: Tables = {}
    for name, path in paths.items():
        with fsspec.open(path, "rb") as file:
            found[name] = pl.read_parquet(file, columns=columns)
    return found


def probe(folder: str) -> Paths:
    """Write and read a file; `PrefdataError` where that cannot be."""
    token = pl.DataFrame({"token": [uuid.uuid4().hex]})
    try:
        paths = write({"probe": token}, folder)
        if not read(paths)["probe"].equals(token):
            raise OSError("what was written is not what is read")
    except Exception as error:
        raise _unusable(folder, error) from error
    return paths


def _unusable(store: str, error: Exception) -> PrefdataError:
    return PrefdataError(
        f"the store cannot be used: {store}: {type(error).__name__}: {error}. Expected is a folder "
        "or a URL of fsspec that this machine may write to, such as s3://bucket/prefix"
    )


@contextmanager
def held(folder: str) -> Generator[None]:
    """While it is open, a folder of this machine is nobody's left-over, whatever a clock says."""
    fs, place = url_to_fs(folder)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    with writable(place):
        fs.makedirs(place, exist_ok=True)
    with locks.held(Path(place)):
        yield


def remove(folder: str) -> None:
    """Remove a folder with all that is in it, where it is there."""
    fs, place = url_to_fs(folder)
    if fs.exists(place):
        fs.rm(place, recursive=True)
