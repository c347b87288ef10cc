"""Take the reasons that annotators gave for their votes as rationales of the pairs.

A vote with a reason for the side that a pair prefers explains the pair; one for the other side, or
for none, does not. What it calls the two is made tags where it is known which was shown first: the
names of its own side become [CHOSEN] and [REJECTED]. What still says where one stood is dropped.

Source: Wang et al. 2024, "HelpSteer2-Preference: Complementing Ratings with Preferences" (human
justifications of preferences).
"""

import polars as pl

from prefdata import tables
from prefdata.explain._places import named, place_in
from prefdata.explain._wording import CHOSEN, REJECTED
from prefdata.tables import SIDES, Dropped, Pairs, Rationales, Votes


def justifications(pairs: Pairs, votes: Votes) -> tuple[Rationales, Dropped]:
    """Rationales of kind "justification" by the annotators of the votes, in their words.

    "Response 1", "answer B", "the second reply" and the like become tags. Reasons of votes against
    the pair's label, and of ties, are in `dropped`; so are those that say where a completion stood
    in words that cannot be made tags, or where it is not known which was shown first.
    """
    about = tables.with_sides(pairs).select("pair_id", "completion_a", "completion_b", "a_chosen")
    said = votes.filter(
        pl.col("preference").is_not_null(), pl.col("rationale").str.strip_chars() != ""
    ).join(about, on=SIDES)
    toward = pl.when("a_chosen").then("preference").otherwise(1 - pl.col("preference"))
    said = said.with_columns(
        toward=toward, chosen_first=pl.col("a_chosen") == pl.col("a_first")
    ).sort("pair_id", "annotator", "criterion", "draw", "a_first")
    texts = [_tagged(*row) for row in said.select("rationale", "chosen_first").rows()]
    places = pl.Series("place", [place_in(text) for text in texts], pl.String)
    made = said.with_columns(
        pl.Series("rationale", texts, pl.String), places, kind=pl.lit("justification")
    ).unique(["pair_id", "annotator", "rationale"], keep="first", maintain_order=True)
    placed = pl.format("says where a completion stood: '{}'", "place")
    unknown = pl.when(pl.col("chosen_first").is_null()).then(
        pl.lit(", and which was shown first is not known")
    )
    why = (
        pl.when(pl.col("toward") == 0.5)
        .then(pl.lit("it justifies a tie"))
        .when(pl.col("toward") < 0.5)
        .then(pl.lit("it justifies the other side"))
        .when(pl.col("place").is_not_null())
        .then(pl.concat_str(placed, unknown.fill_null("")))
    )
    made = made.with_columns(reason=why)
    kept = made.filter(pl.col("reason").is_null()).select(*tables.schema("rationales").columns)
    gone = made.filter(pl.col("reason").is_not_null())
    dropped = gone.select(
        "reason", table=pl.lit("rationales"), stage=pl.lit("explain.justifications")
    ).with_columns(tables.keys("rationales", gone))
    return Rationales(kept), Dropped(dropped)


def _tagged(text: str, chosen_first: bool | None) -> str:
    sides = (CHOSEN, REJECTED) if chosen_first else (REJECTED, CHOSEN)
    return text.strip() if chosen_first is None else named(text.strip(), *sides)
