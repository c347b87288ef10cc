"""What is checked, in parts of some thousand rows: a version, a file, a folder or a Hub dataset.

TRL's dataset types *preference*, with an explicit or implicit prompt, and *unpaired preference*
are read, in the standard and in the conversational format.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl

from prefdata.check.reading import frames_of, together
from prefdata.check.versions import BIN, paired
from prefdata.errors import SourceError
from prefdata.select._near import plain
from prefdata.sources.conversations import conversations, shared_prompts, shared_text
from prefdata.tables import MESSAGES
from prefdata.version import Version, find
from prefdata.version.stored import MANIFEST, NAME, at_path

Kind = Literal["preference", "unpaired_preference"]
SIDES = ("chosen", "rejected")
TEXTS = ("prompt", *SIDES)
# Columns of datasets that say how good the two sides are, each with what we call it.
SCORES: Mapping[str, str] = {
    "score_chosen": "score_chosen", "chosen_score": "score_chosen", "chosen_rating": "score_chosen",
    "score_rejected": "score_rejected", "rejected_score": "score_rejected",
    "rejected_rating": "score_rejected", "margin": "margin", "soft_label": "soft_label",
}  # fmt: skip
READ = {*TEXTS, "completion", "label", "group", "split", "place"}
WANTED = "prompt, chosen, rejected; chosen, rejected; or prompt, completion, label"
PART = 20_000


@dataclass(frozen=True)
class Data:
    """A part of the rows. `rows` has of each its number `row`, `place`, `split`, `group`, the
    conversations `prompt`, `chosen` and `rejected`, their texts `prompt_text` ... (null where there
    is none), these made `plain` as `prompt_plain` ..., `cut` (whether a side was cut off when it
    was written) and the scores in `SCORES`, as they came.

    Of unpaired preferences a desirable completion is `chosen`, an undesirable one `rejected`.
    """

    rows: pl.DataFrame

    @cached_property
    def paired(self) -> pl.DataFrame:
        """The rows that have both sides."""
        return self.rows.filter(pl.col("chosen").is_not_null() & pl.col("rejected").is_not_null())

    @cached_property
    def completions(self) -> pl.DataFrame:
        """Every completion, the sides of a row apart: `row, place, split, side, cut, prompt_plain,
        text, plain`."""
        sides = [
            self.rows.filter(pl.col(f"{side}_text").is_not_null()).select(
                "row",
                pl.format("{}, {}", "place", pl.lit(side)).alias("place"),
                "split",
                pl.lit(side).alias("side"),
                "cut",
                "prompt_plain",
                pl.col(f"{side}_text").alias("text"),
                pl.col(f"{side}_plain").alias("plain"),
            )
            for side in SIDES
        ]
        return pl.concat(sides)


@dataclass(frozen=True)
class Whole:
    """All rows, read in parts of `part` rows as often as `parts` is called; what is found in them
    does not depend on `part`.

    `raw` are the rows with `row` (their number), `split` and `place`; `made` makes those of `Data`
    of them. `columns` are those of `raw` in their types, and `kept` is what `raw` is read from, if
    it goes when nobody wants it.
    """

    name: str
    kind: Kind
    standard: bool
    raw: pl.LazyFrame
    made: Callable[[pl.DataFrame], pl.DataFrame]
    splits: tuple[str, ...]
    columns: Mapping[str, pl.DataType]
    part: int = PART
    kept: Any = None

    def parts(self) -> Iterator[Data]:
        for frame in self._frames(self.raw):
            yield Data(self.made(frame))

    def at(self, rows: pl.Series | Sequence[int]) -> pl.DataFrame:
        """The rows of some numbers, in their order."""
        wanted = pl.Series(rows, dtype=pl.UInt32).unique().sort()
        if wanted.is_empty():
            return self.made(self.raw.head(0).collect())
        is_wanted = pl.col("row").is_in(wanted.implode())
        found: list[pl.DataFrame] = []
        # as in `parts`: behind a filter or a head, polars reads ahead and holds what it read
        for frame in self._frames(self.raw):
            found.append(_compact(frame.filter(is_wanted)))
            if frame["row"][-1] >= wanted[-1]:
                break
        return self.made(pl.concat(found))

    def _frames(self, raw: pl.LazyFrame) -> Iterator[pl.DataFrame]:
        try:
            yield from raw.collect_batches(chunk_size=self.part, maintain_order=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self.name} cannot be read: {error}") from error


def _compact(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without the texts of those beside which they were read, which views keep alive."""
    table = cast(Any, rows).to_arrow(compat_level=pl.CompatLevel.oldest())
    return cast(pl.DataFrame, pl.from_arrow(table, schema=rows.schema))


def read(target: str, data: Path | str | None = None) -> Whole:
    """What `target` names: a path that is there, else a version, else a dataset of the Hub.

    `SourceError` where it is none of these or has no columns that TRL's trainers take.
    """
    path = Path(target).expanduser()
    if (path / MANIFEST).is_file():
        return of_version(at_path(path))
    if not path.exists() and NAME.fullmatch(target.partition("@")[0]):
        return of_version(find(data, target))
    return of_frames(target, frames_of(target))


