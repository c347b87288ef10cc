"""What the votes of models on a row say about how far they are to be trusted there.

The verdict of an annotator on a row is its mean preference for a, over orders, draws and criteria;
as a code it is one of a, tie and b. With p_u the verdicts of n annotators and p their mean,

    disagreement         the share of pairs of annotators whose codes differ
    swap_inconsistency   the mean over annotators of |p_u shown a first - p_u shown b first|
    expected_information H(p) - mean_u H(p_u), in nats: what one more verdict would tell about
                         which annotator is right, and nothing where all are unsure alike

Source: Kim et al. 2023, "Prefer to Classify: Improving Text Classifiers via Auxiliary Preference
Learning", for pairs whose codes differ; Houlsby et al. 2011, "Bayesian Active Learning for
Classification and Preference Learning", for the expected information.
"""

import polars as pl

from prefdata.aggregate._annotators import is_by
from prefdata.tables import SIDES, Votes

SIGNALS = ("vote_share", "disagreement", "swap_inconsistency", "expected_information")
# A mean of equal numbers may differ from them in the last bit.
SMALL = 1e-9


def by_models(votes: Votes, people: str) -> pl.DataFrame:
    """The scored votes that are not of the people who are asked."""
    kind = people.partition(":")[0]
    return votes.filter(~is_by(f"{kind}:*") & pl.col("preference").is_not_null())


def signals(rows: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    """The rows with `SIGNALS`, null where too few votes tell: of one annotator, or in one order."""
    votes = votes.sort(*SIDES, "annotator", "a_first", "preference")
    own = [*SIDES, "annotator"]
    by_order = votes.group_by(*own, "a_first", maintain_order=True).agg(pl.col("preference").mean())
    first, second = (
        pl.col("preference").filter(pl.col("a_first") == is_first).first()
        for is_first in (True, False)
    )
    swapped = by_order.group_by(own, maintain_order=True).agg(swap=(first - second).abs())
    verdicts = votes.group_by(own, maintain_order=True).agg(p=pl.col("preference").mean())
    verdicts = verdicts.join(swapped, on=own, maintain_order="left").with_columns(
        code=code(pl.col("p")), doubt=entropy(pl.col("p"))
    )
    n = pl.len().cast(pl.Float64)
    alike = pl.sum_horizontal(_pairs((pl.col("code") == each).sum()) for each in (-1, 0, 1))
    told = verdicts.group_by(SIDES, maintain_order=True).agg(
        vote_share=pl.col("p").mean(),
        disagreement=pl.when(n > 1).then(1 - alike / _pairs(n)),
        swap_inconsistency=pl.col("swap").mean(),
        expected_information=pl.when(n > 1).then(
            (entropy(pl.col("p").mean()) - pl.col("doubt").mean()).clip(0.0)
        ),
    )
    return rows.join(told, on=SIDES, how="left", maintain_order="left")


def code(preference: pl.Expr) -> pl.Expr:
    """1 where a is preferred, 0 for a tie, -1 where b is."""
    away = preference - 0.5
    return pl.when(away.abs() < SMALL).then(0).otherwise(away.sign()).cast(pl.Int8)


def entropy(p: pl.Expr) -> pl.Expr:
    """Of a yes or no, in nats."""
    terms = (pl.when(q > 0).then(-q * q.log()).otherwise(0.0) for q in (p, 1 - p))
    return pl.sum_horizontal(terms)


def _pairs(n: pl.Expr) -> pl.Expr:
    return n * (n - 1) / 2.0
