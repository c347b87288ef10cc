"""A source's rows under the columns that it names: unfolded, followed, derived and sifted.

    each = ["answers"]                       # a row an element; several lists go side by side
    columns.completion = "answers.text"      # a path through objects (and by number through lists)
    derive.preference = "2 - preference"     # SQL on the row; "#" is the element's number, from 0
    only = "turn = 0"                        # SQL; rows for which it is not true are left out
    holds."A has more points" = "..."        # SQL; a row for which it is not true is quarantined
    turns = {user = "Human:", assistant = "Assistant:"}     # texts with markers become messages
    tree = {root = "prompt", replies = "replies"}           # see `trees`

Unfolding comes first, so that a path which begins with an unfolded list is a path in its element.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import polars as pl

from prefdata.errors import SourceError
from prefdata.sources.chunk import Bad, Cells, Chunk, as_json
from prefdata.sources.columns import texts
from prefdata.sources.spec import CONVERSATIONS, SourceSpec
from prefdata.sources.transcripts import parted
from prefdata.sources.trees import THREAD, Turn, grown

NUMBER = "#"
PLAIN = (pl.String(), pl.Boolean())


def file_columns(spec: SourceSpec, wanted: Iterable[str]) -> list[str]:
    """The file's columns from which those wanted may be made."""
    if spec.tree is not None and spec.tree.root:
        return spec.tree.columns
    names = [*wanted, *spec.each, *(spec.tree.columns if spec.tree else [])]
    names += _asked_by([*spec.derive.values(), *_conditions(spec)])
    found = dict.fromkeys(each for name in names for each in (name, *_heads(name)))
    return [name for name in found if name not in (NUMBER, THREAD)]


def _heads(path: str) -> list[str]:
    """The names that a path may begin with, the longest first."""
    keys = path.split(".")
    return [".".join(keys[:n]) for n in range(len(keys) - 1, 0, -1)]


def _conditions(spec: SourceSpec) -> list[str]:
    return [*([spec.only] if spec.only else []), *spec.holds.values()]


def _asked_by(sql: Iterable[str]) -> list[str]:
    return [name for each in sql for name in pl.sql_expr(each).meta.root_names()]


