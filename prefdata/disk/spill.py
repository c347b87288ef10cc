"""Rows set down on disk in bins, a few at a time, and taken up again bin by bin.

A bin is one file of Arrow streams, one behind the other, so that adding to it costs no memory and
reading it no search.
"""

# pyright: basic, reportAttributeAccessIssue=false
# pyarrow has no types

from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa

from prefdata.whole import writable

_FAST = pa.ipc.IpcWriteOptions(compression="lz4")


class Spill:
    """Frames of one or several kinds in numbered bins below a folder.

    The frames of one kind have one schema. A kind is named by what can name a file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._empty: dict[str, pl.DataFrame] = {}
        with writable(folder):
            folder.mkdir(parents=True)

    def add(self, kind: str, frame: pl.DataFrame, bins: pl.Series) -> None:
        """Put each row of a frame into the bin that `bins` gives it."""
        self._empty.setdefault(kind, frame.clear())
        if frame.is_empty():
            return
        parts = frame.with_columns(bins.alias(" bin")).partition_by(
            " bin", as_dict=True, include_key=False
        )
        for (at,), rows in parts.items():
            # of the oldest level, since views would take the texts of all bins along into each
            table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
            with (
                writable(self._folder),
                self._path(kind, cast(int, at)).open("ab") as file,
                pa.ipc.new_stream(file, table.schema, options=_FAST) as stream,
            ):
                stream.write_table(table)

    def take(self, kind: str, at: int) -> pl.DataFrame:
        """All rows of a bin, which is empty from then on."""
        path = self._path(kind, at)
        if not path.exists():
            return self._empty[kind]
        streams: list[pa.Table] = []
        with pa.OSFile(str(path)) as file:
            while file.tell() < file.size():
                streams.append(pa.ipc.open_stream(file).read_all())
        path.unlink()
        return cast(pl.DataFrame, pl.from_arrow(pa.concat_tables(streams)))

    def _path(self, kind: str, at: int) -> Path:
        return self._folder / f"{kind}-{at}.arrow"
