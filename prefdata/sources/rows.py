"""One chunk of a source as rows of our tables, and the rows that are no rows of theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import polars as pl

from prefdata.sources.chunk import Cells, Chunk
from prefdata.sources.columns import settle, texts
from prefdata.sources.conversations import disordered, shared_prompts, shared_text
from prefdata.sources.kinds import LabelSource, PairSource, VoteSource
from prefdata.sources.labels import FROM, ranks_of, ratings_of, samples_of, votes_of
from prefdata.sources.spec import ABOUT_PROMPT, CONVERSATIONS, SourceSpec
from prefdata.tables import completion_ids, conversations, prompt_ids, said, schema
from prefdata.tool_calls import offering

SIDES: Mapping[str, Sequence[str]] = {
    "prompts": (),
    "completions": ("completion",),
    "pairs": ("chosen", "rejected"),
    "votes": ("completion_a", "completion_b"),
    "ratings": ("completion",),
    "rankings": ("completion",),
}


@dataclass
class Part:
    """What a chunk holds: each frame has `prompt_id`, and its rows' place as `at` and `line`.

    `at` numbers the sources. `prompts` and `completions` have the texts, each once and without a
    place; `facts` is what each row says of its prompt (`implicit`: that its sides begin with it),
    `uses` which completions it holds.
    """

    prompts: pl.DataFrame
    facts: pl.DataFrame
    completions: pl.DataFrame
    uses: pl.DataFrame
    samples: pl.DataFrame
    votes: pl.DataFrame
    ratings: pl.DataFrame
    rankings: pl.DataFrame

    @classmethod
    def kinds(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    def frames(self) -> dict[str, pl.DataFrame]:
        return {kind: getattr(self, kind) for kind in self.kinds()}

    def of(self, kept: pl.DataFrame) -> "Part":
        """Only what belongs to some prompts."""
        frames = self.frames().values()
        return Part(*(frame.join(kept, on="prompt_id", how="semi") for frame in frames))


def part(
    spec: SourceSpec, at: int, chunk: Chunk, names: Mapping[str, str]
) -> tuple[Part, pl.DataFrame]:
    """The rows of a chunk and its bad rows (line, reason, row); `names` are ours to the file's."""
    frame = _settled(spec, chunk, names)
    frame = _refused(spec, frame)
    bad = [_quarantined(chunk, frame)]
    good = frame.filter(pl.col("wrong").is_null()).drop("wrong")
    good = _identified(good, SIDES[spec.kind]).with_columns(at=pl.lit(at, pl.Int64))
    labels = good
    if isinstance(spec, LabelSource) and spec.from_unfolding:
        labels, lost = _unfolded(spec, chunk, good)
        bad.append(_quarantined(chunk, lost))
    sides = SIDES[spec.kind]
    made = Part(
        prompts=good.select("prompt_id", "prompt").unique("prompt_id"),
        facts=_facts(good),
        completions=_stacked(good, sides, "completion").unique("completion_id"),
        uses=_stacked(good, sides, *FROM),
        samples=samples_of(spec, good, sides),
        votes=votes_of(spec, labels),
        ratings=ratings_of(spec, labels),
        rankings=ranks_of(spec, good),
    )
    undecoded = pl.DataFrame(chunk.bad, schema=QUARANTINED, orient="row")
    return made, pl.concat([undecoded, *bad])


QUARANTINED = {"line": pl.Int64, "reason": pl.String, "row": pl.String}


def _quarantined(chunk: Chunk, frame: pl.DataFrame) -> pl.DataFrame:
    wrong: list[tuple[int, str]]
    wrong = frame.filter(pl.col("wrong").is_not_null()).select("i", "wrong").rows()
    rows = [(chunk.line[i], reason, chunk.row(i)) for i, reason in wrong]
    return pl.DataFrame(rows, schema=QUARANTINED, orient="row")


def _settled(spec: SourceSpec, chunk: Chunk, names: Mapping[str, str]) -> pl.DataFrame:
    """The chunk under our names and in our types, and `wrong`: the first reason of each row."""
    columns: dict[str, pl.Series] = {}
    wrong: list[pl.Series] = []
    for ours, theirs in names.items():
        cells = chunk.columns.get(theirs)
        if cells is not None and (ours in spec.needs or not _empty(cells)):
            values = spec.values.get(ours, {})
            made = settle(ours, cells, values, text=chunk.text, scale=spec.bounds)
            columns[ours] = made.value
            wrong.append(made.wrong)
            if ours in (getattr(spec, "label", None),):
                columns |= _as_given(ours, cells, made.unscored, translated=bool(values))
    frame = pl.DataFrame({"i": range(len(chunk.line)), "line": chunk.line, **columns})
    reasons = pl.DataFrame([series.alias(str(n)) for n, series in enumerate(wrong)])
    first = reasons.select(pl.coalesce(pl.all())).to_series() if wrong else None
    blank = pl.lit(None, pl.String) if first is None else first
    return frame.cast({"i": pl.Int64, "line": pl.Int64}).with_columns(blank.alias("wrong"))


