"""The contract of a stage: what its signature reads and writes, and how it asks a model.

A stage is a function whose file bears its name. Its positional parameters are tables, its
keyword-only parameters are options. It returns one table or a tuple of tables. If it needs a model
it is a generator: it yields `Requests`, is sent their `Responses`, and returns.

    def pairwise(prompts: Prompts, completions: Completions, *,
                 judge: Judge, model: Model) -> Asks[Votes]: ...
"""

import inspect
import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.tables import Requests, Responses, digest

# Wants for which a model writes, and the options that say how it does.
WRITTEN = ("text", "choice")
SAMPLING = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop")
DIGITS = 20  # of an id that is a digest

Made = TypeVar("Made")
Asks = Generator[Requests, Responses, Made]
Ask = Callable[[Requests], Responses]
Stage = Callable[..., Any]
# How a stage that needs all prompts does without having all rows at once; see `drive_parts`.
Parts = Generator[Callable[..., pl.DataFrame], pl.DataFrame, Callable[..., Made]]


@dataclass(frozen=True)
class Model:
    """A model as a stage sees it.

    `role` is its name in the recipe, by which a request finds its client; `label` names it in
    `annotator` and `generator`; `identity` is what is served, with its revision or the digest of
    its weights; `options` are those that change an answer (temperature, max_tokens, seed, ...), as
    the recipe has them; `defaults` are options that hold where neither the recipe nor who asks
    says anything.
    """

    role: str
    label: str = ""
    identity: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def name(self) -> str:
        return self.label or self.role


@dataclass(frozen=True)
class PlugIn:
    """A function of the user's as an option: `name` is `module:function`, as the recipe has it."""

    name: str
    function: Callable[..., Any]


def requests(
    model: Model,
    want: str,
    messages: pl.Series,
    *,
    draw: pl.Series | int = 0,
    completion: pl.Series | None = None,
    options: Mapping[str, Any] | None = None,
) -> Requests:
    """One request a row, in the order of `messages`; equal requests share their id.

    `options` go over the model's own, of which `SAMPLING` counts only where something is written.
    A model with a `seed` gets another one for each draw. The id is a digest of the model's
    identity, `want`, messages, given completion, options and draw, and of nothing that leaves the
    answer as it is. Send `unique(requests)` and join by `request_id`.
    """
    own = {**model.defaults, **model.options}
    if want not in WRITTEN:
        own = {name: value for name, value in own.items() if name not in SAMPLING}
    chosen = {**own, **(options or {})}
    draws = [draw] * len(messages) if isinstance(draw, int) else draw.to_list()
    given: list[Any] = [None] * len(messages) if completion is None else completion.to_list()
    ids: list[str] = []
    written: dict[int, str] = {}
    for turns, answer, index in zip(messages.to_list(), given, draws, strict=True):
        if index not in written:
            seeded = {"seed": chosen["seed"] + index} if chosen.get("seed") is not None else {}
            # Only the top level is sorted: the order of a schema's properties changes the answer.
            written[index] = json.dumps(dict(sorted({**chosen, **seeded}.items())))
        ids.append(request_id(model.identity, want, turns, answer, written[index], index))
    columns = {
        "request_id": pl.Series(ids, dtype=pl.String),
        "model": pl.repeat(model.role, len(ids), dtype=pl.String, eager=True),
        "want": pl.repeat(want, len(ids), dtype=pl.String, eager=True),
        "messages": messages.cast(tables.MESSAGES),
        "completion": pl.Series(given, dtype=tables.MESSAGES) if completion is None else completion,
        "options": pl.Series([written[index] for index in draws], dtype=pl.String),
        "draw": pl.Series(draws, dtype=pl.Int64),
    }
    return Requests(pl.DataFrame(columns))


def request_id(
    identity: str, want: str, messages: Any, completion: Any, options: str, draw: int
) -> str:
    """The id of a request: a digest of everything that changes its answer."""
    return digest("request", identity, want, messages, completion, options, draw)


def together(asks: Sequence[Asks[Made]]) -> Asks[list[Made]]:
    """Run several generators at once: each round is one table with what all of them ask."""
    made: dict[int, Made] = {}
    answers: dict[int, Responses | None] = dict.fromkeys(range(len(asks)))
    while answers:
        wanted: dict[int, Requests] = {}
        for at, heard in answers.items():
            try:
                wanted[at] = next(asks[at]) if heard is None else asks[at].send(heard)
            except StopIteration as stop:
                made[at] = stop.value
        if not wanted:
            break
        responses = yield Requests(pl.concat(wanted.values()))
        answers = {
            at: Responses(responses.join(each.select("request_id"), on="request_id", how="semi"))
            for at, each in wanted.items()
        }
    return [made[at] for at in range(len(asks))]


def drive(asks: Any, ask: Ask) -> Any:
    """Run a stage to its end, answering what it asks.

    A stage that asks nothing has already returned its tables, and these are passed on.
    """
    if not isinstance(asks, Generator):
        return asks
    running = cast(Asks[Any], asks)
    try:
        wanted = next(running)
        while True:
            wanted = running.send(_answered(wanted, ask))
    except StopIteration as stop:
        return stop.value


