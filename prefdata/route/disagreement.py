"""Rows for people where the annotators do not agree, or one contradicts itself in the other order.

Source: Kim et al. 2023, "Prefer to Classify: Improving Text Classifiers via Auxiliary Preference
Learning" (the sampler by disagreement); what is told by the two orders is that of Wang et al. 2023,
"Large Language Models are not Fair Evaluators", who send such rows to people.
"""

from typing import Literal

from prefdata.route._budget import Budget, open_rows, spend
from prefdata.route._signals import by_models, signals
from prefdata.tables import Assignments, Pairs, Scores, Votes

SCOPE = "all"  # a budget is one for all rows


def disagreement(
    votes: Votes,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    budget: Budget,
    of: Literal["annotators", "orders"] = "annotators",
    annotator: str = "human",
    seed: int = 0,
) -> Assignments:
    """Assign the rows on which most pairs of annotators disagree: `gain` is their share, in [0, 1].

    A tie disagrees with either verdict. A row with one annotator, or in one order, has a gain of 0.

    Where annotators share an error they agree, and the row is passed over: on adversarial prompts
    this may be worse than the lot.

    Options:
    - `budget`: one of `rows`, `share` (of the rows) and `money`, the last with `price`: what a row
      costs, a number or the name of a score about pairs; `audit` is the share drawn at random.
    - `of`: "annotators" compares different ones; "orders" each with itself, by the distance of its
      preferences with either side shown first.
    - `annotator`: who is asked: a kind, or one by name; votes of its kind do not count.
    - `seed`: of rows drawn at random and of ties.

    Raises `RecipeError` for a budget that cannot be meant.
    """
    known = signals(open_rows(votes, pairs, annotator), by_models(votes, annotator))
    signal = "disagreement" if of == "annotators" else "swap_inconsistency"
    return spend(
        known.with_columns(gain=known[signal].fill_null(0.0)), scores,
        budget=budget, annotator=annotator, reason="disagreement", seed=seed,
        where="route.disagreement",
    )  # fmt: skip
