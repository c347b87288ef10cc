"""The tables: one type, one schema file and one check for each.

A table is a `polars.DataFrame` whose columns are stated in `schemas/<table>.json`; the schema is
the single source of columns, types, nullability, ranges, keys and references. Ids are digests of
content, so they depend on neither row order, process nor platform.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from itertools import islice
from json.encoder import encode_basestring
from typing import Any, Literal, NewType, TypeVar, cast

import polars as pl

from prefdata.errors import RecipeError, TableError, nearest

# Tables by their names.
Tables = dict[str, pl.DataFrame]

Prompts = NewType("Prompts", pl.DataFrame)
Completions = NewType("Completions", pl.DataFrame)
Samples = NewType("Samples", pl.DataFrame)
Ratings = NewType("Ratings", pl.DataFrame)
Votes = NewType("Votes", pl.DataFrame)
Rankings = NewType("Rankings", pl.DataFrame)
Strengths = NewType("Strengths", pl.DataFrame)
Pairs = NewType("Pairs", pl.DataFrame)
Scores = NewType("Scores", pl.DataFrame)
Likelihoods = NewType("Likelihoods", pl.DataFrame)
Rationales = NewType("Rationales", pl.DataFrame)
Principles = NewType("Principles", pl.DataFrame)
Assignments = NewType("Assignments", pl.DataFrame)
Annotations = NewType("Annotations", pl.DataFrame)
Measures = NewType("Measures", pl.DataFrame)
Dropped = NewType("Dropped", pl.DataFrame)
Requests = NewType("Requests", pl.DataFrame)
Responses = NewType("Responses", pl.DataFrame)
# What an export stage makes: the rows of a dataset type, whose columns a trainer states.
Rows = NewType("Rows", pl.DataFrame)

# In the order of the pipeline: a row refers only to tables before its own.
_TABLES = (
    "prompts completions samples ratings votes rankings strengths pairs scores likelihoods "
    "rationales principles assignments annotations measures dropped"
)
TABLES: tuple[str, ...] = tuple(_TABLES.split())

# The tables whose rows may be unscored, and the column that is then null.
VALUES = {"ratings": "rating", "votes": "preference", "rankings": "ranking"}

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

Frame = TypeVar("Frame", bound=pl.DataFrame)
Format = Literal["conversational", "standard"]
# Letters of a row that an error shows.
SHOWN = 300


@dataclass(frozen=True)
class Column:
    """One column of a schema; `references` is "table.column" or empty.

    An estimate has `decimals`: what is beyond them depends on the machine and is cut off, so that
    equal is equal everywhere.
    """

    dtype: pl.DataType
    nullable: bool
    description: str
    references: str
    minimum: float | None
    maximum: float | None
    enum: tuple[str, ...] | None
    pattern: str | None
    decimals: int | None


@dataclass(frozen=True)
class Schema:
    """What `schemas/<name>.json` states. `rules` maps a sentence to an SQL condition on a row."""

    name: str
    description: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    rules: Mapping[str, str]

    @property
    def dtypes(self) -> dict[str, pl.DataType]:
        return {name: column.dtype for name, column in self.columns.items()}


@cache
def schema(name: str) -> Schema:
    """The schema of a table or of an exported dataset type."""
    text = files("prefdata.schemas").joinpath(f"{name}.json").read_text(encoding="utf-8")
    raw = json.loads(text)
    columns = {column: _column(spec) for column, spec in raw["properties"].items()}
    return Schema(name, raw["description"], tuple(raw["key"]), columns, raw.get("rules", {}))


def _column(spec: Mapping[str, Any]) -> Column:
    return Column(
        dtype=_dtype(spec),
        nullable="null" in spec["type"],
        description=spec["description"],
        references=spec.get("references", ""),
        minimum=spec.get("minimum"),
        maximum=spec.get("maximum"),
        enum=tuple(spec["enum"]) if "enum" in spec else None,
        pattern=spec.get("pattern"),
        decimals=spec.get("decimals"),
    )


def _dtype(spec: Mapping[str, Any]) -> pl.DataType:
    kinds = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    match next(kind for kind in kinds if kind != "null"):
        case "string":
            return pl.String()
        case "integer":
            return pl.Int64()
        case "number":
            return pl.Float64()
        case "boolean":
            return pl.Boolean()
        case "array":
            return pl.List(_dtype(spec["items"]))
        case "object":
            return pl.Struct({name: _dtype(item) for name, item in spec["properties"].items()})
        case kind:
            raise TableError(f"a schema names the type {kind!r}; it knows JSON Schema's own types")


def empty(name: str) -> pl.DataFrame:
    """The table without rows, with every column in its type."""
    return pl.DataFrame(schema=schema(name).dtypes)


def check(name: str, frame: pl.DataFrame, *, where: str) -> pl.DataFrame:
    """The table in its canonical form: all columns, in order and type, sorted by key.

    Absent nullable columns become nulls. Anything else that the schema does not allow (an unknown
    or missing column, another type, a null, a value out of range, a repeated key, a broken rule)
    raises `TableError` with `where` (the stage or file), the column, the rule and the first rows.
    """
    stated = schema(name)
    frame = _conform(stated, frame, where)
    for column_name, column in stated.columns.items():
        for rule, broken in _conditions(column_name, column):
            _refuse(stated, frame.filter(broken), where, column_name, rule)
    for rule, sql in stated.rules.items():
        held = pl.sql_expr(sql).fill_null(False)
        _refuse(stated, frame.filter(~held), where, "row", rule)
    if stated.key:
        repeated = frame.filter(pl.struct(*stated.key).is_duplicated())
        rule = f"the key ({', '.join(stated.key)}) appears once"
        _refuse(stated, repeated.sort(*stated.key), where, "key", rule)
        frame = frame.sort(*stated.key)
    return frame


def _conform(stated: Schema, frame: pl.DataFrame, where: str) -> pl.DataFrame:
    place = f"{where}: table {stated.name}"
    unknown = [name for name in frame.columns if name not in stated.columns]
    if unknown:
        known = ", ".join(stated.columns)
        raise TableError(f"{place} has the unknown column {unknown[0]!r}; its columns are {known}")
    missing = [name for name in stated.columns if name not in frame.columns]
    required = [name for name in missing if not stated.columns[name].nullable]
    if required:
        raise TableError(f"{place} lacks the column {required[0]!r}, which is not nullable")
    blanks = [pl.lit(None).alias(name) for name in missing]
    try:
        return frame.with_columns(*blanks).select(
            _stored(name, column) for name, column in stated.columns.items()
        )
    except pl.exceptions.PolarsError as error:
        raise TableError(f"{place}: a column has another type than stated: {error}") from error


def _stored(name: str, column: Column) -> pl.Expr:
    value = pl.col(name).cast(column.dtype)
    if column.decimals is None:
        return value
    value = value.round(column.decimals)
    return pl.when(value == 0).then(0.0).otherwise(value).alias(name)  # -0.0 is 0.0 too


def _conditions(name: str, column: Column) -> Iterable[tuple[str, pl.Expr]]:
    value = pl.col(name)
    if not column.nullable:
        yield "is not null", value.is_null()
    if column.dtype == pl.Float64:
        yield "is finite", ~value.is_finite()
    if column.minimum is not None:
        yield f"is at least {column.minimum}", value < column.minimum
    if column.maximum is not None:
        yield f"is at most {column.maximum}", value > column.maximum
    if column.enum is not None:
        yield f"is one of {', '.join(column.enum)}", ~value.is_in(column.enum)
    if column.pattern is not None:
        yield f"matches {column.pattern}", ~value.str.contains(column.pattern)


def _refuse(stated: Schema, rows: pl.DataFrame, where: str, column: str, rule: str) -> None:
    if rows.is_empty():
        return
    shown = stated.columns.keys() if column in ("row", "key") else {*stated.key, column}
    first = "; ".join(str(row) for row in rows.select(*shown).head(3).to_dicts())
    raise TableError(
        f"{where}: table {stated.name}, column {column}: {rule}; "
        f"{rows.height} rows break this, first {first}"
    )


def union(name: str, *frames: pl.DataFrame | None, where: str) -> pl.DataFrame:
    """All rows of several tables of one kind, once each; None is a table that is not there.

    Equal rows are one; one key with two contents raises `TableError`.
    """
    dtypes = schema(name).dtypes
    whole = [_conform(schema(name), frame, where) for frame in frames if frame is not None]
    rows = pl.concat([pl.DataFrame(schema=dtypes), *whole]).unique(maintain_order=True)
    return check(name, rows, where=where)


def keys(name: str, frame: pl.DataFrame) -> pl.Series:
    """Each row's key as one string: the parts of a composite key joined by a space."""
    parts = [pl.col(part).cast(pl.String).fill_null("-") for part in schema(name).key]
    return frame.select(pl.concat_str(parts, separator=" ").alias("key")).to_series()


