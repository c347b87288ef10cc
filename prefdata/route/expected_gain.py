"""Rows for people where one more vote is worth most, as a model of the annotators has it.

With P_k the posterior that a is better, that both are equally good and that b is better, h the
probability that a person's vote is right, and k the label that the row has now, a vote raises the
probability that the row's label is right by

    gain = max(h, max_k P_k) - P_label

which is the value of information of a noisy answer: after it the label is the answer, or what was
most likely before, whichever is right more often. Uncertainty is its special case for a label that
is the most likely one; where the label is one annotator's and the others, as far as they are to be
trusted, speak against it, the gain is larger than any uncertainty.

Source: Howard 1966, "Information Value Theory"; with a posterior of annotators' reliability in it
Sheng, Provost, Ipeirotis 2008, "Get Another Label?".
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.aggregate._annotators import votes_by
from prefdata.errors import RecipeError
from prefdata.route._budget import Budget, open_rows, spend
from prefdata.route._people import verdicts
from prefdata.route._posterior import CODES, TIE, posterior
from prefdata.route._signals import by_models, signals
from prefdata.tables import SIDES, Assignments, Pairs, Scores, Votes

SCOPE = "all"  # a budget is one for all rows

Floats = NDArray[np.floating[Any]]


def expected_gain(
    votes: Votes,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    budget: Budget,
    score: str | None = None,
    label: str | None = None,
    person: float = 0.95,
    annotator: str = "human",
    seed: int = 0,
) -> Assignments:
    """Assign the rows whose label a person's vote improves most: `gain` is in probability, [0, 1].

    The posterior is what aggregates write: `preference`, and `tie` where equally good completions
    are possible (`aggregate.dawid_skene` with `true_ties`). Put one before this stage: without it
    the models' mean verdict stands for it, which takes all annotators for equally good.

    Options:
    - `budget`: one of `rows`, `share` (of the rows) and `money`, the last with `price`: what a row
      costs, a number or the name of a score about pairs; `audit` is the share drawn at random.
    - `score`: the score of pairs that is P(a preferred), `name@model` where several models gave it;
      default `preference`.
    - `label`: the annotator whose verdict is the label of the rows as they are; default the most
      likely one. A row on which it did not vote has the most likely one too. Where there is no
      score `tie`, a verdict of a tie is taken for right half of the time.
    - `person`: the probability that a person's vote is right, in (0, 1].
    - `annotator`: who is asked: a kind, or one by name; votes of its kind do not count.
    - `seed`: of rows drawn at random and of ties.

    Raises `RecipeError` for a budget that cannot be meant, a score that is not there or no
    probability, and a label of an annotator without votes.
    """
    where = "route.expected_gain"
    if not 0 < person <= 1:
        raise RecipeError(f"{where}: person = {person}; a probability above 0")
    known = signals(open_rows(votes, pairs, annotator), by_models(votes, annotator))
    belief = posterior(known, scores, score, where)
    gain = worth(belief, _labels(known, votes, label, where), person)
    return spend(
        known.with_columns(gain=pl.Series(gain)), scores,
        budget=budget, annotator=annotator, reason="expected_gain", seed=seed, where=where,
    )  # fmt: skip


def worth(belief: Floats, label: Floats, person: float) -> Floats:
    """The gain of a vote, from P of the codes 1, 0, -1 and the labels' codes (NaN: none)."""
    most = belief.max(1)
    held = (belief * (label[:, None] == np.array(CODES))).sum(1)
    if not belief[:, TIE].any():
        held = np.where(label == 0, 0.5, held)  # where one side is better, a tie is a coin's toss
    return np.maximum(most, person) - np.where(np.isnan(label), most, held)


def _labels(rows: pl.DataFrame, votes: Votes, label: str | None, where: str) -> Floats:
    if label is None:
        return np.full(rows.height, np.nan)
    own = verdicts(votes_by(votes, label, where), "label")
    told = rows.join(own, on=SIDES, how="left", maintain_order="left")["label"]
    return told.cast(pl.Float64).to_numpy()
