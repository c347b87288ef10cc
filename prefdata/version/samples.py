"""A few pairs of a version with their texts and votes, from the surest to the least sure."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from prefdata.tables import empty

Frames = Mapping[str, pl.DataFrame]
READ = ("pairs", "prompts", "completions", "votes", "rationales")


def sample_pairs(frames: Frames, n: int) -> list[dict[str, Any]]:
    """`n` pairs, evenly spread: their columns, `place`, the conversations `prompt`, `chosen` and
    `rejected`, `rationales`, and `votes`, the rows on the two, each with what it `says`."""
    table = {name: frames.get(name, empty(name)) for name in READ}
    pairs = table["pairs"].sort(
        ["soft_label", "margin", "pair_id"], descending=[True, True, False], nulls_last=True
    )
    n = min(n, pairs.height)
    places = sorted({round(i * (pairs.height - 1) / max(n - 1, 1)) for i in range(n)})
    chosen = pairs[places]
    prompts = table["prompts"].join(chosen, on="prompt_id", how="semi")
    sides = pl.concat([chosen["chosen_id"], chosen["rejected_id"]]).unique().implode()
    completions = table["completions"].filter(pl.col("completion_id").is_in(sides))
    asked = dict(prompts.select("prompt_id", "prompt").iter_rows())
    said = dict(completions.select("completion_id", "completion").iter_rows())
    votes = table["votes"].filter(
        pl.col("completion_a").is_in(sides) & pl.col("completion_b").is_in(sides)
    )
    reasons = table["rationales"].sort("kind", "annotator", "rationale")
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
        for place, row in zip(places, chosen.to_dicts(), strict=True)
    ]


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
