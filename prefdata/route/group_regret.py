"""Rows for people where the label is likeliest wrong, learnt online and fairly for every group.

The rows that people have voted on come one by one, in an order drawn by lot. Before each vote is
heard, the probability that the label is wrong is predicted from what the models' votes look like;
then all groups that the row is in learn from it. The prediction is nearly as good, in every group,
as the best linear one for that group alone would have been (see `_sleeping`), however the groups
overlap: a small group, in which the models fail otherwise than elsewhere, is not averaged away.
What is predicted after the last vote is the gain of the rows that nobody has voted on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._named import with_score
from prefdata.route._budget import Budget, open_rows, spend
from prefdata.route._groups import By, groups_of
from prefdata.route._people import compared
from prefdata.route._signals import SIGNALS, by_models, signals
from prefdata.route._sleeping import Regret, fit_groupwise, regrets
from prefdata.tables import Assignments, Measures, Pairs, Prompts, Scores, Votes

SCOPE = "all"  # a budget is one for all rows

Floats = NDArray[np.floating[Any]]
ALL = "all"


def group_regret(
    votes: Votes,
    prompts: Prompts | None = None,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    budget: Budget,
    by: Sequence[By] = ("tags",),
    min_rows: int = 10,
    features: Sequence[str] = (),
    label: str | None = None,
    ridge: float = 1.0,
    annotator: str = "human",
    seed: int = 0,
) -> tuple[Assignments, Measures]:
    """Assign the rows whose label is likeliest wrong: `gain` is that probability, in [0, 1].

    It needs people's votes on some rows, as those drawn at random by an earlier route: without any
    all gains are 0 and the rows are drawn by lot. A row is described by 1, by the distance of the
    models' mean verdict from 1/2, by disagreement, swap inconsistency and expected information,
    and by the scores that are named.

    Measures, of subject "all" or "<kind>:<group>", on the rows that people voted on:
    `group_regret`, the squared error in excess of the best linear prediction for the group in
    hindsight, in errors; `group_regret_bound`, above which it never is; `group_error`, the mean
    squared error.

    Options:
    - `budget`: one of `rows`, `share` (of the rows) and `money`, the last with `price`: what a row
      costs, a number or the name of a score about pairs; `audit` is the share drawn at random.
    - `by`: what of a prompt makes groups: "tags", "source", "group". All rows are one too.
    - `min_rows`: rows that people voted on which make a group.
    - `features`: scores of pairs that describe rows too, `name@model` where several gave them.
    - `label`: the annotator whose verdict is the label; default the models' mean verdict.
    - `ridge`: the strength of each learner's prior.
    - `annotator`: who is asked: a kind, or one by name; its kind are the people.
    - `seed`: of the order of the rows, of rows drawn at random and of ties.

    Raises `RecipeError` for a budget that cannot be meant, for a score that is not there, a label
    of an annotator without votes, and a ridge or number of rows out of range.

    Source: Acharya et al. (2023), Oracle Efficient Algorithms for Groupwise Regret.
    """
    where = "route.group_regret"
    if ridge <= 0 or min_rows < 1:
        raise RecipeError(
            f"{where}: ridge = {ridge}, min_rows = {min_rows}; above 0, and at least 1"
        )
    taught = compared(votes, annotator, label, where).drop_nulls("person")
    taught = taught.with_columns(tables.pair_ids(taught["completion_a"], taught["completion_b"]))
    asked = open_rows(votes, pairs, annotator)
    models = by_models(votes, annotator)
    x, x_asked = (
        _described(signals(rows, models), scores, features, where) for rows in (taught, asked)
    )
    names, inside = groups_of(taught, votes, prompts, by, min_rows)
    known, there = groups_of(asked, votes, prompts, by, 1)
    order = np.random.default_rng(seed).permutation(len(x))
    wrong = (taught["label"] != taught["person"]).cast(pl.Float64).to_numpy()[order]
    x, inside = x[order], _with_all(inside[order])
    state, said = fit_groupwise(x, inside, wrong, ridge=ridge)
    column = {name: at for at, name in enumerate(known)}
    own = [
        there[:, column[name]] if name in column else np.zeros(len(x_asked), bool) for name in names
    ]
    active = _with_all(np.stack(own, 1) if own else np.zeros((len(x_asked), 0), bool))
    gain = [state.predict(*row)[0] for row in zip(x_asked, active, strict=True)]
    made = spend(
        asked.with_columns(gain=pl.Series(gain, dtype=pl.Float64)), scores,
        budget=budget, annotator=annotator, reason="group_regret", seed=seed, where=where,
    )  # fmt: skip
    found = regrets(x, inside, wrong, said, state, ridge=ridge)
    errors = (said - wrong) ** 2
    mean_errors = [float(errors[mine].mean()) if mine.any() else None for mine in inside.T]
    return made, _measures([ALL, *names], found, mean_errors)


def _described(
    rows: pl.DataFrame, scores: Scores | None, features: Sequence[str], where: str
) -> Floats:
    """A column of ones, the signals and the scores that are named; what is not known is 0."""
    share, *others = SIGNALS
    columns = [pl.lit(1.0).alias("one"), (pl.col(share) - 0.5).abs().alias("sure"), *others]
    told = rows
    for at, score in enumerate(features):
        told = with_score(told, scores, score, where=where, column=f"feature {at}")
        columns.append(f"feature {at}")
    return told.select(columns).fill_null(0.0).to_numpy().astype(np.float64)


def _with_all(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.concatenate([np.ones((len(inside), 1), bool), inside], 1)


def _measures(
    names: Sequence[str], found: Sequence[Regret], errors: Sequence[float | None]
) -> Measures:
    if not found or not found[0].rounds:
        return Measures(tables.empty("measures"))
    rows = [
        {"measure": measure, "subject": name, "value": value, "n": each.rounds}
        for name, each, error in zip(names, found, errors, strict=True)
        for measure, value in (
            ("group_regret", each.regret),
            ("group_regret_bound", each.bound),
            ("group_error", error),
        )
    ]
    return tables.typed(Measures, pl.DataFrame(rows))