def references(name: str) -> list[tuple[str, str, str]]:
    """What the rows of a table refer to, as (column, table, that table's column)."""
    columns = schema(name).columns.items()
    return [(c, *spec.references.split(".")) for c, spec in columns if spec.references]  # pyright: ignore[reportReturnType]


# One encoder for all: json.dumps makes another one for each digest, at a third of its cost.
COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def digest(*parts: Any) -> str:
    """20 hexadecimal digits (80 bits) of BLAKE2b over the parts' compact JSON."""
    text = COMPACT.encode(parts)
    return blake2b(text.encode("utf-8"), digest_size=10).hexdigest()


Messages = Sequence[Mapping[str, str]]


def quoted(text: str | None) -> str:
    """A text as compact JSON."""
    return "null" if text is None else encode_basestring(text)


def _turns(conversations: "pl.Series | Iterable[Messages]") -> Iterator[str]:
    """Each conversation as compact JSON, [[role, content], ...]."""
    if not isinstance(conversations, pl.Series):
        for messages in conversations:
            said = (f"[{quoted(turn['role'])},{quoted(turn['content'])}]" for turn in messages)
            yield f"[{','.join(said)}]"
        return
    # A column is read flat: a dict for each message would cost more than its digest.
    turns = conversations.explode(empty_as_null=False, keep_nulls=False).struct.unnest()
    flat = zip(turns["role"].to_list(), turns["content"].to_list(), strict=True)
    for n in conversations.list.len().to_list():
        if n == 1:
            role, content = next(flat)
            yield f"[[{quoted(role)},{quoted(content)}]]"
        else:
            said = (f"[{quoted(role)},{quoted(content)}]" for role, content in islice(flat, n))
            yield f"[{','.join(said)}]"


