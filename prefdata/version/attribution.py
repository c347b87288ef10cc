"""Why single pairs differ between two versions: what of each pair changed, by what was changed.

The reason of a pair is the first of these that holds, from the source downwards: its prompt is in
one version only; one of its completions is; a stage dropped it in the other; the votes on it are
others, and whose; the strengths of its completions are; and else only how pairs are made. Behind a
reason stand those differences of recipe, judges, models and sources that can have led to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from prefdata.tables import SIDES, with_sides
from prefdata.version.stored import Version

Change = Literal["added", "removed", "flipped", "moved"]
FIRST = 3  # examples of a group

# For every reason, the prefixes of what can have led to it (see `behind`).
LED_BY: Mapping[str, tuple[str, ...]] = {
    "prompt": ("limit", "source", "stages.generate"),
    "completion": ("limit", "source", "model", "stages.generate"),
    "dropped": ("stages.{stage}", "model", "judge"),
    "votes": ("limit", "source", "judge", "model", "stages.annotate"),
    "strengths": ("limit", "source", "judge", "model", "stages.aggregate", "stages.estimate"),
    "making": ("stages.pair", "stages.select", "stages.order", "stages.route", "stages", "splits"),
}


@dataclass(frozen=True)
class Reason:
    """Pairs that changed in one way for one reason; `of` names stage or annotators, if any."""

    change: Change
    reason: str
    of: str
    n: int
    first: tuple[str, ...]
    behind: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = SENTENCES[self.reason].format(of=self.of)
        led = f", because of {', '.join(self.behind)}" if self.behind else ""
        return f"{self.change} {self.n:,}: {said}{led}"


SENTENCES = {
    "prompt": "the prompt is in one version only",
    "completion": "a completion is in one version only",
    "dropped": "dropped in the other version by {of}",
    "votes": "other votes by {of}",
    "strengths": "the same votes, but other strengths",
    "making": "the same votes and strengths, but pairs are made or kept in another way",
}


def reasons(
    a: Version, b: Version, changed: Mapping[Change, pl.DataFrame]
) -> list[tuple[Change, str, str, pl.Series]]:
    """The pairs of each change by reason, as (change, reason, of, pair ids), the most first.

    `changed` holds rows of `pairs`.
    """
    both = (a, b)
    one_sided = {
        table: _one_sided(table, column, both)
        for table, column in (("prompts", "prompt_id"), ("completions", "completion_id"))
    }
    votes, strengths = _other_votes(both), _other_strengths(both)
    found: list[tuple[Change, str, str, pl.Series]] = []
    for change, rows in changed.items():
        lost = _dropped(a if change == "added" else b)
        told = _told(with_sides(rows), one_sided, lost, votes, strengths, change)
        by = told.group_by("reason", "of", maintain_order=True).agg("pair_id")
        for reason, of, ids in by.select("reason", "of", "pair_id").iter_rows():
            found.append((change, str(reason), str(of), pl.Series(ids, dtype=pl.String)))
    return sorted(found, key=lambda each: -each[3].len())


def _told(
    rows: pl.DataFrame,
    one_sided: Mapping[str, pl.Series],
    lost: pl.DataFrame,
    votes: pl.DataFrame,
    strengths: pl.Series,
    change: Change,
) -> pl.DataFrame:
    """`pair_id, reason, of` of pairs with their sides."""
    rows = rows.join(lost, on="pair_id", how="left", maintain_order="left")
    rows = rows.join(votes, on=SIDES, how="left", maintain_order="left")
    completions, prompts = (one_sided[t].implode() for t in ("completions", "prompts"))
    either = [pl.col(side).is_in(completions) for side in SIDES]
    stronger = [pl.col(side).is_in(strengths.implode()) for side in SIDES]
    is_gone = pl.lit(change in ("added", "removed"))
    reason = (
        pl.when(pl.col("prompt_id").is_in(prompts)).then(pl.lit("prompt"))
        .when(pl.any_horizontal(either)).then(pl.lit("completion"))
        .when(is_gone & pl.col("stage").is_not_null()).then(pl.lit("dropped"))
        .when(pl.col("whose").is_not_null()).then(pl.lit("votes"))
        .when(pl.any_horizontal(stronger)).then(pl.lit("strengths"))
        .otherwise(pl.lit("making"))
    )  # fmt: skip
    of = pl.when(pl.col("reason") == "dropped").then("stage")
    of = of.when(pl.col("reason") == "votes").then("whose").otherwise(pl.lit(""))
    return rows.with_columns(reason=reason).select("pair_id", "reason", of=of).sort("pair_id")


def _one_sided(table: str, column: str, both: Sequence[Version]) -> pl.Series:
    """The ids that one of the two versions has and the other has not."""
    one, other = (version.table(table, column) for version in both)
    parts = (one.join(other, on=column, how="anti"), other.join(one, on=column, how="anti"))
    return pl.concat(parts)[column].unique()


def _dropped(version: Version) -> pl.DataFrame:
    """Of each dropped pair, the stage."""
    rows = version.table("dropped", "key", "stage", where=pl.col("table") == "pairs")
    return rows.group_by(pair_id="key").agg(pl.col("stage").sort().first())


def _other_votes(both: Sequence[Version]) -> pl.DataFrame:
    """Of any two completions with other votes in the two versions, whose they are."""
    said = [*SIDES, "annotator", "criterion", "draw", "a_first", "preference"]
    one, other = (version.table("votes", *said) for version in both)
    parts = (
        one.join(other, on=said, how="anti", nulls_equal=True),
        other.join(one, on=said, how="anti", nulls_equal=True),
    )
    by = pl.concat(parts).group_by(SIDES)
    return by.agg(whose=pl.col("annotator").unique().sort().str.join(" and "))


def _other_strengths(both: Sequence[Version]) -> pl.Series:
    """The completions that the two versions find differently strong."""
    said = ["completion_id", "estimator", "strength"]
    one, other = (version.table("strengths", *said) for version in both)
    parts = (one.join(other, on=said, how="anti"), other.join(one, on=said, how="anti"))
    return pl.concat(parts)["completion_id"].unique()


def behind(reason: str, of: str, causes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Of the differences of two versions, as (kind, where), those that can have led to a reason.

    A judge is behind votes only where an annotator is named after it.
    """
    prefixes = [each.format(stage=of) for each in LED_BY[reason]]
    found: list[str] = []
    for kind, where in causes:
        if kind == "table":
            continue
        named = f"{kind} {where}"
        is_option = kind == "option"
        fits = any(
            where == prefix or where.startswith((f"{prefix}.", f"{prefix}#"))
            if is_option
            else kind == prefix
            for prefix in prefixes
        )
        if kind == "judge" and reason == "votes" and f"/{where}" not in of:
            fits = False
        if fits:
            found.append(named)
    return tuple(found)