def of_version(version: Version, bin_bytes: int = BIN) -> Whole:
    """The pairs of a version or, where it has none, the rows of its first view that is of a type
    that can be checked."""
    if "pairs" not in version.manifest["tables"]:
        for view, shape in version.manifest["exports"].items():
            if _type(shape["columns"]):
                return of_frames(version.ref, frames_of(str(version.path / view)))
        raise SourceError(f"{version.ref} has neither pairs nor a view with {WANTED}")
    rows, splits, kept = paired(version, bin_bytes)
    columns = rows.collect_schema()
    return Whole(
        version.ref, "preference", False, rows, _with_texts, tuple(splits), columns, kept=kept
    )


def of_frames(name: str, frames: Mapping[str, pl.DataFrame | pl.LazyFrame]) -> Whole:
    """Rows by split, as a file or a dataset of the Hub has them."""
    named = [
        frame.lazy()
        .with_row_index("at")
        .with_columns(split=pl.lit(split), place=pl.format("{} row {}", pl.lit(split), "at"))
        for split, frame in frames.items()
    ]
    whole = together(f"the splits of {name}", named)
    there = whole.collect_schema()
    kind = _type(there)
    if kind is None:
        own = [column for column in there if column not in ("at", "split", "place")]
        raise SourceError(f"{name} has the columns {', '.join(own)}; TRL's trainers want {WANTED}")
    if kind == "unpaired_preference" and there["label"] != pl.Boolean:
        raise SourceError(f"{name}: the column label is {there['label']}; TRL wants booleans")
    names: dict[str, str] = {new: old for old, new in SCORES.items() if old in there}
    names |= {new: new for new in names if new in there}
    kept: list[str | pl.Expr] = [column for column in there if column in READ]
    kept += [pl.col(old).alias(new) for new, old in names.items()]
    raw = whole.select(kept).with_row_index("row")
    sides = SIDES if kind == "preference" else ("completion",)
    standard = all(there[side] == pl.String for side in sides)
    # as TRL does: a prompt in another format than the two sides is taken out of these
    mixed = "prompt" in there and (there["prompt"] == pl.String) != standard
    implicit = kind == "preference" and ("prompt" not in there or mixed)

    def made(rows: pl.DataFrame) -> pl.DataFrame:
        return _made(rows if kind == "preference" else _by_label(rows), standard, implicit)

    return Whole(name, kind, standard, raw, made, tuple(sorted(frames)), raw.collect_schema())


def _made(sides: pl.DataFrame, standard: bool, implicit: bool) -> pl.DataFrame:
    """The rows of `Data` from those of a file that has the two sides."""
    read = [
        _conversations(sides[side], "user" if side == "prompt" else "assistant").alias(side)
        for side in TEXTS
        if side in sides.columns
    ]
    made = sides.with_columns(read)
    if implicit:
        made = _implicit_texts(sides) if standard else _implicit(made)
    group = pl.col("group") if "group" in made.columns else pl.lit(None)
    return _with_texts(made.with_columns(group=group.cast(pl.String), cut=pl.lit(False)))


def _conversations(cells: pl.Series, role: str) -> pl.Series:
    """A column of texts or messages as messages; null where it is none."""
    if cells.dtype != MESSAGES:
        return conversations(cells, role).value
    turn = pl.element().struct
    is_bad = (turn.field("role").is_null() | turn.field("content").is_null()).any()
    wrong = pl.col("said").list.eval(is_bad).list.first().fill_null(True)
    return (
        pl.DataFrame({"said": cells}).select(pl.when(~wrong).then("said").alias("said"))
    ).to_series()


def _type(columns: Any) -> Kind | None:
    there = set(columns)
    if {"chosen", "rejected"} <= there:
        return "preference"
    return "unpaired_preference" if {"prompt", "completion", "label"} <= there else None


def _by_label(rows: pl.DataFrame) -> pl.DataFrame:
    is_good, said = pl.col("label"), pl.col("completion")
    return rows.with_columns(
        chosen=pl.when(is_good).then(said), rejected=pl.when(~is_good).then(said)
    )


def _implicit(rows: pl.DataFrame) -> pl.DataFrame:
    n = shared_prompts(rows["chosen"], rows["rejected"])
    rows = rows.with_columns(n.alias("n"))
    parts = [pl.col(side).list.slice(pl.col("n")).alias(side) for side in SIDES]
    return rows.with_columns(*parts, prompt=pl.col("chosen").list.head(pl.col("n"))).drop("n")


def _implicit_texts(rows: pl.DataFrame) -> pl.DataFrame:
    both = rows.select("chosen", "rejected").fill_null("").rows()
    parted = [shared_text(chosen, rejected) for chosen, rejected in both]
    columns = {
        "prompt": pl.Series([each.prompt or "" for each in parted], dtype=pl.String),
        "chosen": pl.Series([each.chosen for each in parted], dtype=pl.String),
        "rejected": pl.Series([each.rejected for each in parted], dtype=pl.String),
    }
    roles = {"prompt": "user"}
    return rows.with_columns(
        conversations(texts, roles.get(side, "assistant")).value.alias(side)
        for side, texts in columns.items()
    )


def _with_texts(rows: pl.DataFrame) -> pl.DataFrame:
    content = pl.element().struct.field("content")
    texts = rows.with_columns(
        pl.col(side).cast(MESSAGES).list.eval(content).list.join("\n").alias(f"{side}_text")
        for side in TEXTS
    )
    return texts.with_columns(plain(texts[f"{side}_text"]).alias(f"{side}_plain") for side in TEXTS)


def number(name: str) -> pl.Expr:
    """A column as numbers, whatever a file has it as; null where it is none."""
    return pl.col(name).cast(pl.Float64, strict=False)