def _empty(cells: Cells) -> bool:
    """Whether no row has a value: a key that this chunk's rows do not have, mostly."""
    return (cells.null_count() if isinstance(cells, pl.Series) else cells.count(None)) == len(cells)


def _as_given(
    label: str, cells: Cells, unscored: pl.Series, *, translated: bool
) -> dict[str, pl.Series]:
    """Why a translated label is none, and how it stood in the file."""
    extra = {"translated_unscored": unscored}
    if translated:
        extra["given"] = texts(cells).value
    return extra


def _refused(spec: SourceSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with `wrong` filled for every row that is no row of its kind."""
    sides = SIDES[spec.kind]
    label = getattr(spec, "label", "")
    needed = [name for name in spec.needs if name in frame.columns and name != label]
    frame = _wrong(frame, {f"{name} is missing": pl.col(name).is_null() for name in needed})
    if label in frame.columns:
        frame = _labelled(frame, label)
    if len(sides) == 2:
        one, other = sides
        equal = pl.col(one) == pl.col(other)
        frame = _wrong(frame, {f"{one} equals {other}": equal})
    if isinstance(spec, PairSource | VoteSource):
        frame = _with_prompts(spec, frame)
    if "tools" in frame.columns:
        frame = _offering(frame)
    last = pl.col("prompt").list.last().struct.field("content")
    frame = _wrong(frame, {"prompt is blank": ~last.str.contains(r"\S")})
    for name in ("prompt", *sides):
        order = disordered(name, asks=CONVERSATIONS[name] == "user")
        spoken = pl.col("wrong").is_null()
        frame = frame.with_columns(pl.when(spoken).then(order).otherwise("wrong").alias("wrong"))
    return frame


def _wrong(frame: pl.DataFrame, rules: Mapping[str, pl.Expr]) -> pl.DataFrame:
    reasons = [pl.when(broken).then(pl.lit(reason)) for reason, broken in rules.items()]
    return frame.with_columns(pl.coalesce("wrong", *reasons).alias("wrong")) if reasons else frame


def _labelled(frame: pl.DataFrame, label: str) -> pl.DataFrame:
    """The label's reason for being none, from the file or from the translation of its values."""
    if "unscored" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("unscored"))
    frame = frame.with_columns(pl.coalesce("unscored", "translated_unscored").alias("unscored"))
    value, why = pl.col(label), pl.col("unscored")
    return _wrong(
        frame,
        {
            f"{label} is missing": value.is_null() & why.is_null(),
            f"there is a {label}, and a reason for none": value.is_not_null() & why.is_not_null(),
        },
    )


