"""Every text that a version holds, each once, with the place where it first stands."""

import json
from collections.abc import Iterator

import polars as pl

from prefdata.tables import references, schema
from prefdata.version import Version

# Of the manifest, what is counted and what the tables and files say themselves.
COUNTED = frozenset("tables files lineage exports counts".split())


def texts(version: Version) -> pl.DataFrame:
    """A frame of `place` and `text`: of all tables, views and text files of a version.

    Left out are ids, which are digests, and `report.html`, which says what the tables say.
    """
    parts = [*_tables(version), *_views(version), *_files(version)]
    return pl.concat(parts).unique("text", keep="first", maintain_order=True)


def _tables(version: Version) -> Iterator[pl.DataFrame]:
    for name in version.manifest["tables"]:
        key = schema(name).key[0]
        ids = {key, *(column for column, _, _ in references(name))}
        yield from _columns(version.table(name), name, pl.col(key).cast(pl.String), ids)


def _views(version: Version) -> Iterator[pl.DataFrame]:
    for name, shape in version.manifest["exports"].items():
        for split in shape["splits"]:
            rows = version.rows(name, split)
            row = pl.int_range(pl.len()).cast(pl.String)
            yield from _columns(rows, f"{name}/{split} row", row, set())


def _columns(rows: pl.DataFrame, name: str, row: pl.Expr, ids: set[str]) -> Iterator[pl.DataFrame]:
    for column in rows.columns:
        if column in ids or column.endswith(("_id", "_ids")):
            continue
        place = pl.format("{} {}, {}", pl.lit(name), row, pl.lit(column))
        yield from _strings(rows.select(place=place, text=column))


def _strings(held: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The strings in a column `text`, however deep in lists and structs."""
    kind = held.schema["text"]
    if kind == pl.String:
        yield held.drop_nulls("text")
    elif isinstance(kind, pl.List):
        yield from _strings(held.explode("text"))
    elif isinstance(kind, pl.Struct):
        for field in kind.fields:
            yield from _strings(held.with_columns(text=pl.col("text").struct.field(field.name)))


def _files(version: Version) -> Iterator[pl.DataFrame]:
    """The lines of recipe, judges, card and quarantine, and what the manifest was told."""
    for name in version.manifest["files"]:
        is_of_a_view = name.partition("/")[0] in version.manifest["exports"]
        if name.endswith((".toml", ".jsonl", ".md")) and not is_of_a_view:
            yield _lines(name, (version.path / name).read_text("utf-8"))
    said = {key: value for key, value in version.manifest.items() if key not in COUNTED}
    yield _lines("manifest.json", json.dumps(said, indent=1, ensure_ascii=False))


def _lines(name: str, text: str) -> pl.DataFrame:
    lines = text.splitlines()
    return pl.DataFrame(
        {"place": [f"{name}, line {at}" for at in range(1, len(lines) + 1)], "text": lines},
        schema={"place": pl.String, "text": pl.String},
    )
