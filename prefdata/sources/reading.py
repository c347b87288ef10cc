"""Reading the sources of a recipe: the one loop, and what is known before it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from prefdata.errors import RecipeError, SourceError, nearest
from prefdata.sources import merge
from prefdata.sources.audit import Finding, audit
from prefdata.sources.chunk import Chunk
from prefdata.sources.files import chunks, column_names
from prefdata.sources.labels import FROM
from prefdata.sources.rows import QUARANTINED, Part, part
from prefdata.sources.spec import (
    CompletionSource,
    LabelSource,
    PairSource,
    PromptSource,
    RatingSource,
    Sources,
    SourceSpec,
    VoteSource,
)

MAKES: Mapping[str, tuple[str, ...]] = {
    "prompts": ("prompts",),
    "completions": ("prompts", "completions", "samples"),
    "pairs": ("prompts", "completions", "votes"),
    "votes": ("prompts", "completions", "votes"),
    "ratings": ("prompts", "completions", "ratings"),
}


@dataclass(frozen=True)
class Imported:
    """What the sources held.

    `tables` are checked; `quarantined` has the columns `source, line, reason, row` (the row as
    JSON); `audit` says of every source of labels which way is up; `rows` is each source's number
    of rows, good and bad.
    """

    tables: dict[str, pl.DataFrame]
    quarantined: pl.DataFrame
    audit: list[Finding]
    rows: dict[str, int]


def header(spec: SourceSpec, folder: Path) -> dict[str, str]:
    """The columns that a source has for us, ours to the file's; read cheaply.

    A missing file, a column that is named and not there, or one that is needed and neither named
    nor there is a `RecipeError` with the file, the key and the nearest name.
    """
    asked = {ours: spec.columns.get(ours, ours) for ours in spec.known}
    unfolded = list(spec.unfolded()) if isinstance(spec, LabelSource) else []
    if unfolded and isinstance(spec, LabelSource):
        for ours in ("annotator", spec.label, "unscored", "draw", "rationale"):
            asked.pop(ours, None)
    needed = {theirs for ours, theirs in asked.items() if ours in (*spec.needs, *spec.columns)}
    keys = {f"annotators.{who}": column for who, column, _ in unfolded}
    keys |= {f"annotators.{who}.rationale": why for who, _, why in unfolded if why}
    there = column_names(spec, folder, [*needed, *keys.values()])
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
    found = {ours: theirs for ours, theirs in asked.items() if theirs in there}
    if isinstance(spec, PairSource) and spec.scale is None:
        found = {ours: theirs for ours, theirs in found.items() if "rating" not in ours}
    return found


def resolved(sources: Sources, folder: Path) -> list[SourceSpec]:
    """The sources with their kinds: that of a `hub` source is seen from its columns."""
    return [_kind(spec, folder) if spec.kind == "hub" else spec for spec in sources.specs]


def _kind(spec: SourceSpec, folder: Path) -> SourceSpec:
    there = set(column_names(spec, folder, ())) | spec.columns.keys()
    kinds = (PairSource, VoteSource, RatingSource, CompletionSource, PromptSource)
    for kind in kinds:
        if there.issuperset(kind.needs):
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
    made: dict[str, None] = {}
    for spec in resolved(sources, folder):
        made |= _makes(spec, header(spec, folder))
    return tuple(made)


def _makes(spec: SourceSpec, names: Mapping[str, str]) -> dict[str, None]:
    made = dict.fromkeys(MAKES[spec.kind])
    if any(ours.startswith("generator") for ours in names):
        made["samples"] = None
    if any(ours.startswith("rating_") for ours in names):
        made["ratings"] = None
    return made


def read(
    sources: Sources, folder: Path, *, strict: bool = False, limit: int | None = None
) -> Imported:
    """Read all sources into tables. Paths are relative to `folder`, the recipe's.

    A row that is none of ours is quarantined with its source, line and reason; with `strict` it
    is a `SourceError`. `limit` keeps the first so many prompts, with all that is read about them.
    """
    specs = resolved(sources, folder)
    headers = [header(spec, folder) for spec in specs]
    parts: list[Part] = []
    bad: list[pl.DataFrame] = []
    rows = dict.fromkeys((spec.name for spec in specs), 0)
    kept = pl.DataFrame(schema={"prompt_id": pl.String})
    for at, spec in enumerate(specs):
        for chunk in _limited(chunks(spec, folder, _wanted(spec, headers[at])), spec.limit):
            made, lost = part(spec, at, chunk, _names(spec, headers[at]))
            rows[spec.name] += len(chunk.line) + len(chunk.bad)
            bad.append(_placed(spec, at, lost, strict))
            if limit is not None:
                kept = _first_prompts(kept, made, limit)
                made = made.of(kept)
            parts.append(made)
            if limit is not None and at == 0 and kept.height == limit:
                break
    whole = merge.together(parts) if parts else None
    if whole is None:
        return Imported({}, _quarantine(bad, specs), [], rows)
    disputed = merge.contradictions(whole)
    bad += [_placed(spec, at, _reread(spec, folder, at, headers[at], disputed), strict)
            for at, spec in enumerate(specs) if disputed["at"].eq(at).any()]  # fmt: skip
    whole = merge.without(whole, disputed)
    made_tables: dict[str, None] = {}
    for spec, names in zip(specs, headers, strict=True):
        made_tables |= _makes(spec, names)
    return Imported(
        tables=merge.as_tables(whole, specs, list(made_tables)),
        quarantined=_quarantine(bad, specs),
        audit=audit(whole, specs, headers),
        rows=rows,
    )


def _names(spec: SourceSpec, found: Mapping[str, str]) -> dict[str, str]:
    """The columns to look for: those found, and of rows that may lack them those not seen yet."""
    asked = {ours: spec.columns.get(ours, ours) for ours in spec.known}
    if isinstance(spec, LabelSource) and spec.annotators:
        return dict(found)
    if isinstance(spec, PairSource) and spec.scale is None:
        asked = {ours: theirs for ours, theirs in asked.items() if "rating" not in ours}
    return asked


def _wanted(spec: SourceSpec, found: Mapping[str, str]) -> list[str]:
    names = list(_names(spec, found).values())
    if isinstance(spec, LabelSource):
        names += [name for _, *columns in spec.unfolded() for name in columns if name]
    return list(dict.fromkeys(names))


def _limited(all_chunks: Iterator[Chunk], limit: int | None) -> Iterator[Chunk]:
    """The chunks up to a number of rows."""
    for chunk in all_chunks:
        lines = sorted([*chunk.line, *(line for line, _, _ in chunk.bad)])
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


def _reread(
    spec: SourceSpec, folder: Path, at: int, names: Mapping[str, str], places: pl.DataFrame
) -> pl.DataFrame:
    """The rows at some places as they stand in the source: read again, for there are few."""
    reasons = dict(places.filter(pl.col("at") == at).select("line", "reason").rows())
    found: list[tuple[int, str, str]] = []
    for chunk in chunks(spec, folder, _wanted(spec, names)):
        hits = [i for i, line in enumerate(chunk.line) if line in reasons]
        found += [(chunk.line[i], reasons[chunk.line[i]], chunk.row(i)) for i in hits]
        if len(found) == len(reasons):
            break
    return pl.DataFrame(found, schema=QUARANTINED, orient="row")


def _quarantine(bad: list[pl.DataFrame], specs: list[SourceSpec]) -> pl.DataFrame:
    empty = pl.DataFrame(schema={"at": pl.Int64, **QUARANTINED})
    rows = pl.concat([empty, *bad]).sort(*FROM, maintain_order=True)
    names = pl.Series([spec.name for spec in specs], dtype=pl.String)
    sources = pl.Series("source", [names[at] for at in rows["at"]], pl.String)
    return rows.select(sources, *QUARANTINED)
