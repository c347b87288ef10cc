"""Reading the sources of a recipe: the one loop, and what is known before it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from prefdata.disk.shards import Shards, shard_of
from prefdata.disk.spill import Spill
from prefdata.errors import RecipeError, SourceError, nearest
from prefdata.sources import merge
from prefdata.sources.audit import Finding, Tally, empty, findings, held, tally
from prefdata.sources.chunk import Chunk
from prefdata.sources.files import chunks, column_names, lines, locate, principles
from prefdata.sources.files import size as file_size
from prefdata.sources.kinds import KINDS, LabelSource, PairSource, Sources
from prefdata.sources.labels import FROM
from prefdata.sources.layout import load
from prefdata.sources.rows import QUARANTINED, Part, part
from prefdata.sources.spec import SourceSpec
from prefdata.tables import TABLES
from prefdata.tables import empty as empty_table

MAKES: Mapping[str, tuple[str, ...]] = {
    "prompts": ("prompts",),
    "completions": ("prompts", "completions", "samples"),
    "pairs": ("prompts", "completions", "votes"),
    "votes": ("prompts", "completions", "votes"),
    "ratings": ("prompts", "completions", "ratings"),
    "rankings": ("prompts", "completions", "rankings"),
}


@dataclass(frozen=True)
class Imported:
    """What the sources held.

    `tables` are checked; `quarantined` has the columns `source, line, reason, row` (the row as
    JSON); `audit` says of every source of labels which way is up; `rows` is each source's number
    of rows, good and bad. Where only the first rows were to be read, these are about a `share` of
    all.
    """

    tables: dict[str, pl.DataFrame]
    quarantined: pl.DataFrame
    audit: list[Finding]
    rows: dict[str, int]
    share: float = 1.0


def header(spec: SourceSpec, folder: Path) -> dict[str, str]:
    """The columns that a source has for us, ours to the file's; read cheaply.

    A source without any column is a `SourceError`. A missing file, a column that is named and not
    there, or one that is needed and neither named nor there is a `RecipeError` with the file, the
    key and the nearest name.
    """
    asked = _asked(spec)
    unfolded = list(spec.unfolded()) if isinstance(spec, LabelSource) else []
    needed = {theirs for ours, theirs in asked.items() if ours in (*spec.needs, *spec.columns)}
    own = {f"annotators.{n.annotator}" if n.annotator else f"criteria.{n.criterion}": n
           for n in unfolded}  # fmt: skip
    keys = {key: named.column for key, named in own.items()}
    keys |= {f"{key}.rationale": named.rationale for key, named in own.items() if named.rationale}
    there = column_names(spec, folder, [*needed, *keys.values()])
    if not there:
        raise SourceError(f"{spec.where}: {_nothing(spec, folder)}")
    for ours, theirs in asked.items():
        if ours in spec.columns:
            keys[f"columns.{ours}"] = theirs
    for key, theirs in keys.items():
        if theirs not in there:
            raise RecipeError(
                f"{spec.where}: {key} names the column {theirs!r}, which the file does not have; "
                + nearest(theirs, there)
            )
    for ours in spec.needs:
        if ours in asked and asked[ours] not in there:
            raise RecipeError(
                f"{spec.where} lacks the column {ours!r}; {nearest(ours, there)} "
                f'Give it as columns.{ours} = "..."'
            )
    return {ours: theirs for ours, theirs in asked.items() if theirs in there}


def _nothing(spec: SourceSpec, folder: Path) -> str:
    """Why a source has no columns."""
    first = next(chunks(spec, folder, ()))
    if first.bad:
        line, reason, _ = min(first.bad)
        return f"none of its first rows can be read, that in line {line} because of: {reason}"
    if first.line:
        return "its rows have no keys"
    path, _ = locate(spec, folder)
    return f"{path} is empty: it has no row and names no column"


def _asked(spec: SourceSpec) -> dict[str, str]:
    """Every column that a row of the source may have for us, ours to the file's."""
    without: tuple[str, ...] = ()
    if isinstance(spec, LabelSource) and spec.from_unfolding:
        without = spec.from_unfolding
    elif isinstance(spec, PairSource) and spec.scale is None:
        without = ("rating_chosen", "rating_rejected")
    known = [ours for ours in spec.known if ours not in without]
    return {ours: spec.columns.get(ours, ours) for ours in known}