def _named(name: str, texts: Iterable[str]) -> pl.Series:
    """A column of `digest`s, of parts that are JSON already."""
    ids = [blake2b(text.encode("utf-8"), digest_size=10).hexdigest() for text in texts]
    return pl.Series(name, ids, pl.String)


def prompt_ids(prompts: "pl.Series | Iterable[Messages]") -> pl.Series:
    """The id of each prompt, the `digest` of its messages."""
    return _named("prompt_id", (f'["prompt",{turns}]' for turns in _turns(prompts)))


def completion_ids(
    prompt_id: Iterable[str], completions: "pl.Series | Iterable[Messages]"
) -> pl.Series:
    """The id of each completion, the `digest` of its prompt's id and its messages."""
    both = zip(prompt_id, _turns(completions), strict=True)
    return _named("completion_id", (f'["completion",{quoted(p)},{turns}]' for p, turns in both))


def pair_ids(one: Iterable[str], other: Iterable[str], annotator: str | None = None) -> pl.Series:
    """The id of each pair of completions, in either order, as labelled by an annotator.

    `annotator` None is the aggregate of all.
    """
    who = "null" if annotator is None else quoted(annotator)
    both = (sorted(two) for two in zip(one, other, strict=True))
    return _named("pair_id", (f'["pair",{quoted(a)},{quoted(b)},{who}]' for a, b in both))


