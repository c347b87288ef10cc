"""The rationales of a version: how many were kept, what they tell, and one of each kind."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from prefdata.version.markdown import interval, number

FIGURES = ("kept", "pairs", "share kept", "label recovered", "without a reason", "words")
ABOUT = (
    "Why the chosen one is better. Those that a model wrote were kept if a judge recovered the "
    "label from them without seeing it; what they add is the difference to the same judge's "
    "opinion without a reason, each with its 95 % interval."
)
LONGEST = 400
_OF = dict(zip(("kept_rationales", "recovery", "recovery_without"), FIGURES[2:], strict=False))


class Kept(NamedTuple):
    """A kind with its `FIGURES` in words, and the text of one, cut; none where none was kept."""

    kind: str
    figures: tuple[Any, ...]
    example: str | None


def kept(frames: Mapping[str, pl.DataFrame]) -> list[Kept]:
    """The kinds of rationales that were asked for or taken in; none where no one asked."""
    texts = frames.get("rationales", pl.DataFrame(schema={"kind": pl.String}))
    measures = frames.get("measures", pl.DataFrame(schema={"measure": pl.String}))
    said = measures.filter(pl.col("measure").is_in([*_OF, "rationale_words"])).to_dicts()
    of = {(row["measure"], row["subject"]): row for row in said}
    asked = {kind for measure, kind in of if measure == "kept_rationales"}
    made: list[Kept] = []
    for kind in sorted({*texts["kind"].unique(), *asked}):
        mine = texts.filter(pl.col("kind") == kind)
        n_pairs = mine["pair_id"].n_unique() if mine.height else 0
        shares = (_share(of.get((measure, kind))) for measure in _OF)
        words = of.get(("rationale_words", kind))
        figures = (mine.height, n_pairs, *shares, number(words["value"]) if words else "")
        made.append(Kept(kind, figures, _example(mine)))
    return made


def _share(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    ends = interval(row)
    return f"{number(row['value'])} ({ends})" if ends else number(row["value"])


def _example(texts: pl.DataFrame) -> str | None:
    """The shortest one."""
    if texts.is_empty():
        return None
    length = pl.col("rationale").str.len_chars()
    text = texts.sort(length, "rationale", "pair_id")["rationale"][0]
    plain = " ".join(text.split())
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1].rstrip()}…"
