"""Rows for people where it is least certain which side is better.

With p the probability that a is preferred, as a jury, an annotator model or the votes' mean has it,
the label of a row is wrong with probability

    min(p, 1 - p)

Source: Lewis and Gale 1994, "A Sequential Algorithm for Training Text Classifiers" (uncertainty
sampling).
"""

import numpy as np
import polars as pl

from prefdata.route._budget import Budget, open_rows, spend
from prefdata.route._posterior import preference
from prefdata.route._signals import by_models, signals
from prefdata.tables import Assignments, Pairs, Scores, Votes

SCOPE = "all"  # a budget is one for all rows


def uncertainty(
    votes: Votes,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    budget: Budget,
    score: str | None = None,
    annotator: str = "human",
    seed: int = 0,
) -> Assignments:
    """Assign the rows whose label is likeliest wrong: `gain` is that probability, in [0, 1/2].

    It is as good as the probability: where annotators are wrong together they are certain, and on
    adversarial prompts this may be worse than the lot.

    Options:
    - `budget`: one of `rows`, `share` (of the rows) and `money`, the last with `price`: what a row
      costs, a number or the name of a score about pairs; `audit` is the share drawn at random.
    - `score`: the score of pairs that is P(a preferred), `name@model` where several models gave it;
      default `preference`, as aggregates write it, else the mean verdict of the models that voted.
    - `annotator`: who is asked: a kind, or one by name; votes of its kind do not count.
    - `seed`: of rows drawn at random and of ties.

    Raises `RecipeError` for a budget that cannot be meant, and for a score that is not there or no
    probability.
    """
    known = signals(open_rows(votes, pairs, annotator), by_models(votes, annotator))
    p = preference(known, scores, score, "route.uncertainty")
    return spend(
        known.with_columns(gain=pl.Series(np.minimum(p, 1 - p))), scores,
        budget=budget, annotator=annotator, reason="uncertainty", seed=seed,
        where="route.uncertainty",
    )  # fmt: skip