def drive_parts(
    steps: Parts[Made], shards: Callable[[], Iterable[Sequence[pl.DataFrame | None]]]
) -> Iterator[Made]:
    """What a stage makes of each shard, by the generator `in_parts` of its file.

    It yields functions of one shard's tables (those of the stage's signature, in order) to a narrow
    frame, and is sent what one made of all shards, under each other. What it returns is a function
    of a shard's tables to what the stage makes of them. `shards` is called once for each function.
    """
    try:
        each = next(steps)
        while True:
            each = steps.send(pl.concat([each(*tables_) for tables_ in shards()], rechunk=False))
    except StopIteration as stop:
        last: Callable[..., Made] = stop.value
    return (last(*tables_) for tables_ in shards())


def whole(steps: Parts[Made], *tables_: pl.DataFrame | None) -> Made:
    """What `in_parts` makes of all rows as one shard."""
    return next(drive_parts(steps, lambda: [tables_]))


def keys(ids: pl.Series) -> pl.Series:
    """Ids as numbers of 64 bits: the first 16 digits of a digest, in its order, and of any other
    name those of its digest."""
    number = pl.col("id").str.head(16).str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    is_digest = pl.col("id").str.len_bytes() == DIGITS
    rows = pl.DataFrame({"id": ids}).with_columns(key=pl.when(is_digest).then(number))
    others = rows.filter(pl.col("key").is_null())["id"].drop_nulls().unique()
    if not others.is_empty():
        named = pl.Series([int(digest(each)[:16], 16) for each in others], dtype=pl.UInt64)
        own = pl.col("id").replace_strict(others, named, default=None, return_dtype=pl.UInt64)
        rows = rows.with_columns(key=pl.coalesce("key", own))
    return rows["key"]


def _answered(wanted: Requests, ask: Ask) -> Responses:
    """The answers to a table of requests: one row for each of its ids, in the order of the ids."""
    unique = Requests(wanted.unique("request_id", maintain_order=True))
    if unique.is_empty():
        return Responses(tables.empty("responses"))
    answers = tables.check("responses", ask(unique), where="the answers of a model")
    lost = unique.join(answers, on="request_id", how="anti")
    if lost.height or answers.height != unique.height:
        raise TableError(
            f"{unique.height} requests got {answers.height} responses, {lost.height} of them none; "
            "a client answers every request once, with an error where it has no answer"
        )
    return Responses(answers)


def _nothing(parts: Mapping[str, tables.Rows]) -> Mapping[str, str]:
    return {}


def _same(rows: tables.Rows) -> tables.Rows:
    return rows


@dataclass(frozen=True)
class Saving:
    """How the rows of an export are saved beside their Arrow folder, as its file says.

    `SAVED_AS = "jsonl"` (or "parquet") also writes a file a split; `PARTED_BY = "stage"` parts the
    training split by a column into splits `<column>_<value>`; `beside(parts)`, of the rows by
    split, gives further files, name to text; `held_out(rows)` is what a split other than `train`
    has of its rows, where what is made for training has no place in a test.
    """

    saved_as: str = ""
    parted_by: str = ""
    beside: Callable[[Mapping[str, tables.Rows]], Mapping[str, str]] = _nothing
    held_out: Callable[[tables.Rows], tables.Rows] = _same


def saving(stage: Stage) -> Saving:
    """How an export's file says that it is saved."""
    module = sys.modules[stage.__module__]
    return Saving(
        getattr(module, "SAVED_AS", ""),
        getattr(module, "PARTED_BY", ""),
        getattr(module, "beside", _nothing),
        getattr(module, "held_out", _same),
    )


@dataclass(frozen=True)
class Contract:
    """What a stage's signature says: the tables it reads and writes, and its options."""

    reads: tuple[str, ...]
    reads_if_there: tuple[str, ...]
    writes: tuple[str, ...]
    options: Mapping[str, inspect.Parameter]
    asks: bool
    needs_all: bool

    @property
    def sees(self) -> tuple[str, ...]:
        """Every table that the stage is given where it is there."""
        return (*self.reads, *self.reads_if_there)


def contract(stage: Stage) -> Contract:
    """Read a stage's signature; `RecipeError` if it is not one.

    `SCOPE = "all"` in the stage's file says that it must see every prompt at once.
    """
    hints = get_type_hints(stage)
    reads: list[str] = []
    optional: list[str] = []
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(stage).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            options[name] = parameter.replace(annotation=hints[name])
        else:
            table = _table(stage, hints.get(name))
            if parameter.default is inspect.Parameter.empty:
                reads.append(table)
            else:
                optional.append(table)
    returned = hints.get("return")
    asks = get_origin(returned) is Generator
    made = get_args(returned)[2] if asks else returned
    many = get_args(made) if get_origin(made) is tuple else (made,)
    writes = tuple(_table(stage, each) for each in many)
    scope = getattr(sys.modules[stage.__module__], "SCOPE", "prompt")
    return Contract(tuple(reads), tuple(optional), writes, options, asks, scope == "all")


def _table(stage: Stage, hint: Any) -> str:
    """The name of the table that a type hint, possibly `X | None`, stands for."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    name = getattr(kinds[0], "__name__", str(kinds[0])).lower()
    if len(kinds) == 1 and name in (*tables.TABLES, "rows"):
        return name
    raise RecipeError(
        f"{stage.__module__}.{stage.__qualname__} is not a stage: its positional parameters and "
        f"what it returns are tables ({', '.join(tables.TABLES)}), but it has {hint}"
    )
