"""What is checked, as one frame: a version, a file, a folder or a dataset of the Hub.

TRL's dataset types *preference*, with an explicit or implicit prompt, and *unpaired preference*
are read, in the standard and in the conversational format.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl

from prefdata.errors import SourceError
from prefdata.sources.arrow_rows import as_objects
from prefdata.sources.conversations import conversations, shared_prompts, shared_text
from prefdata.tables import MESSAGES, with_sides
from prefdata.version import Version, arrow, find
from prefdata.version.splits import prompt_splits
from prefdata.version.stored import MANIFEST, NAME, at_path

Kind = Literal["preference", "unpaired_preference"]
TEXTS = ("prompt", "chosen", "rejected")
# Columns of datasets that say how good the two sides are, each with what we call it.
SCORES: Mapping[str, str] = {
    "score_chosen": "score_chosen", "chosen_score": "score_chosen", "chosen_rating": "score_chosen",
    "score_rejected": "score_rejected", "rejected_score": "score_rejected",
    "rejected_rating": "score_rejected", "margin": "margin", "soft_label": "soft_label",
}  # fmt: skip
READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    "jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    "ndjson": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    "json": lambda path: pl.read_json(path, infer_schema_length=None),
    "csv": lambda path: pl.read_csv(path, infer_schema_length=None),
    "parquet": pl.read_parquet,
    "arrow": pl.read_ipc_stream,
}
HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.-]+)?")
WANTED = "prompt, chosen, rejected; chosen, rejected; or prompt, completion, label"


@dataclass(frozen=True)
class Data:
    """`rows` has a row each: `place`, `split`, `group`, the conversations `prompt`, `chosen` and
    `rejected`, their texts `prompt_text` ... (null where there is none), these made `plain` as
    `prompt_plain` ..., `cut` (whether a side was cut off when it was written) and the scores in
    `SCORES`, as they came.

    Of unpaired preferences a desirable completion is `chosen`, an undesirable one `rejected`.
    """

    name: str
    kind: Kind
    standard: bool
    rows: pl.DataFrame

    @property
    def paired(self) -> pl.DataFrame:
        """The rows that have both sides."""
        return self.rows.filter(pl.col("chosen").is_not_null() & pl.col("rejected").is_not_null())

    @property
    def completions(self) -> pl.DataFrame:
        """Every completion, the sides of a row apart: `place, split, side, prompt_plain, text,
        plain`."""
        sides = [
            self.rows.filter(pl.col(f"{side}_text").is_not_null()).select(
                pl.format("{}, {}", "place", pl.lit(side)).alias("place"),
                "split",
                pl.lit(side).alias("side"),
                "prompt_plain",
                pl.col(f"{side}_text").alias("text"),
                pl.col(f"{side}_plain").alias("plain"),
            )
            for side in ("chosen", "rejected")
        ]
        return pl.concat(sides)


def read(target: str, data: Path | str | None = None) -> Data:
    """What `target` names: a path that is there, else a version, else a dataset of the Hub.

    `SourceError` where it is none of these or has no columns that TRL's trainers take.
    """
    path = Path(target).expanduser()
    if (path / MANIFEST).is_file():
        return of_version(at_path(path))
    if not path.exists() and NAME.fullmatch(target.partition("@")[0]):
        return of_version(find(data, target))
    return of_frames(target, frames_of(target))


def frames_of(target: str) -> dict[str, pl.DataFrame]:
    """The rows by split of a file, a folder or a dataset of the Hub, whatever columns it has."""
    path = Path(target).expanduser()
    if path.is_file():
        return {"train": _file(path)}
    if path.is_dir():
        return _folder(path)
    if HUB.fullmatch(target):
        return _hub(target)
    raise SourceError(
        f"{target!r} is neither a file, a folder nor a version, and no name of a Hub dataset "
        "(org/name or org/name:config)"
    )


def _file(path: Path) -> pl.DataFrame:
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in READERS:
        raise SourceError(f"{path}: .{suffix} cannot be read; there is {', '.join(READERS)}")
    try:
        return READERS[suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _folder(path: Path) -> dict[str, pl.DataFrame]:
    """A `save_to_disk` of a DatasetDict or Dataset, or data files named by their split."""
    if (path / "dataset_dict.json").is_file():
        return {split: arrow.read(path, split) for split in arrow.splits(path)}
    files = sorted(each for each in path.rglob("*") if each.suffix.lstrip(".") in READERS)
    if (path / "dataset_info.json").is_file():
        return {"train": pl.concat([_file(each) for each in files if each.suffix == ".arrow"])}
    found: dict[str, list[pl.DataFrame]] = {}
    for each in files:
        if each.name not in ("dataset_info.json", "state.json"):
            split = re.split(r"[-_.]", each.name)[0]
            found.setdefault(split, []).append(_file(each))
    if not found:
        raise SourceError(f"{path} has no data files; there can be {', '.join(READERS)}")
    return {
        split: _together(f"the files of {split} in {path}", parts) for split, parts in found.items()
    }


def _together(what: str, frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Frames under each other, which may have columns that others have not."""
    try:
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"{what} are no one dataset, since a column has another type there: {error}; give the "
            "files one by one"
        ) from error


def _hub(target: str) -> dict[str, pl.DataFrame]:
    import datasets

    name, _, config = target.partition(":")
    try:
        loaded: Any = datasets.load_dataset(name, config or None)
    except Exception as error:
        # datasets raises whatever its file systems do
        raise SourceError(f"the Hub's dataset {target!r} cannot be loaded: {error}") from error
    frames: dict[str, pl.DataFrame] = {}
    for split, part in loaded.items():
        rows = part.with_format("arrow")[:]
        frame = cast(pl.DataFrame, pl.from_arrow(rows))
        objects = pl.DataFrame(as_objects(rows), infer_schema_length=None, strict=False)
        frames[str(split)] = frame.with_columns(objects.get_columns())
    return frames


