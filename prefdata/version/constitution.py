"""The principles of a version: how each fares, with intervals, and comparisons that show it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from prefdata.tables import SIDES, with_sides
from prefdata.version.markdown import interval, number, share

FIGURES = ("for", "against", "accuracy", "relevance", "on pairs not seen")
ABOUT = (
    "What the labels follow, as far as these principles tell. Accuracy is for / (for + against), "
    "relevance the share of pairs where a principle speaks, each with its 95 % interval; of many "
    "candidates the best always look good where they were chosen, so trust the last column."
)
LONGEST = 160


class Standing(NamedTuple):
    """A principle with its `FIGURES` in words.

    `examples` are by "for" and "against" the texts, cut, of a chosen completion and the other one.
    """

    rank: int
    principle: str
    figures: tuple[Any, ...]
    examples: Mapping[str, tuple[str, str]]


def standing(frames: Mapping[str, pl.DataFrame]) -> list[Standing]:
    """The principles by rank; none where the version has none."""
    principles = frames.get("principles", pl.DataFrame())
    if principles.is_empty():
        return []
    measures = frames.get("measures", pl.DataFrame({"measure": [], "subject": []}))
    unseen = {
        row["subject"].removeprefix("principle:").partition("/")[0]: row
        for row in measures.filter(pl.col("measure") == "principle_accuracy_held_out").to_dicts()
    }
    examples = _examples(frames)
    made: list[Standing] = []
    for each in principles.sort("rank").to_dicts():
        told = each["for"] + each["against"]
        n = told + each["abstain"] + each["invalid"]
        held = unseen.get(each["principle_id"])
        shown = f"{number(held['value'])} ({interval(held)})" if held else ""
        figures = (each["for"], each["against"], share(each["for"], told), share(told, n), shown)
        of = examples.get(each["principle_id"], {})
        made.append(Standing(each["rank"], each["principle"], figures, of))
    return made


def _examples(frames: Mapping[str, pl.DataFrame]) -> dict[str, dict[str, tuple[str, str]]]:
    """Of each principle the shortest comparison that it is for, and that it is against."""
    if not {"votes", "pairs", "completions"} <= frames.keys():
        return {}
    side = (pl.col("preference").mean() - 0.5).round(9).sign()
    said = (
        frames["votes"]
        .with_columns(principle_id=pl.col("annotator").str.extract("^principle:([^/]+)"))
        .filter(pl.col("principle_id").is_not_null())
        .group_by("principle_id", *SIDES)
        .agg(side=side)
        .filter(pl.col("side") != 0)
    )
    text = pl.col("completion").list.eval(pl.element().struct["content"]).list.join(" ")
    texts = frames["completions"].select("completion_id", text=text)
    labelled = with_sides(frames["pairs"]).unique(SIDES, keep="none")
    for name in ("chosen", "rejected"):
        of = texts.rename({"completion_id": f"{name}_id", "text": name})
        labelled = labelled.join(of, on=f"{name}_id")
    length = pl.col("chosen").str.len_chars() + pl.col("rejected").str.len_chars()
    is_for = (pl.col("side") > 0) == pl.col("a_chosen")
    kind = pl.when(is_for).then(pl.lit("for")).otherwise(pl.lit("against"))
    first = (
        said.join(labelled, on=SIDES)
        .with_columns(length=length, kind=kind)
        .sort("length", *SIDES)
        .unique(["principle_id", "kind"], keep="first")
        .sort("principle_id", "kind", descending=[False, True])
    )
    made: dict[str, dict[str, tuple[str, str]]] = {}
    for id, kind, *texts in first.select("principle_id", "kind", "chosen", "rejected").rows():
        made.setdefault(id, {})[kind] = (_cut(texts[0]), _cut(texts[1]))
    return made


def _cut(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1].rstrip()}…"
