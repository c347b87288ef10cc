"""Preferences that go round in circles: a skew-symmetric form on vectors of completions.

Each completion i has a unit vector v_i of 2 k numbers, and

    s(i, j) = sum_b (v_i[2b] v_j[2b+1] - v_i[2b+1] v_j[2b])
    P(i preferred to j) = sigmoid(s(i, j) / tau)

so that s(i, j) = -s(j, i) and s(i, i) = 0 by construction. One block can turn in a circle, which no
strength can: where three completions beat each other in turn Bradley-Terry says 1/2 to all. Two
blocks (4 numbers) hold circles and orders alike; one block is often stuck in a poor optimum.

Every two completions get a probability, also those that were never compared, from as many vectors
as there are completions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, log_expit

from prefdata import tables
from prefdata.aggregate._tally import preferences, tally, with_prompts
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.errors import RecipeError
from prefdata.estimate._sums import sums
from prefdata.tables import Completions, Measures, Scores, Strengths, Votes

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
OPTIMIZE: Any = optimize

NAME = "preference_embedding"
HELD_OUT = 5


def preference_embedding(
    votes: Votes,
    completions: Completions | None = None,
    *,
    dimension: int = 4,
    tau: float = 0.1,
    restarts: int = 3,
    prior: float = 0.5,
    criteria: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[Strengths, Scores, Measures]:
    """Strengths and scores `preference` under the estimator "preference_embedding".

    `preference` is P(completion_a preferred) of every two completions that were compared, whose
    `stderr` is not known; a strength is the mean of s / tau against the other voted completions of
    its prompt, in log-odds. Measures: `cyclicity`, the share of triples, compared all three, that
    beat each other in a circle by the majority of votes, in [0, 1] (1/4 by chance), and
    `held_out_log_loss` (nats a vote) of subjects "preference_embedding" and "bradley_terry", on a
    fifth of the compared pairs: where the first is not the smaller one, there is nothing that
    goes round, and Bradley-Terry is the better account.

    Options:
    - `dimension`: of the vectors, even, at least 2.
    - `tau`: the temperature; smaller lets probabilities come nearer to 0 and 1. Above 0.
    - `restarts`: random starts, of which the best is kept; one more begins at Bradley-Terry's.
    - `prior`: votes that each compared pair has for either side besides its own; above 0.
    - `criteria`: the criteria that count; default all.
    - `seed`: of starts and of what is held out.

    Raises `RecipeError` for an option out of range and for a criterion that no row is on.

    Source: Zhang et al. (2024), General Preference Modeling with Preference Representations for
    Aligning Language Models.
    """
    if dimension < 2 or dimension % 2 or tau <= 0 or restarts < 1 or prior <= 0:
        raise RecipeError(
            f"estimate.{NAME}: dimension = {dimension}, tau = {tau}, restarts = {restarts}, prior "
            f"= {prior}; expected an even number, above 0, at least 1, above 0"
        )
    counted = tally(votes, criteria, None)
    if counted.is_empty():
        return (
            Strengths(tables.empty("strengths")),
            Scores(tables.empty("scores")),
            Measures(tables.empty("measures")),
        )
    ids = pl.concat([counted["completion_a"], counted["completion_b"]]).unique().sort()
    data = _data(counted, ids)
    draw = np.random.default_rng(seed)
    settings: dict[str, Any] = {"dimension": dimension, "tau": tau, "restarts": restarts}
    found = fit_preference_embedding(data, len(ids), prior=prior, draw=draw, **settings)
    s = form(found[data.one], found[data.other]) / tau
    told = counted.with_columns(value=pl.Series(expit(s)), stderr=pl.lit(None, pl.Float64))
    strengths = _strengths(votes, completions, ids, found, tau)
    rows = [
        _cyclicity(counted),
        *_losses(data, len(ids), prior=prior, draw=draw, **settings),
    ]
    return strengths, preferences(told, NAME), _measures(rows)


class Data(NamedTuple):
    """`wins` of item `one` over item `other` and `losses`, a row each two items."""

    one: Ints
    other: Ints
    wins: Floats
    losses: Floats

    def only(self, kept: NDArray[np.bool_]) -> "Data":
        return Data(self.one[kept], self.other[kept], self.wins[kept], self.losses[kept])


def _data(counted: pl.DataFrame, ids: pl.Series) -> Data:
    place = pl.DataFrame({"id": ids}).with_row_index("at")
    for side in ("completion_a", "completion_b"):
        named = place.rename({"id": side, "at": f"{side}_at"})
        counted = counted.join(named, on=side, maintain_order="left")
    one, other = (
        counted[f"{side}_at"].to_numpy().astype(np.int64)
        for side in ("completion_a", "completion_b")
    )
    return Data(one, other, counted["wins"].to_numpy(), counted["losses"].to_numpy())


def form(v: Floats, w: Floats) -> Floats:
    """The skew-symmetric form of the rows of v with those of w."""
    return (v[:, 0::2] * w[:, 1::2] - v[:, 1::2] * w[:, 0::2]).sum(1)


def _turned(v: Floats) -> Floats:
    """The gradient of form(u, v) by u."""
    turned = np.empty_like(v)
    turned[:, 0::2], turned[:, 1::2] = v[:, 1::2], -v[:, 0::2]
    return turned


def fit_preference_embedding(
    data: Data,
    n_items: int,
    *,
    dimension: int = 4,
    tau: float = 0.1,
    restarts: int = 3,
    prior: float = 0.5,
    draw: np.random.Generator,
) -> Floats:
    """Unit vectors, (items, dimension), of the greatest likelihood over all starts."""
    wins, losses = data.wins + prior, data.losses + prior

    def loss(flat: Floats) -> tuple[float, Floats]:
        free = flat.reshape(n_items, dimension)
        size = np.linalg.norm(free, axis=1, keepdims=True)
        v = free / size
        z = form(v[data.one], v[data.other]) / tau
        value = -(wins * log_expit(z) + losses * log_expit(-z)).sum()
        slope = ((losses * expit(z) - wins * expit(-z)) / tau)[:, None]
        by_v = sums(data.one, slope * _turned(v[data.other]), n_items)
        by_v -= sums(data.other, slope * _turned(v[data.one]), n_items)
        inward = (by_v * v).sum(1, keepdims=True) * v
        return float(value), ((by_v - inward) / size).ravel()

    starts: list[Floats] = [draw.normal(size=(n_items, dimension)) for _ in range(restarts)]
    starts.append(_from_strengths(data, n_items, dimension, tau, prior, draw))
    fits = [
        OPTIMIZE.minimize(
            loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
        )
        for start in starts
    ]
    best: Floats = min(fits, key=lambda fit: fit.fun).x.reshape(n_items, dimension)
    return best / np.linalg.norm(best, axis=1, keepdims=True)


def _from_strengths(
    data: Data, n_items: int, dimension: int, tau: float, prior: float, draw: np.random.Generator
) -> Floats:
    """Vectors (strength, 1) in the first block: a small strength is about tau times the form."""
    fit = fit_bradley_terry(*data, n_items=n_items, prior=prior)
    start = draw.normal(scale=0.05, size=(n_items, dimension))
    start[:, 0], start[:, 1] = tau * fit.strengths, 1.0
    return start


def _strengths(
    votes: Votes, completions: Completions | None, ids: pl.Series, v: Floats, tau: float
) -> Strengths:
    """The mean of the form against the completions of the same prompt: linear, so against their
    mean vector."""
    frame = pl.DataFrame({"completion_id": ids, "strength": 0.0, "stderr": None})
    frame = frame.with_columns(pl.col("stderr").cast(pl.Float64))
    known = with_prompts(frame, votes, completions, NAME)
    known = pl.DataFrame({"completion_id": ids}).join(
        known, on="completion_id", maintain_order="left"
    )
    prompt = (known["prompt_id"].rank("dense").to_numpy() - 1).astype(np.int64)
    n = np.bincount(prompt)
    of_prompt = sums(prompt, v, len(n))[prompt]
    others = np.maximum(n[prompt] - 1, 1)
    value = form(v, of_prompt) / others / tau  # a completion against itself adds 0
    return Strengths(known.with_columns(strength=pl.Series(value)))


def _cyclicity(counted: pl.DataFrame) -> tuple[str, str, float | None, int]:
    """Triples that beat each other in turn, among those of which each two were compared."""
    decided = counted.filter(pl.col("wins") != pl.col("losses"))
    a_wins = pl.col("wins") > pl.col("losses")
    edges = decided.select(
        winner=pl.when(a_wins).then("completion_a").otherwise("completion_b"),
        loser=pl.when(a_wins).then("completion_b").otherwise("completion_a"),
    )
    paths = edges.join(edges.rename({"winner": "loser", "loser": "last"}), on="loser")
    ends = edges.rename({"winner": "first", "loser": "second"})
    back = paths.join(ends, left_on=["last", "winner"], right_on=["first", "second"], how="semi")
    forth = paths.join(ends, left_on=["winner", "last"], right_on=["first", "second"], how="semi")
    n = back.height // 3 + forth.height  # a circle has three beginnings, an order one
    return "cyclicity", "all", back.height / 3 / n if n else None, n


def _losses(
    data: Data, n_items: int, *, prior: float, draw: np.random.Generator, **settings: Any
) -> list[tuple[str, str, float | None, int]]:
    part = draw.permutation(len(data.one)) % HELD_OUT
    inside, outside = data.only(part != 0), data.only(part == 0)
    n = float(outside.wins.sum() + outside.losses.sum())
    if not len(inside.one) or not n:
        return []
    v = fit_preference_embedding(inside, n_items, prior=prior, draw=draw, **settings)
    theta = fit_bradley_terry(*inside, n_items=n_items, prior=prior).strengths
    made: list[tuple[str, str, float | None, int]] = []
    for name, z in (
        (NAME, form(v[outside.one], v[outside.other]) / settings["tau"]),
        ("bradley_terry", theta[outside.one] - theta[outside.other]),
    ):
        loss = -(outside.wins * log_expit(z) + outside.losses * log_expit(-z)).sum() / n
        made.append(("held_out_log_loss", name, float(loss), len(outside.one)))
    return made


def _measures(rows: list[tuple[str, str, float | None, int]]) -> Measures:
    frame = pl.DataFrame(rows, schema=["measure", "subject", "value", "n"], orient="row")
    return Measures(tables.check("measures", frame, where=f"estimate.{NAME}"))