# The two that a vote compares, the smaller id first.
SIDES = ["completion_a", "completion_b"]


def with_sides(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with `completion_a`, `completion_b`, as votes on the two have them, and `a_chosen`."""
    a = pl.min_horizontal("chosen_id", "rejected_id")
    b = pl.max_horizontal("chosen_id", "rejected_id")
    return pairs.with_columns(completion_a=a, completion_b=b, a_chosen=pl.col("chosen_id") == a)


def conversations(name: str, turns: Iterable[Messages]) -> pl.Series:
    """A column of conversations; many times faster than polars makes it row by row."""
    whole = list(turns)
    flat = {
        "at": [at for at, messages in enumerate(whole) for _ in messages],
        "role": [message["role"] for messages in whole for message in messages],
        "content": [message["content"] for messages in whole for message in messages],
    }
    types = {"at": pl.Int64, "role": pl.String, "content": pl.String}
    made = pl.DataFrame(flat, types).group_by("at").agg(pl.struct("role", "content").alias(name))
    every = pl.DataFrame({"at": range(len(whole))}, {"at": pl.Int64})
    rows = every.join(made, on="at", how="left", maintain_order="left")
    return rows[name].fill_null(pl.Series([[]], dtype=MESSAGES)).cast(MESSAGES)


def said(role: str, column: str) -> pl.Expr:
    """A text column as a conversation of one message."""
    message = pl.struct(pl.lit(role).alias("role"), pl.col(column).alias("content"))
    return pl.concat_list(message).cast(MESSAGES).alias(column)


def text_of(column: str) -> pl.Expr:
    """All that the messages of a conversation say, a line break between two of them."""
    return pl.col(column).list.eval(pl.element().struct.field("content")).list.join("\n")


def written(messages: Messages, between: str = "\n\n") -> str:
    """A single message as its text; several under the names of their roles."""
    if len(messages) == 1:
        return messages[0]["content"]
    return between.join(f"{turn['role']}: {turn['content']}" for turn in messages)


def plain(
    frame: pl.DataFrame,
    *columns: str,
    where: str,
    instead: str = 'use format = "conversational"',
) -> pl.DataFrame:
    """Conversations of one message each as plain text ("standard" format): the inverse of `said`.

    A column may also hold lists of conversations. A conversation of several messages has no such
    form and raises `TableError`, which says what to do `instead`.
    """
    for column in columns:
        value = pl.col(column)
        if frame.schema[column] == MESSAGES:
            long, text = value.list.len() != 1, value.list.first().struct.field("content")
        else:
            each = pl.element()
            long = value.list.eval(each.list.len() != 1).list.any()
            text = value.list.eval(each.list.first().struct.field("content"))
        several = frame.filter(long)
        if several.height:
            raise TableError(
                f"{where}: {several.height} rows have a {column} of several messages, which plain "
                f"text cannot hold; {instead}. First: {str(several.row(0))[:SHOWN]}"
            )
        frame = frame.with_columns(text.alias(column))
    return frame


def one_estimator(strengths: Strengths, estimator: str | None, *, where: str) -> Strengths:
    """The strengths by `estimator`; None takes the only one there is.

    Raises `RecipeError` for several without a choice, and for one that is not there.
    """
    there = sorted(strengths["estimator"].unique().to_list())
    if estimator is None and len(there) > 1:
        raise RecipeError(
            f"{where}: strengths come from {len(there)} estimators, {', '.join(there)}; say whose, "
            f'as in estimator = "{there[0]}"'
        )
    if estimator is None:
        return strengths
    if there and estimator not in there:
        raise RecipeError(f"{where}: no strengths of {estimator!r}; {nearest(estimator, there)}")
    return Strengths(strengths.filter(pl.col("estimator") == estimator))


def typed(kind: type[Frame] | Any, frame: pl.DataFrame) -> Any:
    """A frame under its table's type, in canonical form; for code that makes tables by hand."""
    return cast(Any, check(kind.__name__.lower(), frame, where=f"a hand-made {kind.__name__}"))
