"""Which judge to ask about which pair next: the rule of `annotate.cascade`, apart from any asking.

It sees votes and prices only: no gold, and no more of a judge's name than which votes are its own.
"""

import math
from collections.abc import Mapping

import polars as pl

from prefdata.aggregate.reliability import reliability
from prefdata.tables import Scores, Votes, digest, pair_ids

SIDES = ["completion_a", "completion_b"]
# The fewest pairs from which anything can be learnt about a judge.
FEWEST = 10


def next_calls(
    votes: Votes,
    pairs: pl.DataFrame,
    costs: Mapping[str, float],
    *,
    sure: float,
    pilot: float,
    step: int,
    budget: float,
    seed: int = 0,
) -> pl.DataFrame:
    """The (pair, annotator) to ask next: columns `completion_a`, `completion_b`, `annotator`.

    `costs` has the price of a call of each annotator. Nothing more is asked when the table is
    empty. First come all annotators on a `pilot` of the pairs; then, for each pair whose posterior
    is not `sure`, the `step` annotators not yet asked about it whose votes say most for their
    price. One that says less than their mean is asked no more: its votes would cost more than they
    say. At most a share `budget` of all calls is asked, the least sure pairs first.
    """
    asked = votes.select(*SIDES, "annotator").unique()
    room = math.floor(budget * pairs.height * len(costs)) - asked.height
    pairs = pairs.select(SIDES).unique().sort(SIDES)
    names = pl.DataFrame({"annotator": list(costs)}, {"annotator": pl.String})
    if asked.is_empty():
        n = min(pairs.height, max(FEWEST, math.ceil(pilot * pairs.height)))
        place = [digest("pilot", seed, *each) for each in pairs.rows()]
        chosen = pairs.with_columns(place=pl.Series(place, dtype=pl.String)).sort("place").head(n)
        return chosen.drop("place").join(names, how="cross").head(max(room, 0))
    scores = reliability(votes)[1]
    p, worth = posterior(scores, pairs), informative(scores, costs)
    doubt = 0.5 - (p - 0.5).abs()
    open_pairs = pairs.with_columns(doubt=doubt).filter(pl.col("doubt") > 1 - sure)
    order = names.with_columns(worth=pl.Series([worth[name] for name in names["annotator"]]))
    order = order.filter(pl.col("worth") >= order["worth"].mean())
    left = open_pairs.join(order, how="cross").join(asked, on=[*SIDES, "annotator"], how="anti")
    left = left.sort("worth", "annotator", descending=[True, False])
    first = pl.int_range(pl.len()).over(SIDES) < step
    by = ["doubt", "worth", *SIDES, "annotator"]
    wanted = left.filter(first).sort(by, descending=[True, True, False, False, False])
    return wanted.head(max(room, 0)).select(*SIDES, "annotator").sort(*SIDES, "annotator")


def posterior(scores: Scores, pairs: pl.DataFrame) -> pl.Series:
    """P(completion_a preferred) of each pair; 1/2 where there is no vote."""
    known = scores.filter(pl.col("score") == "preference").select("subject_id", "value")
    ids = pair_ids(pairs["completion_a"], pairs["completion_b"]).alias("subject_id")
    found = pl.DataFrame(ids).join(known, on="subject_id", how="left", maintain_order="left")
    return found["value"].fill_null(0.5)


def informative(scores: Scores, costs: Mapping[str, float]) -> dict[str, float]:
    """What a call of each annotator tells for its price: discrimination^2.

    That is what a vote adds to the precision of a difference. An annotator without a scored vote,
    or that votes against the others, tells nothing.
    """
    names = pl.DataFrame({"annotator": list(costs), "cost": list(costs.values())})
    mine = scores.filter((pl.col("subject") == "annotator") & (pl.col("score") == "discrimination"))
    mean = mine.sort("model").group_by("subject_id").agg(discrimination=pl.mean("value"))
    names = names.join(mean, left_on="annotator", right_on="subject_id", how="left")
    slope = pl.col("discrimination").clip(0)
    told = (slope**2 / pl.col("cost")).fill_null(0.0)
    return dict(names.select("annotator", told).iter_rows())
