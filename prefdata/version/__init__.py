"""Versions: immutable, named by their content, there whole or not at all."""

from prefdata.version.contents import refuse_dangling
from prefdata.version.splits import assign_splits
from prefdata.version.stored import (
    Version,
    broken,
    data_folder,
    find,
    is_whole,
    listed,
    load,
    verify,
)
from prefdata.version.writing import Written, write, write_shards

__all__ = [
    "Version",
    "Written",
    "assign_splits",
    "broken",
    "data_folder",
    "find",
    "is_whole",
    "listed",
    "load",
    "refuse_dangling",
    "verify",
    "write",
    "write_shards",
]