def of_version(version: Version) -> Data:
    """The pairs of a version or, where it has none, the rows of its first view that is of a type
    that can be checked."""
    pairs = version.table("pairs")
    if pairs.is_empty():
        for view, shape in version.manifest["exports"].items():
            if _type(shape["columns"]):
                frames = {split: version.rows(view, split) for split in shape["splits"]}
                return of_frames(version.ref, frames)
        raise SourceError(f"{version.ref} has neither pairs nor a view with {WANTED}")
    prompts, completions = version.table("prompts"), version.table("completions")
    frames = {"prompts": prompts, "completions": completions, "pairs": pairs}
    splits = prompt_splits(frames, version.manifest["splits"], version.manifest["seed"])
    cut = version.table("samples").filter(pl.col("finish_reason") == "length")["completion_id"]
    about = prompts.select("prompt_id", "prompt", "group").join(splits, on="prompt_id")
    rows = pairs.drop("split").join(about, on="prompt_id", how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("split").fill_null("train"))
    for side in ("chosen", "rejected"):
        text = completions.select(
            pl.col("completion_id").alias(f"{side}_id"), pl.col("completion").alias(side)
        )
        rows = rows.join(text, on=f"{side}_id", how="left", maintain_order="left")
    rows = rows.join(_vote_shares(version), on="pair_id", how="left", maintain_order="left")
    is_cut = [pl.col(f"{side}_id").is_in(cut.implode()) for side in ("chosen", "rejected")]
    rows = rows.with_columns(cut=pl.any_horizontal(is_cut), place=pl.format("pair {}", "pair_id"))
    return Data(version.ref, "preference", False, _with_texts(rows))


def _vote_shares(version: Version) -> pl.DataFrame:
    """Of each pair that was voted on, how far the votes on its two sides are for the chosen one."""
    sides = ["completion_a", "completion_b"]
    pairs = with_sides(version.table("pairs")).select("pair_id", "a_chosen", *sides)
    votes = version.table("votes").select(*sides, "preference").drop_nulls("preference")
    said = pairs.join(votes, on=sides)
    toward = pl.when("a_chosen").then("preference").otherwise(1 - pl.col("preference"))
    return said.group_by("pair_id").agg(vote_share=toward.mean())


def of_frames(name: str, frames: Mapping[str, pl.DataFrame]) -> Data:
    """Rows by split, as a file or a dataset of the Hub has them."""
    named = [
        frame.with_row_index("at").with_columns(
            split=pl.lit(split), place=pl.format("{} row {}", pl.lit(split), "at")
        )
        for split, frame in frames.items()
    ]
    whole = _together(f"the splits of {name}", named)
    kind = _type(whole.columns)
    if kind is None:
        there = dict.fromkeys(column for frame in frames.values() for column in frame.columns)
        raise SourceError(
            f"{name} has the columns {', '.join(there)}; TRL's trainers want {WANTED}"
        )
    sides = whole if kind == "preference" else _by_label(name, whole)
    standard = all(sides.schema[side] == pl.String for side in ("chosen", "rejected"))
    read = {
        side: conversations(sides[side], "user" if side == "prompt" else "assistant")
        for side in TEXTS
        if side in sides.columns
    }
    made = sides.with_columns(each.value.alias(side) for side, each in read.items())
    mixed = "prompt" in read and (sides.schema["prompt"] == pl.String) != standard
    if kind == "preference" and ("prompt" not in read or mixed):
        # as TRL does: a prompt in another format than the two sides is taken out of these
        made = _implicit_texts(sides) if standard else _implicit(made)
    rows = made.rename(
        {old: new for old, new in SCORES.items() if old in made.columns and new not in made.columns}
    )
    if "group" not in rows.columns:
        rows = rows.with_columns(group=pl.lit(None))
    rows = rows.with_columns(pl.col("group").cast(pl.String), cut=pl.lit(False))
    return Data(name, kind, standard, _with_texts(rows))


def _type(columns: Any) -> Kind | None:
    there = set(columns)
    if {"chosen", "rejected"} <= there:
        return "preference"
    return "unpaired_preference" if {"prompt", "completion", "label"} <= there else None


def _by_label(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    if rows.schema["label"] != pl.Boolean:
        raise SourceError(f"{name}: the column label is {rows.schema['label']}; TRL wants booleans")
    is_good, said = pl.col("label"), pl.col("completion")
    return rows.with_columns(
        chosen=pl.when(is_good).then(said), rejected=pl.when(~is_good).then(said)
    )


def _implicit(rows: pl.DataFrame) -> pl.DataFrame:
    n = shared_prompts(rows["chosen"], rows["rejected"])
    rows = rows.with_columns(n.alias("n"))
    parts = [pl.col(side).list.slice(pl.col("n")).alias(side) for side in ("chosen", "rejected")]
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
    return texts.with_columns(plain(f"{side}_text").alias(f"{side}_plain") for side in TEXTS)


def number(name: str) -> pl.Expr:
    """A column as numbers, whatever a file has it as; null where it is none."""
    return pl.col(name).cast(pl.Float64, strict=False)


def plain(text: str | pl.Expr) -> pl.Expr:
    """A text without what no reader sees or minds: case, spacing, forms of one letter."""
    said = pl.col(text) if isinstance(text, str) else text
    said = said.str.normalize("NFKC").str.replace_all(r"\p{Cf}+", "").str.to_lowercase()
    return said.str.replace_all(r"\s{2,}|[^\S ]", " ").str.strip_chars()
