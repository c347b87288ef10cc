"""What a ledger holds as one file: a row a request with its answer, in JSON Lines or Parquet.

The columns are those of `schemas/requests.json` and `schemas/responses.json` and `time`; `model`
is the identity of what was served. Rows are read and written in batches, so memory does not grow
with texts.
"""

import contextlib
import fnmatch
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

import polars as pl

from prefdata import tables
from prefdata.errors import ModelError, nearest
from prefdata.models import segment
from prefdata.models.client import BLANK
from prefdata.models.compact import newest_of, survey
from prefdata.models.segment import Segment
from prefdata.models.upkeep import stats

BATCH = 5_000
FORMATS = (".jsonl", ".parquet")
Row = dict[str, Any]


@dataclass(frozen=True)
class Exported:
    """Where an export went and how many rows it has."""

    path: str
    rows: int
    bytes: int

    def to_json(self) -> Row:
        return asdict(self)


def columns() -> dict[str, pl.DataType]:
    """The columns of an export and their types."""
    both = {**tables.schema("requests").dtypes, **tables.schema("responses").dtypes}
    return {"request_id": both.pop("request_id"), "time": pl.Datetime("ms", "UTC"), **both}


def export(
    folder: Path | str,
    path: Path | str,
    *,
    models: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    superseded: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write the newest answer of each request to `path`, which ends in .jsonl or .parquet.

    `models` keeps those whose identity is, or matches as a pattern (`gpt-*`), one of these;
    `since` (included) and `until` (excluded) bound the time of the answer; `superseded` adds the
    answers that a newer one replaced. The file is there whole or not at all.
    """
    folder, path = Path(folder), Path(path)
    _refuse(folder, path, overwrite)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    rows = _rows(folder, _bounds(since, until), models, superseded)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write = _write_jsonl if path.suffix == ".jsonl" else _write_parquet
        n = write(part, rows)
        if models and not n:
            _refuse_unknown(folder, models)
        os.replace(part, path)
    except FileNotFoundError as error:
        raise ModelError(
            f"the ledger {folder} was compacted while it was read; export again"
        ) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return Exported(str(path), n, path.stat().st_size)


def _refuse(folder: Path, path: Path, overwrite: bool) -> None:
    if path.suffix not in FORMATS:
        raise ModelError(f"{path} says no format: an export ends in {' or '.join(FORMATS)}")
    if path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{path} is in the ledger's own folder; export to another place")
    if path.is_dir() or (path.exists() and not overwrite):
        raise ModelError(f"{path} is there already; name another file, or say to overwrite it")


def _refuse_unknown(folder: Path, models: Sequence[str]) -> None:
    known = stats(folder).models
    for each in models:
        if not any(_meant(model, [each]) for model in known):
            raise ModelError(f"the ledger {folder} has no answer of {each}; {nearest(each, known)}")


def _bounds(since: datetime | None, until: datetime | None) -> tuple[int, int]:
    first, last = (None if each is None else _milliseconds(each) for each in (since, until))
    return first or 0, 1 << 62 if last is None else last


def _milliseconds(moment: datetime) -> int:
    """A moment without a zone is in UTC, as everything that prefdata prints."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(zoned.timestamp() * 1000)


def _rows(
    folder: Path, bounds: tuple[int, int], models: Sequence[str], superseded: bool
) -> Iterator[Row]:
    there = segment.segments(folder)
    places = survey(there, segment.stamp).places
    places = places if superseded else newest_of(places)
    places = places[(places["time"] >= bounds[0]) & (places["time"] < bounds[1])]
    for number, each in enumerate(there):
        mine = places[["offset", "length"]][places["segment"] == number]
        for line in _lines(each, mine.tolist()):
            entry = segment.read(line)
            if isinstance(entry, str):
                continue
            if not models or _meant(entry.request.get("model", ""), models):
                options = json.dumps(entry.request.get("options", {}))
                asked = {"completion": None, **entry.request, "options": options}
                said = {**BLANK, **entry.response}
                yield {"request_id": entry.request_id, "time": entry.time, **asked, **said}


def _lines(each: Segment, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    with each.path.open("rb") as file:
        for offset, length in spans:
            file.seek(offset)
            yield file.read(length - 1)


def _meant(model: str, wanted: Sequence[str]) -> bool:
    return any(model == each or fnmatch.fnmatchcase(model, each) for each in wanted)


def _write_jsonl(path: Path, rows: Iterator[Row]) -> int:
    order = list(columns())
    n = 0
    with path.open("w", encoding="utf-8", errors="replace") as file:
        for row in rows:
            moment = datetime.fromtimestamp(row["time"] / 1000, UTC)
            said = {**row, "time": moment.isoformat(timespec="milliseconds")}
            text = json.dumps({name: said[name] for name in order}, ensure_ascii=False)
            file.write(f"{text}\n")
            n += 1
    return n


def _write_parquet(path: Path, rows: Iterator[Row]) -> int:
    import pyarrow.parquet as pq

    n = 0
    with pq.ParquetWriter(path, _arrow([]).schema, compression="zstd") as file:
        while batch := list(islice(rows, BATCH)):
            file.write_table(_arrow(batch))
            n += len(batch)
    return n


def _arrow(batch: list[Row]) -> Any:
    frame = pl.DataFrame(batch, schema=columns())
    # What datasets and older readers cannot take is written in its plain form.
    return cast(Any, frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
