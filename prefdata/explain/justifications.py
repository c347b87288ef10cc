"""Take the reasons that annotators gave for their votes as rationales of the pairs.

A vote with a reason for the side that a pair prefers explains the pair; one for the other side, or
for none, does not. What it calls the two is made tags where it is clear: the words of its own
side become [CHOSEN] and [REJECTED], by the place where each was shown.

Source: Wang et al. 2024, "HelpSteer2-Preference: Complementing Ratings with Preferences" (human
justifications of preferences).
"""

import re

import polars as pl

from prefdata import tables
from prefdata.explain._wording import CHOSEN, REJECTED
from prefdata.tables import Dropped, Pairs, Rationales, Votes

_NAMES = {
    True: r"\b(?:@?(?:completion|reply|response|answer|option|assistant) ?#?(?:1|A)\b"
    r"|the first (?:completion|reply|response|answer|option|one)\b)",
    False: r"\b(?:@?(?:completion|reply|response|answer|option|assistant) ?#?(?:2|B)\b"
    r"|the second (?:completion|reply|response|answer|option|one)\b)",
}


def justifications(pairs: Pairs, votes: Votes) -> tuple[Rationales, Dropped]:
    """Rationales of kind "justification" by the annotators of the votes, in their words.

    Reasons of votes against the pair's label, and of ties, are in `dropped`. "Response 1",
    "answer B", "the second reply" and the like become tags where it is known which was shown
    first; where it is not, they stay.
    """
    about = tables.with_sides(pairs).select("pair_id", "completion_a", "completion_b", "a_chosen")
    said = votes.filter(
        pl.col("preference").is_not_null(), pl.col("rationale").str.strip_chars() != ""
    ).join(about, on=["completion_a", "completion_b"])
    toward = pl.when("a_chosen").then("preference").otherwise(1 - pl.col("preference"))
    said = said.with_columns(
        toward=toward, chosen_first=pl.col("a_chosen") == pl.col("a_first")
    ).sort("pair_id", "annotator", "criterion", "draw", "a_first")
    texts = [_tagged(*row) for row in said.select("rationale", "chosen_first").rows()]
    made = said.with_columns(
        pl.Series("rationale", texts, pl.String), kind=pl.lit("justification")
    ).unique(["pair_id", "annotator", "rationale"], keep="first", maintain_order=True)
    kept = made.filter(pl.col("toward") > 0.5).select(*tables.schema("rationales").columns)
    gone = made.filter(pl.col("toward") <= 0.5)
    why = pl.when(pl.col("toward") == 0.5).then(pl.lit("it justifies a tie"))
    dropped = gone.select(
        table=pl.lit("rationales"),
        stage=pl.lit("explain.justifications"),
        reason=why.otherwise(pl.lit("it justifies the other side")),
    ).with_columns(tables.keys("rationales", gone))
    return Rationales(kept), Dropped(dropped)


def _tagged(text: str, chosen_first: bool | None) -> str:
    text = text.strip()
    if chosen_first is None:
        return text
    for first, names in _NAMES.items():
        tag = CHOSEN if first == chosen_first else REJECTED
        text = re.sub(names, tag, text, flags=re.IGNORECASE)
    return text