def _with_prompts(spec: PairSource | VoteSource, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows whose sides hold the whole conversation, parted into prompt and completions."""
    sides = SIDES[spec.kind]
    if "prompt" not in frame.columns:
        empty = pl.lit(None, schema("prompts").dtypes["prompt"])
        frame = frame.with_columns(empty.alias("prompt"))
    if "prompt" in spec.columns:
        frame = _wrong(frame, {"prompt is missing": pl.col("prompt").is_null()})
    frame = frame.with_columns(implicit=pl.col("prompt").is_null())
    begins = pl.col(sides[0]).list.first().struct.field("role")
    whole = pl.col("prompt").is_null() | (begins != "assistant")
    todo = frame.filter(pl.col("wrong").is_null() & whole)
    if not todo.is_empty():
        plain = pl.all_horizontal(
            (pl.col(side).list.len() == 1)
            & (pl.col(side).list.first().struct.field("role") == "assistant")
            for side in sides
        )
        of_texts = _parted_texts if isinstance(spec, PairSource) else _without_prompt
        new = [of_texts(todo.filter(plain), sides), _parted_turns(todo.filter(~plain), sides)]
        frame = frame.update(pl.concat(new), on="i", how="left")
    if isinstance(spec, PairSource) and spec.first_turn:
        speaks = (pl.element().struct.field("role") == "user").cast(pl.Int8)
        ends = [pl.col(side).list.eval(speaks).list.arg_max() for side in sides]
        again = [pl.col(side).list.eval(speaks).list.max() == 1 for side in sides]
        frame = frame.with_columns(
            pl.when(goes_on).then(pl.col(side).list.head(end)).otherwise(side).alias(side)
            for side, end, goes_on in zip(sides, ends, again, strict=True)
        )
    return frame


def _offering(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows with tools, whose prompt offers them."""
    both = pl.col("tools").is_not_null() & pl.col("prompt").is_not_null()
    todo = frame.filter(both)
    turns = zip(todo["prompt"].to_list(), todo["tools"], strict=True)
    offers = conversations("prompt", [offering(prompt, tools) for prompt, tools in turns])
    return frame.update(todo.select("i", offers), on="i", how="left")


NO_PROMPT = "prompt is missing, and {} and {} do not begin with one"


def _parted_texts(rows: pl.DataFrame, sides: Sequence[str]) -> pl.DataFrame:
    """Plain texts, parted where they stop being the same."""
    said_by = (rows[side].list.first().struct.field("content") for side in sides)
    parted = [shared_text(*both) for both in zip(*said_by, strict=True)]
    names = ("prompt", *sides)
    texts_ = pl.DataFrame(parted, schema=dict.fromkeys(names, pl.String), orient="row")
    spoken = [
        pl.when(pl.col(name).is_not_null()).then(said(CONVERSATIONS[name], name)).alias(name)
        for name in names
    ]
    wrong = pl.when(pl.col("prompt").is_null()).then(pl.lit(NO_PROMPT.format(*sides)))
    return texts_.select(rows["i"], *spoken, wrong.alias("wrong"))


def _without_prompt(rows: pl.DataFrame, sides: Sequence[str]) -> pl.DataFrame:
    """Plain texts that were voted on: what they share is not what both were asked."""
    return rows.select("i", "prompt", *sides, pl.lit("prompt is missing").alias("wrong"))


def _parted_turns(rows: pl.DataFrame, sides: Sequence[str]) -> pl.DataFrame:
    """Messages; a prompt that is given must be what the messages in common end with."""
    n = shared_prompts(*(rows[side] for side in sides)).alias("n")
    shared = pl.col(sides[0]).list.head("n")
    ends = shared.list.tail(pl.col("prompt").list.len()) == pl.col("prompt")
    other = f"{sides[0]} begins with other messages than the prompt"
    return rows.with_columns(n).select(
        "i",
        shared.alias("prompt"),
        *(pl.col(side).list.slice("n").alias(side) for side in sides),
        pl.when(pl.col("n") == 0).then(pl.lit(NO_PROMPT.format(*sides)))
        .when(~ends).then(pl.lit(other)).alias("wrong"),
    )  # fmt: skip


def _identified(frame: pl.DataFrame, sides: Sequence[str]) -> pl.DataFrame:
    """The frame with the ids of its prompts and completions.

    A text that repeats is digested again, which costs less than finding out.
    """
    frame = frame.with_columns(prompt_ids(frame["prompt"]))
    return frame.with_columns(
        completion_ids(frame["prompt_id"], frame[side]).alias(f"{side}_id") for side in sides
    )


def _facts(good: pl.DataFrame) -> pl.DataFrame:
    dtypes = schema("prompts").dtypes
    known = (pl.col(n) if n in good.columns else pl.lit(None, dtypes[n]).alias(n)
             for n in ABOUT_PROMPT)  # fmt: skip
    implicit = pl.col("implicit") if "implicit" in good.columns else pl.lit(False)
    return good.select("prompt_id", *FROM, *known, implicit.alias("implicit"))


def _stacked(good: pl.DataFrame, sides: Sequence[str], *columns: str) -> pl.DataFrame:
    """The sides under each other, with their ids and the columns asked for."""
    dtypes = {**schema("completions").dtypes, "at": pl.Int64(), "line": pl.Int64()}
    empty = {name: dtypes[name] for name in ("prompt_id", "completion_id", *columns)}
    frames = [
        good.select(
            "prompt_id",
            pl.col(f"{side}_id").alias("completion_id"),
            *(pl.col(side if name == "completion" else name).alias(name) for name in columns),
        )
        for side in sides
    ]
    return pl.concat([pl.DataFrame(schema=empty), *frames])


def _unfolded(
    spec: LabelSource, chunk: Chunk, good: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A row a label from a file with a column each, and the wrong ones (i, wrong)."""
    frames: list[pl.DataFrame] = []
    for named in spec.unfolded():
        names = {spec.label: named.column}
        names |= {"rationale": named.rationale} if named.rationale else {}
        frame = _labelled(_settled(spec, chunk, names), spec.label)
        empty = pl.col("wrong").str.ends_with("is missing")
        own = {"annotator": named.annotator} if named.annotator else {"criterion": named.criterion}
        frames.append(
            frame.filter(~empty.fill_null(False))
            .drop("line")
            .with_columns(
                *(pl.lit(name).alias(what) for what, name in own.items()),
                pl.format("{}: {}", pl.lit(named.column), "wrong").alias("wrong"),
            )
        )
    long = pl.concat(frames, how="diagonal").join(good.select("i"), on="i", how="semi")
    none = good.select("i").join(long, on="i", how="anti")
    columns = ", ".join(named.column for named in spec.unfolded())
    lost = pl.concat(
        [
            long.select("i", "wrong").filter(pl.col("wrong").is_not_null()),
            none.with_columns(pl.lit(f"no {spec.label} in any of {columns}").alias("wrong")),
        ]
    )
    rest = [name for name in good.columns if name not in long.columns or name == "i"]
    kept = long.filter(pl.col("wrong").is_null()).drop("wrong")
    return kept.join(good.select(rest), on="i", how="inner"), lost
