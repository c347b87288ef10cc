"""The labels of a chunk as votes and ratings, and the draws that gave its completions."""

from collections.abc import Sequence

import polars as pl

from prefdata.sources.kinds import (
    CompletionSource,
    LabelSource,
    PairSource,
    RankingSource,
    RatingSource,
    VoteSource,
)
from prefdata.sources.spec import KNOWN_ANNOTATOR, SourceSpec
from prefdata.tables import schema

# Where a row stands: the number of its source, and its line there.
FROM = ["at", "line"]
RANKED = ("prompt_id", "annotator", "criterion", "draw")


def _optional(frame: pl.DataFrame, table: str, **names: str) -> list[pl.Expr]:
    """Columns of a table, from the frame's columns of that name where they are there."""
    dtypes = schema(table).dtypes
    return [
        pl.col(name).cast(dtypes[ours]).alias(ours)
        if name in frame.columns
        else pl.lit(None, dtypes[ours]).alias(ours)
        for ours, name in names.items()
    ]


def samples_of(spec: SourceSpec, good: pl.DataFrame, sides: Sequence[str]) -> pl.DataFrame:
    """The draws that gave the completions, where it is known what produced them."""
    frames: list[pl.DataFrame] = []
    stated = spec.generator or spec.name if isinstance(spec, CompletionSource) else None
    drawn = {"draw": "draw", "finish_reason": "finish_reason"} if stated else {}
    for side in sides:
        column = side.replace("completion", "generator") if spec.kind != "pairs" else (
            f"generator_{side}"
        )  # fmt: skip
        frames.append(
            good.select(
                pl.col(f"{side}_id").alias("completion_id"),
                *_optional(good, "samples", generator=column),
                "prompt_id",
                *FROM,
                *_optional(good, "samples", **({"draw": "-", "finish_reason": "-"} | drawn)),
            )
            .with_columns(pl.col("generator").fill_null(pl.lit(stated, pl.String)))
            .filter(pl.col("generator").is_not_null())
        )
    dtypes = schema("samples").dtypes
    names = ("completion_id", "generator", "prompt_id", *FROM, "draw", "finish_reason")
    empty = pl.DataFrame(schema={name: dtypes.get(name, pl.Int64()) for name in names})
    return pl.concat([empty, *frames])


def _who(spec: LabelSource, frame: pl.DataFrame) -> list[pl.Expr]:
    """Annotator and criterion; an annotator of no kind is a human."""
    if "annotator" in frame.columns:
        name = pl.col("annotator")
        kind = name.str.contains(KNOWN_ANNOTATOR.pattern)
        human = pl.when(kind).then(name).otherwise(pl.format("human:{}", name))
        annotator = human.fill_null(spec.who)
    else:
        annotator = pl.lit(spec.who)
    what = pl.lit(spec.criterion)
    criterion = pl.col("criterion").fill_null(what) if "criterion" in frame.columns else what
    return [annotator.alias("annotator"), criterion.alias("criterion")]


def votes_of(spec: SourceSpec, rows: pl.DataFrame) -> pl.DataFrame:
    dtypes = schema("votes").dtypes
    if not isinstance(spec, PairSource | VoteSource):
        return pl.DataFrame(schema={**dtypes, "at": pl.Int64, "line": pl.Int64})
    if isinstance(spec, PairSource):
        names = {"chosen_id": "completion_a_id", "rejected_id": "completion_b_id"}
        rows = rows.rename(names).with_columns(preference=pl.lit(1.0))
        first = "chosen_first"
    else:
        first = "a_first"
    a, b, preference = pl.col("completion_a_id"), pl.col("completion_b_id"), pl.col("preference")
    shown = _optional(rows, "votes", a_first=first)[0]
    turned = a > b
    turned_votes = rows.select(
        pl.when(turned).then(b).otherwise(a).alias("completion_a"),
        pl.when(turned).then(a).otherwise(b).alias("completion_b"),
        *_who(spec, rows),
        *_optional(rows, "votes", draw="draw"),
        pl.when(turned).then(~shown).otherwise(shown).alias("a_first"),
        "prompt_id",
        # Rounded, so that a pair given the other way round is the same vote: 1 - 0.7 is not 0.3.
        pl.when(turned).then((1 - preference).round(12)).otherwise(preference).alias("preference"),
        *_told(rows, "votes"),
        *_optional(rows, "votes", unscored="unscored", request_id="-"),
        *FROM,
    )
    return turned_votes.select(*dtypes, *FROM)


def _told(rows: pl.DataFrame, table: str) -> list[pl.Expr]:
    """The rationale; of an unscored label, failing that, what stood in its place."""
    rationale = _optional(rows, table, rationale="rationale")[0]
    if "given" not in rows.columns:
        return [rationale]
    reply = pl.when(pl.col("unscored").is_not_null()).then("given")
    return [pl.coalesce(rationale, reply).alias("rationale")]


def ratings_of(spec: SourceSpec, rows: pl.DataFrame) -> pl.DataFrame:
    dtypes = schema("ratings").dtypes
    frames = [pl.DataFrame(schema={**dtypes, "at": pl.Int64, "line": pl.Int64})]
    if isinstance(spec, RatingSource):
        frames.append(_rated(spec, rows, "completion_id", "rating"))
    elif isinstance(spec, PairSource) and spec.scale is not None:
        for side in ("chosen", "rejected"):
            if f"rating_{side}" in rows.columns:
                some = rows.filter(pl.col(f"rating_{side}").is_not_null())
                frames.append(_rated(spec, some, f"{side}_id", f"rating_{side}"))
    return pl.concat(frames)


def _rated(
    spec: RatingSource | PairSource, rows: pl.DataFrame, side: str, label: str
) -> pl.DataFrame:
    low, high = spec.bounds
    stood = pl.col(label)
    share = (stood - low) / (high - low)
    whole = (stood == stood.floor()) & (stood.abs() < 2**53)
    number = pl.when(whole).then(stood.cast(pl.Int64, strict=False).cast(pl.String))
    raw = number.otherwise(stood.cast(pl.String))
    single = label == "rating"
    rated = rows.select(
        pl.col(side).alias("completion_id"),
        *_who(spec, rows),
        *_optional(rows, "ratings", draw="draw" if single else "-"),
        "prompt_id",
        (share if spec.higher_is_better else 1 - share).alias("rating"),
        (pl.coalesce("given", raw) if single and "given" in rows.columns else raw).alias("raw"),
        *(_told(rows, "ratings") if single else _optional(rows, "ratings", rationale="-")),
        *_optional(rows, "ratings", unscored="unscored" if single else "-", request_id="-"),
        *FROM,
    )
    return rated.select(*schema("ratings").dtypes, *FROM)


def ranks_of(spec: SourceSpec, rows: pl.DataFrame) -> pl.DataFrame:
    """Each completion's rank; `place` tells apart what the file itself keeps apart."""
    known = {name: schema("rankings").dtypes[name] for name in RANKED}
    dtypes = {**known, "completion_id": pl.String(), "rank": pl.Int64(), "place": pl.Int64()}
    if not isinstance(spec, RankingSource):
        return pl.DataFrame(schema={**dtypes, "at": pl.Int64, "line": pl.Int64})
    apart = bool(spec.each or (spec.tree and spec.tree.root))
    return rows.select(
        "prompt_id",
        *_who(spec, rows),
        *_optional(rows, "rankings", draw="draw"),
        "completion_id",
        "rank",
        pl.col("line" if apart else "at").alias("place"),
        *FROM,
    )