def resolved(sources: Sources, folder: Path) -> list[SourceSpec]:
    """The sources with their kinds: that of a `hub` source is seen from its columns."""
    return [_kind(spec, folder) if spec.kind == "hub" else spec for spec in sources.specs]


def _kind(spec: SourceSpec, folder: Path) -> SourceSpec:
    of_layout = load(spec.layout)["kind"] if spec.layout else ""
    there: set[str] = set()
    if not of_layout:
        there = {*column_names(spec, folder, ()), *spec.columns}
    for kind in KINDS.values():
        if kind.kind == of_layout or there.issuperset(kind.needs):
            try:
                return kind.model_validate(spec.model_dump(exclude_unset=True))
            except ValidationError as error:
                why = error.errors()[0]["msg"]
                raise RecipeError(
                    f"{spec.where} holds {kind.kind}; give it as sources.{kind.kind} = "
                    f"{{hub = {spec.hub!r}, ...}}: {why}"
                ) from error
    raise RecipeError(
        f"{spec.where} has the columns {', '.join(sorted(there))}: neither prompts nor labels. "
        "Give it as sources.prompts (or pairs, votes, ...) with a columns table"
    )


def tables_made(sources: Sources, folder: Path) -> tuple[str, ...]:
    """The tables that the sources fill, known from the columns alone."""
    specs = resolved(sources, folder)
    ruled = any(principles(spec, folder) for spec in specs)
    return _made(specs, [header(spec, folder) for spec in specs], ruled)


def size(sources: Sources, folder: Path, limit: int | None = None) -> int:
    """The bytes of the sources, before they are read; with a limit about those of its share."""
    return file_size(sources.specs, folder, limit)


def _made(
    specs: Sequence[SourceSpec], headers: Sequence[Mapping[str, str]], ruled: bool
) -> tuple[str, ...]:
    made: set[str] = {"principles"} if ruled else set()
    for spec, names in zip(specs, headers, strict=True):
        made.update(MAKES[spec.kind])
        if any(ours.startswith("generator") for ours in names):
            made.add("samples")
        if any(ours.startswith("rating_") for ours in names):
            made.add("ratings")
    return tuple(name for name in TABLES if name in made)


def read(
    sources: Sources,
    folder: Path,
    *,
    strict: bool = False,
    limit: int | None = None,
    first: int | None = None,
) -> Imported:
    """Read all sources into tables. Paths are relative to `folder`, the recipe's.

    A row that is none of ours is quarantined with its source, line and reason; with `strict` it
    is a `SourceError`. `limit` keeps the first so many prompts, with all that is read about them:
    the first source is read until it has given them, the others whole. `first` reads no more rows
    of any source, which a plan is content with.
    """
    reading = _Reading(resolved(sources, folder), folder, strict, first)
    parts = list(reading.parts(limit))
    reading.refuse()
    if not parts:
        return reading.imported({name: empty_table(name) for name in reading.tables})
    mixed = merge.mixed(map(merge.said_how, parts))
    tables, disputed = reading.finished(merge.together(parts), mixed)
    reading.set_aside(disputed)
    return reading.imported(tables)


