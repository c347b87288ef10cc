"""Rows for people by lot: what every other way of choosing has to beat."""

import polars as pl

from prefdata.route._budget import RANDOM, Budget, check, open_rows, spend
from prefdata.tables import Assignments, Pairs, Scores, Votes

SCOPE = "all"  # a budget is one for all rows


def random(
    votes: Votes,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    budget: Budget,
    annotator: str = "human",
    seed: int = 0,
) -> Assignments:
    """Assign rows drawn with equal chances, as many as the budget buys; `gain` is not known.

    Rows are the pairs, where there are any, else whatever two completions were compared, without
    those that the annotator has voted on. Each is of reason "random".

    Options:
    - `budget`: one of `rows`, `share` (of the rows) and `money`, the last with `price`: what a row
      costs, a number or the name of a score about pairs.
    - `annotator`: who is asked: a kind, or one by name.
    - `seed`: of the lot.

    Raises `RecipeError` for a budget that cannot be meant.

    Source: Cochran 1977, "Sampling Techniques".
    """
    check(budget, "route.random")
    rows = open_rows(votes, pairs, annotator).with_columns(gain=pl.lit(None, pl.Float64))
    everything: Budget = {**budget, "audit": 1.0}
    return spend(
        rows, scores,
        budget=everything, annotator=annotator, reason=RANDOM, seed=seed, where="route.random",
    )  # fmt: skip
