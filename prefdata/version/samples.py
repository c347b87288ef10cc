"""A few pairs of a version with their texts and votes, from the surest to the least sure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.tables import SIDES, empty
from prefdata.version.stored import Version

Frames = Mapping[str, pl.DataFrame]
ORDER = ("pair_id", "soft_label", "margin")


def sample_pairs(frames: Frames, n: int) -> list[dict[str, Any]]:
    """`n` pairs, evenly spread: their columns, `place`, the conversations `prompt`, `chosen` and
    `rejected`, `rationales`, and `votes`, the rows on the two, each with what it `says`."""

    def read(name: str, *columns: str, where: pl.Expr | None = None) -> pl.DataFrame:
        rows = frames.get(name, empty(name))
        rows = rows if where is None else rows.filter(where)
        return rows.select(columns) if columns else rows

    return _sampled(read, n)


def sample_stored(version: Version, n: int) -> list[dict[str, Any]]:
    """The same of a version on disk, of which no table is held whole."""
    return _sampled(version.table, n)


def _sampled(read: Callable[..., pl.DataFrame], n: int) -> list[dict[str, Any]]:
    order = read("pairs", *ORDER).sort(
        ["soft_label", "margin", "pair_id"], descending=[True, True, False], nulls_last=True
    )
    n = min(n, order.height)
    places = sorted({round(i * (order.height - 1) / max(n - 1, 1)) for i in range(n)})
    ids = order["pair_id"][places].to_list()
    pairs = {row["pair_id"]: row for row in read("pairs", where=_is_in("pair_id", ids)).to_dicts()}
    sides = [row[side] for row in pairs.values() for side in ("chosen_id", "rejected_id")]
    prompt_ids = [row["prompt_id"] for row in pairs.values()]
    prompts = read("prompts", "prompt_id", "prompt", where=_is_in("prompt_id", prompt_ids))
    completions = read(
        "completions", "completion_id", "completion", where=_is_in("completion_id", sides)
    )
    votes = read("votes", where=pl.all_horizontal(_is_in(side, sides) for side in SIDES))
    reasons = read("rationales", where=_is_in("pair_id", ids))
    reasons = reasons.sort("kind", "annotator", "rationale")
    asked, said = dict(prompts.iter_rows()), dict(completions.iter_rows())
    return [
        {
            **row,
            "place": place + 1,
            "prompt": asked.get(row["prompt_id"]),
            "chosen": said.get(row["chosen_id"]),
            "rejected": said.get(row["rejected_id"]),
            "rationales": reasons.filter(pl.col("pair_id") == row["pair_id"]).to_dicts(),
            "votes": _votes(votes, row["chosen_id"], row["rejected_id"]),
        }
        for place, row in zip(places, (pairs[id] for id in ids), strict=True)
    ]


def _is_in(column: str, ids: Sequence[str | None]) -> pl.Expr:
    return pl.col(column).is_in(pl.Series(ids, dtype=pl.String).unique().implode())


def _votes(votes: pl.DataFrame, chosen: str, rejected: str) -> list[dict[str, Any]]:
    a, b = sorted((chosen, rejected))
    mine = votes.filter((pl.col("completion_a") == a) & (pl.col("completion_b") == b))
    side = pl.col("preference") if a == chosen else 1 - pl.col("preference")
    named = says(side, pl.lit("chosen"), pl.lit("rejected"))
    return mine.with_columns(says=named).sort("annotator", "criterion", "draw").to_dicts()


def says(preference: pl.Expr, one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """A vote in a word: which of the two it prefers, "tie", or "unscored"."""
    return (
        pl.when(preference.is_null()).then(pl.lit("unscored")).when(preference > 0.5).then(one)
        .when(preference < 0.5).then(other).otherwise(pl.lit("tie"))
    )  # fmt: skip


def tally(votes: list[dict[str, Any]]) -> dict[str, int]:
    """How the votes on two completions fell; an unscored vote fell nowhere."""
    order = ("chosen", "rejected", "tie", "unscored")
    fell = {name: sum(vote["says"] == name for vote in votes) for name in order}
    return {name: n for name, n in fell.items() if n}


def counted(manifest: Mapping[str, Any], frames: Frames) -> dict[str, int]:
    """The rows of the tables that are there, of which `frames` may hold a sample only."""
    stated: Mapping[str, Mapping[str, int]] = manifest.get("tables", {})
    return {
        name: stated[name]["rows"] if name in stated else frame.height
        for name, frame in frames.items()
    }


def shown(manifest: Mapping[str, Any]) -> str:
    """A sentence on what shares and distributions are of, where it is a sample."""
    sampled: Mapping[str, int] | None = manifest.get("sampled")
    if not sampled:
        return ""
    return (
        f"Rows are counted in full; shares, distributions and examples are of the first "
        f"{sampled['prompts']:,} of {sampled['of']:,} prompts with all that is about them, by "
        "digests of their texts, and so of a random sample."
    )