def read_into(
    shards: Shards,
    sources: Sources,
    folder: Path,
    *,
    strict: bool = False,
    limit: int | None = None,
    tell: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Imported:
    """`read` into shards, of which one at a time is in memory; the tables are there, not returned.

    `tell` hears how many rows are read ("rows", of 0: nobody knows of how many), and of how many
    shards the tables are made ("shards").
    """
    reading = _Reading(resolved(sources, folder), folder, strict)
    spill, said = Spill(shards.folder / "import"), [merge.SAID_HOW]
    tell("rows", 0, 0)
    for each in reading.parts(limit):
        said.append(merge.said_how(each))
        for kind, frame in each.frames().items():
            spill.add(
                kind, frame, frame.select(shard_of(pl.col("prompt_id"), shards.n))["prompt_id"]
            )
        tell("rows", sum(reading.rows.values()), 0)
    reading.refuse()
    shards.put(
        shards.common, {"principles": reading.rules} if "principles" in reading.tables else {}
    )
    mixed, disputed = merge.mixed(said), [merge.NO_PLACES]
    tell("shards", 0, shards.n)
    for at in range(shards.n):
        if len(said) > 1:
            whole = Part(**{kind: spill.take(kind, at) for kind in Part.kinds()})
            tables, lost = reading.finished(merge.together([whole]), mixed)
            disputed.append(lost)
        else:
            tables = {name: empty_table(name) for name in reading.tables}
        shards.put(at, {name: frame for name, frame in tables.items() if name != "principles"})
        tell("shards", at + 1, shards.n)
    reading.set_aside(pl.concat(disputed))
    return reading.imported({})


class _Reading:
    """Sources that are read, and what is known of them so far: rows, those set aside, the audit."""

    def __init__(
        self, specs: list[SourceSpec], folder: Path, strict: bool, first: int | None = None
    ) -> None:
        self._specs, self._folder, self._strict, self._first = specs, folder, strict, first
        self._headers = [header(spec, folder) for spec in specs]
        self.rules = merge.principles([row for spec in specs for row in principles(spec, folder)])
        self.tables = _made(specs, self._headers, not self.rules.is_empty())
        self.rows = dict.fromkeys((spec.name for spec in specs), 0)
        self._last = [0] * len(specs)
        self._bad: list[pl.DataFrame] = []
        self._broken: list[Finding] = []
        self._told: Tally | None = None

    def parts(self, limit: int | None) -> Iterator[Part]:
        """What the chunks of all sources hold."""
        for at, chunk, made, lost in _parts(self._specs, self._folder, limit, self._first):
            spec = self._specs[at]
            places = {*chunk.line, *(line for line, _, _ in chunk.bad)}
            self.rows[spec.name] += len(places)
            self._last[at] = max([self._last[at], *places])
            self._bad.append(_placed(spec, at, lost, self._strict))
            yield made

    def refuse(self) -> None:
        """`SourceError` for a source of which what should hold does not, once all is read."""
        self._broken = held(self._specs, _quarantine(self._bad, self._specs), self.rows)

    def finished(
        self, whole: Part, mixed: pl.DataFrame
    ) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
        """The tables of a part in which every prompt is whole, and the places that are disputed."""
        disputed = merge.contradictions(whole, mixed)
        whole = merge.without(whole, disputed)
        self._told = self._told or Tally()
        self._told.add(tally(whole, self._specs))
        return merge.as_tables(whole, self.rules, self._specs, self.tables), disputed

    def set_aside(self, disputed: pl.DataFrame) -> None:
        """Quarantine what stands at disputed places."""
        numbers: list[int] = disputed["at"].unique().sort().to_list()
        for at in numbers:
            lost = _reread(self._specs[at], self._folder, disputed.filter(pl.col("at") == at))
            self._bad.append(_placed(self._specs[at], at, lost, self._strict))

    def imported(self, tables: dict[str, pl.DataFrame]) -> Imported:
        told = self._told
        found = [*findings(told, self._specs, self._headers), *self._broken] if told else []
        bad = _quarantine(self._bad, self._specs)
        return Imported(tables, bad, [*found, *empty(self.rows)], self.rows, self._share())

    def _share(self) -> float:
        """About which share of the sources' lines was read."""
        if self._first is None:
            return 1.0
        every = 0
        for spec, last in zip(self._specs, self._last, strict=True):
            if self.rows[spec.name] < self._first:  # there are no more, or no more are wanted
                every += last
            else:
                n = lines(spec, self._folder, self._first)
                every += max(last, min(n, spec.limit or n))
        return sum(self._last) / max(1, every)


def _parts(
    specs: Sequence[SourceSpec], folder: Path, limit: int | None, first: int | None
) -> Iterator[tuple[int, Chunk, Part, pl.DataFrame]]:
    """The chunks of all sources, with their number, and read as rows good and bad."""
    kept = pl.DataFrame(schema={"prompt_id": pl.String})
    for at, spec in enumerate(specs):
        bounds = [bound for bound in (spec.limit, first) if bound is not None]
        for chunk in _limited(chunks(spec, folder, _wanted(spec)), min(bounds, default=None)):
            made, lost = part(spec, at, chunk, _asked(spec))
            if limit is not None:
                kept = _first_prompts(kept, made, limit)
                made = made.of(kept)
            yield at, chunk, made, lost
            if at == 0 and kept.height == limit:
                break


def _wanted(spec: SourceSpec) -> list[str]:
    """The file's columns that are read."""
    names = list(_asked(spec).values())
    if isinstance(spec, LabelSource):
        names += [name for named in spec.unfolded() for name in named[:2] if name]
    return list(dict.fromkeys(names))


def _limited(all_chunks: Iterator[Chunk], limit: int | None) -> Iterator[Chunk]:
    """The chunks up to a number of rows."""
    for chunk in all_chunks:
        lines = sorted({*chunk.line, *(line for line, _, _ in chunk.bad)})
        if limit is None or len(lines) < limit:
            limit = None if limit is None else limit - len(lines)
            yield chunk
            continue
        last = lines[limit - 1]
        n = sum(line <= last for line in chunk.line)
        columns: dict[str, Any] = {name: cells[:n] for name, cells in chunk.columns.items()}
        bad = [each for each in chunk.bad if each[0] <= last]
        yield Chunk(chunk.line[:n], columns, chunk.row, bad, chunk.text)
        return


def _first_prompts(kept: pl.DataFrame, made: Part, limit: int) -> pl.DataFrame:
    new = made.facts.sort("line").select("prompt_id").unique(maintain_order=True)
    return pl.concat(
        [kept, new.join(kept, on="prompt_id", how="anti", maintain_order="left")]
    ).head(limit)


def _placed(spec: SourceSpec, at: int, bad: pl.DataFrame, strict: bool) -> pl.DataFrame:
    """Bad rows with their source's number; with `strict` the first is an error."""
    if strict and bad.height:
        line, reason, row = bad.sort("line").row(0)
        raise SourceError(
            f"{spec.where}, line {line}: {reason}. The row is {row[:200]}. Without strict it is "
            "left out and kept in quarantine"
        )
    return bad.select(pl.lit(at, pl.Int64).alias("at"), *QUARANTINED)


def _reread(spec: SourceSpec, folder: Path, places: pl.DataFrame) -> pl.DataFrame:
    """The rows at some places as they stand in the source: read again, for there are few."""
    reasons: dict[int, str] = dict(places.select("line", "reason").rows())
    found: dict[int, tuple[int, str, str]] = {}
    for chunk in chunks(spec, folder, _wanted(spec)):
        hits = {line: i for i, line in enumerate(chunk.line) if line in reasons}
        found |= {line: (line, reasons[line], chunk.row(i)) for line, i in hits.items()}
        if len(found) == len(reasons):
            break
    return pl.DataFrame(list(found.values()), schema=QUARANTINED, orient="row")


def _quarantine(bad: list[pl.DataFrame], specs: list[SourceSpec]) -> pl.DataFrame:
    empty = pl.DataFrame(schema={"at": pl.Int64, **QUARANTINED})
    rows = pl.concat([empty, *bad]).sort(*FROM, maintain_order=True)
    names = pl.Series([spec.name for spec in specs], dtype=pl.String)
    sources = pl.Series("source", [names[at] for at in rows["at"]], pl.String)
    return rows.select(sources, *QUARANTINED)