def columns_made(spec: SourceSpec, there: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """The names that a row has, of a file whose own columns are `there`."""
    if spec.tree is not None and spec.tree.root:
        return list(dict.fromkeys([THREAD, *wanted]))
    if spec.tree is not None and spec.tree.dialogue:
        return list(dict.fromkeys([*there, THREAD, *wanted]))
    own = {*there, NUMBER, *([THREAD] if spec.tree else [])}

    def known(name: str) -> bool:
        return any(each in own for each in (name, *_heads(name)))

    for name, sql in spec.derive.items():
        if all(map(known, _asked_by([sql]))):
            own.add(name)
    paths = [name for name in wanted if known(name)]
    return list(dict.fromkeys([*there, *sorted(own - {*there, NUMBER}), *paths]))


def reshaped(spec: SourceSpec, chunks: Iterator[Chunk], wanted: Sequence[str]) -> Iterator[Chunk]:
    """The chunks with the wanted columns, a line repeated where a row becomes several."""
    threads: dict[str, list[Turn]] = {}
    for chunk in chunks:
        whole = _unfolded(spec, chunk) if spec.each else chunk
        whole = _of_trees(spec, whole, threads) if spec.tree else whole
        yield _sifted(spec, _made(spec, whole, wanted))


class _Place(NamedTuple):
    """The row of a chunk, and the element in it, that a new row comes from."""

    row: int
    number: int


def _unfolded(spec: SourceSpec, chunk: Chunk) -> Chunk:
    lists = {name: _listed(chunk.columns[name]) for name in spec.each if name in chunk.columns}
    places: list[_Place] = []
    bad = list(chunk.bad)
    for i, line in enumerate(chunk.line):
        found = [cells[i] for cells in lists.values() if cells[i] is not None]
        if not found or not all(isinstance(cell, list) for cell in found):
            bad.append((line, f"{' and '.join(spec.each)}: no list", chunk.row(i)))
        elif len({len(cell) for cell in found}) > 1:
            lengths = ", ".join(str(len(cell)) for cell in found)
            reason = f"{' and '.join(spec.each)} go side by side, but have {lengths} elements"
            bad.append((line, reason, chunk.row(i)))
        else:
            places += [_Place(i, number) for number in range(len(found[0]))]
    rows = [place.row for place in places]
    columns = {name: _taken(cells, rows) for name, cells in chunk.columns.items()}
    for name, cells in lists.items():
        columns[name] = [None if cells[row] is None else cells[row][n] for row, n in places]
    columns[NUMBER] = [place.number for place in places]
    return _chosen(chunk, rows, columns, bad)


def _of_trees(spec: SourceSpec, chunk: Chunk, threads: dict[str, list[Turn]]) -> Chunk:
    tree = spec.tree
    if tree is None:
        return chunk
    cells = {name: _listed(each) for name, each in chunk.columns.items()}
    rows: list[int] = []
    made: list[Mapping[str, Any]] = []
    bad = list(chunk.bad)
    for i, line in enumerate(chunk.line):
        row = {name: each[i] for name, each in cells.items()}
        for found in grown(tree, row, threads):
            if isinstance(found, str):
                bad.append((line, found, chunk.row(i)))
            elif found is not None:
                rows.append(i)
                made.append(found)
    names = dict.fromkeys(name for row in made for name in row)
    columns: dict[str, Cells] = {name: [row.get(name) for row in made] for name in names}
    return _chosen(chunk, rows, columns, bad)


def _made(spec: SourceSpec, chunk: Chunk, wanted: Sequence[str]) -> Chunk:
    """The chunk with paths followed, columns derived, and transcripts parted."""
    columns = dict(chunk.columns)
    n = len(chunk.line)
    asked = _asked_by([*spec.derive.values(), *_conditions(spec)])
    for name in dict.fromkeys([*wanted, *asked]):
        if _is_blank(columns.get(name)) and (name not in spec.derive or name in asked):
            columns[name] = _path(columns, name, n)
    frame = pl.DataFrame({name: _scalars(columns[name]) for name in asked})
    for name, sql in spec.derive.items():
        columns[name] = made = _evaluated(spec, frame, f"derive.{name}", sql, n)
        frame = frame.with_columns(made.alias(name)) if name in asked else frame
    for ours in CONVERSATIONS if spec.turns else ():
        theirs = spec.columns.get(ours, ours)
        if theirs in columns:
            columns[theirs] = parted(_listed(columns[theirs]), spec.turns, asks=ours == "prompt")
    return Chunk(chunk.line, columns, chunk.row, chunk.bad, chunk.text)


def _sifted(spec: SourceSpec, chunk: Chunk) -> Chunk:
    """The rows that are meant, less those of which something does not hold."""
    if not _conditions(spec):
        return chunk
    n = len(chunk.line)
    frame = pl.DataFrame(
        {name: _scalars(chunk.columns[name]) for name in _asked_by(_conditions(spec))}
    )
    meant = pl.repeat(True, n, dtype=pl.Boolean, eager=True)
    if spec.only:
        meant = _condition(spec, frame, "only", spec.only, n)
    broken: dict[int, str] = {}
    for rule, sql in spec.holds.items():
        held = _condition(spec, frame, f"holds.{rule}", sql, n)
        wrong = (meant & ~held).arg_true().to_list()
        broken |= {i: broken.get(i, not_so(rule)) for i in wrong}
    bad = [(chunk.line[i], reason, chunk.row(i)) for i, reason in sorted(broken.items())]
    rows = [i for i in meant.arg_true().to_list() if i not in broken]
    columns = {name: _taken(cells, rows) for name, cells in chunk.columns.items()}
    return _chosen(chunk, rows, columns, [*chunk.bad, *bad])


def not_so(rule: str) -> str:
    """The reason of a row for which a rule does not hold."""
    return f"not so here: {rule}"


def _chosen(chunk: Chunk, rows: list[int], columns: dict[str, Cells], bad: list[Bad]) -> Chunk:
    lines = [chunk.line[i] for i in rows]
    return Chunk(lines, columns, lambda i: chunk.row(rows[i]), bad, chunk.text)


def _listed(cells: Cells) -> list[Any]:
    return cells.to_list() if isinstance(cells, pl.Series) else cells


def _taken(cells: Cells, rows: list[int]) -> Cells:
    return cells[rows] if isinstance(cells, pl.Series) else [cells[i] for i in rows]


def _is_blank(cells: Cells | None) -> bool:
    """Whether there is no such column: one that no row has may be asked for too."""
    if cells is None:
        return True
    blank = cells.null_count() if isinstance(cells, pl.Series) else cells.count(None)
    return blank == len(cells)


def _path(columns: Mapping[str, Cells], path: str, n: int) -> Cells:
    head = next((name for name in _heads(path) if not _is_blank(columns.get(name))), None)
    if head is None:
        return [None] * n
    keys = path[len(head) + 1 :].split(".")
    return [_followed(cell, keys) for cell in _listed(columns[head])]


def _followed(cell: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if isinstance(cell, Mapping):
            cell = cast("Mapping[str, Any]", cell).get(key)
            continue
        items = cast("list[Any]", cell) if isinstance(cell, list) else []
        cell = items[int(key)] if key.isdigit() and int(key) < len(items) else None
    return cell


def _scalars(cells: Cells) -> pl.Series:
    """Single values as a column for SQL: numbers as such where all are, else texts."""
    if isinstance(cells, pl.Series):
        return cells if cells.dtype.is_numeric() or cells.dtype in PLAIN else texts(cells).value
    kinds: set[type] = {type(cell) for cell in cells if cell is not None}
    for kind, dtype in ((int, pl.Int64), (bool, pl.Boolean)):
        if kinds == {kind}:
            return pl.Series(cells, dtype=dtype, strict=False)
    if kinds <= {int, float}:
        return pl.Series(cells, dtype=pl.Float64, strict=False)
    return texts(cells).value


def _condition(spec: SourceSpec, frame: pl.DataFrame, key: str, sql: str, n: int) -> pl.Series:
    """Of which rows something is so; of one that does not say so it is not."""
    value = _evaluated(spec, frame, key, sql, n)
    if value.null_count() == n:  # of a column that is not there
        value = value.cast(pl.Boolean)
    if value.dtype != pl.Boolean:
        raise SourceError(
            f"{spec.where}: {key} = {sql!r} must be true or false of a row, and is "
            f"{value.dtype}; compare it with something, as in 'draw = 0'"
        )
    return value.fill_null(False)


def _evaluated(spec: SourceSpec, frame: pl.DataFrame, key: str, sql: str, n: int) -> pl.Series:
    try:
        value = frame.select(pl.sql_expr(sql).alias("value"))["value"]
    except pl.exceptions.PolarsError as error:
        first = as_json(frame.head(1).to_dicts())
        raise SourceError(
            f"{spec.where}: {key} = {sql!r} cannot be computed: {error}; its first row is {first}"
        ) from error
    return value.new_from_index(0, n) if len(value) == 1 != n else value
