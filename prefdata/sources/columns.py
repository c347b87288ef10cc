"""A file's cells as values of our types, each with why it is none where it is none.

Whole columns of one type are converted at once; only mixed ones are looked at cell by cell.
Nothing is guessed: a text where a number is due is wrong, but in formats that know only texts.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import polars as pl

from prefdata.sources.chunk import Cells
from prefdata.sources.conversations import Settled, conversations
from prefdata.sources.spec import CONVERSATIONS, FLAGS, NUMBERS, WHOLE, Value, canonical
from prefdata.tool_calls import tools_of

SHOWN = 40
REPR = r"^\s*\[\s*\{\s*'(?:role|content|name|tool_calls|from|value)'\s*:"
PRINTED = (
    "is messages as Python prints them, which are no messages any more; write the dataset as JSON "
    "Lines or Parquet (`to_json`, `to_parquet`) instead of CSV"
)
WORDS = (pl.String, pl.Categorical, pl.Enum)


class Column(NamedTuple):
    """A settled column; `unscored` are the reasons that its translation gave for no number."""

    value: pl.Series
    wrong: pl.Series
    unscored: pl.Series


def settle(
    ours: str, cells: Cells, values: Mapping[str, Value], *, text: bool, scale: tuple[float, float]
) -> Column:
    """One column of a chunk under our name. `text` says that the format knows only texts."""
    unknown: pl.Series | None = None
    unscored = pl.Series([None], dtype=pl.String).new_from_index(0, len(cells))
    if values:
        cells, unknown = _translated(cells, values)
        text = text and ours not in NUMBERS
    if values and ours in NUMBERS:
        reasons = [cell if isinstance(cell, str) else None for cell in cells]
        unscored = pl.Series(reasons, dtype=pl.String)
        cells = [None if isinstance(cell, str) else cell for cell in cells]
    value, wrong = _typed(ours, cells, text, scale)
    if unknown is not None:
        wrong = pl.select(pl.coalesce(unknown, wrong)).to_series()
    prefixed = pl.select(pl.format("{} {}", pl.lit(ours), wrong)).to_series()
    return Column(value, prefixed, unscored)


def _typed(ours: str, cells: Cells, text: bool, scale: tuple[float, float]) -> Settled:
    if ours in CONVERSATIONS:
        found = conversations(cells, CONVERSATIONS[ours])
        return _but_not_repr(found, cells) if text else found
    if ours in NUMBERS:
        return _within(numbers(cells, text=text, flags=ours != "preference"), scale)
    if ours in WHOLE:
        return _whole(numbers(cells, text=text, flags=False))
    if ours in FLAGS:
        return flags(cells, text=text)
    if ours == "tools":
        return _tools(cells)
    return tags(cells) if ours == "tags" else texts(cells)


def _but_not_repr(found: Settled, cells: Cells) -> Settled:
    """Texts, but for messages as Python prints them, which is how `datasets` writes a CSV."""
    words = cells if isinstance(cells, pl.Series) else pl.Series(cells, strict=False)
    is_repr = words.cast(pl.String).str.contains(REPR).fill_null(value=False)
    spoken = pl.DataFrame({"value": found.value, "wrong": found.wrong, "is_repr": is_repr})
    spoken = spoken.select(
        pl.when(~pl.col("is_repr")).then("value").alias("value"),
        pl.when("is_repr").then(pl.lit(PRINTED)).otherwise("wrong").alias("wrong"),
    )
    return Settled(spoken["value"], spoken["wrong"])


def _translated(cells: Cells, values: Mapping[str, Value]) -> tuple[list[Any], pl.Series]:
    """What the cells mean, and which are unknown; an empty one means what `""` does, or nothing."""
    meaning = {canonical(theirs): value for theirs, value in values.items()}
    written, wrong = _texts(cells)
    known = ", ".join(sorted(meaning))
    reasons: list[str | None] = []
    for cell, why in zip(written, wrong, strict=True):
        lost = cell is not None and canonical(cell) not in meaning
        reason = f"is {_short(cell)}, which is not among its values ({known})"
        reasons.append(why if why else reason if lost and cell != "" else None)
    means = [meaning.get(canonical(cell or "")) for cell in written]
    return means, pl.Series(reasons, dtype=pl.String)


def _tools(cells: Cells) -> Settled:
    """Lists of tools as JSON."""
    given = [None if cell in (None, "", []) else cell for cell in cells]
    found = [None if cell is None else tools_of(cell) for cell in given]
    wrong = [
        "is no list of tools, or JSON of one" if cell is not None and tools is None else None
        for cell, tools in zip(given, found, strict=True)
    ]
    return Settled(pl.Series(found, dtype=pl.String), pl.Series(wrong, dtype=pl.String))


def texts(cells: Cells) -> Settled:
    """Single values as texts; an empty one is null."""
    if isinstance(cells, pl.Series) and isinstance(cells.dtype, WORDS):
        value, wrong = cells.cast(pl.String), pl.Series([None], dtype=pl.String)
        wrong = wrong.new_from_index(0, len(value))
    else:
        written, reasons = _texts(cells)
        value, wrong = (pl.Series(each, dtype=pl.String) for each in (written, reasons))
    return Settled(pl.select(pl.when(value != "").then(value)).to_series(), wrong)


def _texts(cells: Cells) -> tuple[list[str | None], list[str | None]]:
    written: list[str | None] = []
    wrong: list[str | None] = []
    for cell in cells.to_list() if isinstance(cells, pl.Series) else cells:
        text = _written(cell)
        written.append(text)
        lost = text is None and cell is not None
        wrong.append(f"is a {type(cell).__name__}, not a single value" if lost else None)
    return written, wrong


def _written(cell: Any) -> str | None:
    match cell:
        case str():
            return cell
        case bool():
            return "true" if cell else "false"
        case float():
            return canonical(repr(cell))
        case int() if cell.bit_length() < 1000:
            return str(cell)
        case _:
            return None


def _each(cells: Cells, dtype: pl.DataType, read: Callable[[Any], Any], expected: str) -> Settled:
    """Each cell read by itself; what cannot be read (`read` gives None) is wrong."""
    listed = cells.to_list() if isinstance(cells, pl.Series) else cells
    value = [read(cell) for cell in listed]
    wrong = [
        f"is {_short(cell)}, not {expected}" if got is None and cell not in (None, "") else None
        for cell, got in zip(listed, value, strict=True)
    ]
    return Settled(pl.Series(value, dtype=dtype), pl.Series(wrong, dtype=pl.String))


def numbers(cells: Cells, *, text: bool, flags: bool) -> Settled:
    """Numbers; in a text format they are read from the text. `flags` lets true be 1, false 0."""
    if isinstance(cells, pl.Series) and cells.dtype.is_numeric():
        reasons = pl.Series([None], dtype=pl.String).new_from_index(0, len(cells))
        return _finite(Settled(cells.cast(pl.Float64), reasons))

    def read(cell: Any) -> float | None:
        if isinstance(cell, bool):
            return float(cell) if flags else None
        try:
            return float(cell) if isinstance(cell, int | float) or _numeral(cell, text) else None
        except (ValueError, OverflowError):
            return None

    return _finite(_each(cells, pl.Float64(), read, "a number"))


def _numeral(cell: Any, text: bool) -> bool:
    return text and isinstance(cell, str) and "_" not in cell


def _finite(column: Settled) -> Settled:
    return _refused(column, ~pl.col("value").is_finite(), "is {}, not a finite number")


def _within(column: Settled, scale: tuple[float, float]) -> Settled:
    low, high = (canonical(repr(end)) for end in scale)
    outside = ~pl.col("value").is_between(*scale)
    return _refused(column, outside, f"is {{}}, outside the scale from {low} to {high}")


def _whole(column: Settled) -> Settled:
    value = pl.col("value")
    odd = (value != value.floor()) | (value < 0) | (value > 2**53)
    whole = _refused(column, odd, "is {}, not a whole number from 0")
    return Settled(whole.value.cast(pl.Int64), whole.wrong)


def _refused(column: Settled, broken: pl.Expr, reason: str) -> Settled:
    """The column without the values for which `broken` holds; the reason names the value."""
    frame = pl.DataFrame({"value": column.value, "wrong": column.wrong})
    broken = broken.fill_null(False)
    frame = frame.with_columns(
        pl.when(broken).then(None).otherwise(pl.col("value")).alias("value"),
        pl.when(broken).then(pl.format(reason, "value")).otherwise(pl.col("wrong")).alias("wrong"),
    )
    return Settled(frame["value"], frame["wrong"])


def flags(cells: Cells, *, text: bool) -> Settled:
    """True and false; in a text format they are written out."""

    def read(cell: Any) -> bool | None:
        if text and isinstance(cell, str):
            return {"true": True, "false": False}.get(cell.strip().lower())
        return cell if isinstance(cell, bool) else None

    return _each(cells, pl.Boolean(), read, "true or false")


def tags(cells: Cells) -> Settled:
    """Tags as a list, or as one text in which commas part them; sorted, each once."""

    def read(cell: Any) -> list[str] | None:
        many = cell.split(",") if isinstance(cell, str) else cell
        if not isinstance(many, list):
            return None
        listed = cast("list[Any]", many)
        if not all(isinstance(tag, str) for tag in listed):
            return None
        return sorted({tag.strip() for tag in listed} - {""})

    settled = _each(cells, pl.List(pl.String()), read, "a list of texts")
    frame = pl.DataFrame({"tags": settled.value})
    some = pl.when(pl.col("tags").list.len() > 0).then("tags")
    return Settled(frame.select(some).to_series(), settled.wrong)


def _short(cell: Any) -> str:
    if isinstance(cell, int) and cell.bit_length() > 1000:
        return "a number of hundreds of digits"
    try:
        shown = repr(cell)
    except RecursionError:
        return f"a deep {type(cell).__name__}"
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + "…"
