"""Circles are held where no strength can, orders are not harmed, and a and b are no places."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from prefdata import tables as t
from prefdata.aggregate.bradley_terry import fit_bradley_terry
from prefdata.errors import RecipeError
from prefdata.estimate.preference_embedding import (
    Data,
    fit_preference_embedding,
    form,
    preference_embedding,
)
from prefdata.tables import Votes

Floats = NDArray[np.float64]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def circle(n: int, votes: float = 50.0) -> Data:
    """Each beats the next, the last the first."""
    one = np.arange(n)
    return Data(one, (one + 1) % n, np.full(n, votes), np.zeros(n))


@pytest.mark.parametrize(("n", "dimension"), [(3, 4), (4, 4), (5, 4), (4, 6)])
def test_a_circle_is_held_and_bradley_terry_is_stuck_at_a_half(n: int, dimension: int):
    data = circle(n)
    for seed in range(5):
        v = fit_preference_embedding(data, n, dimension=dimension, draw=rng(seed))
        assert (expit(form(v[data.one], v[data.other]) / 0.1) > 0.9).all()
    theta = fit_bradley_terry(*data, n_items=n).strengths
    assert np.abs(theta).max() < 1e-6


def test_the_form_is_skew_symmetric_and_0_with_itself():
    v, w = rng(0).normal(size=(2, 50, 6))
    assert np.abs(form(v, w) + form(w, v)).max() < 1e-12
    assert np.abs(form(v, v)).max() < 1e-12


def sampled(p: Floats, share: float, seed: int) -> tuple[Data, Data]:
    """One vote a pair; some pairs to fit, the others held out."""
    n = len(p)
    one, other = np.triu_indices(n, 1)
    draw = rng(seed)
    won = (draw.random(len(one)) < p[one, other]).astype(float)
    data = Data(one, other, won, 1 - won)
    inside = draw.random(len(one)) < share
    return data.only(inside), data.only(~inside)


def accuracy(v: Floats, data: Data) -> float:
    return float(((form(v[data.one], v[data.other]) > 0) == (data.wins > 0.5)).mean())


def test_planted_circles_are_predicted_where_bradley_terry_is_a_coin():
    found: list[tuple[float, float]] = []
    for seed in range(3):
        v = rng(seed).normal(size=(60, 4))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        every = np.stack([form(np.repeat(v[[i]], 60, 0), v) for i in range(60)])
        inside, outside = sampled(expit(every / 0.1), 0.7, seed)
        fitted = fit_preference_embedding(inside, 60, draw=rng(seed))
        theta = fit_bradley_terry(*inside, n_items=60).strengths
        right = (theta[outside.one] > theta[outside.other]) == (outside.wins > 0.5)
        found.append((accuracy(fitted, outside), float(right.mean())))
    ours, theirs = np.mean(found, 0)
    assert ours > 0.8
    assert theirs < 0.6


def test_on_an_order_four_numbers_lose_little_to_strengths_and_one_circle_is_no_default():
    found: list[tuple[float, float]] = []
    for seed in range(4):
        theta = rng(seed).normal(size=60) * 1.5
        inside, outside = sampled(expit(theta[:, None] - theta), 0.7, seed)
        fitted = fit_preference_embedding(inside, 60, draw=rng(seed))
        strengths = fit_bradley_terry(*inside, n_items=60).strengths
        right = (strengths[outside.one] > strengths[outside.other]) == (outside.wins > 0.5)
        found.append((accuracy(fitted, outside), float(right.mean())))
    ours, theirs = np.mean(found, 0)
    assert ours > theirs - 0.03


def votes_of(n: int, winner: Callable[[int, int], float], *, draws: int = 6) -> Votes:
    """Each two of n completions of one prompt, by the probability that the first is preferred."""
    prompt = t.prompt_ids([[{"role": "user", "content": "q"}]])[0]
    said = [[{"role": "assistant", "content": f"answer {at}"}] for at in range(n)]
    ids = t.completion_ids([prompt] * n, said).to_list()
    rows: list[dict[str, Any]] = []
    for i in range(n):
        for j in range(i + 1, n):
            p = winner(i, j) if ids[i] < ids[j] else 1 - winner(i, j)
            one, other = sorted((ids[i], ids[j]))
            rows += [
                {
                    "completion_a": one, "completion_b": other, "annotator": "human:1",
                    "criterion": "all", "draw": draw, "prompt_id": prompt,
                    "preference": float(draw < round(p * draws)),
                }
                for draw in range(draws)
            ]  # fmt: skip
    return t.typed(Votes, pl.DataFrame(rows))


def told(measures: pl.DataFrame, measure: str, subject: str = "all") -> float:
    return measures.filter(measure=measure, subject=subject)["value"].item()


def test_cyclicity_counts_circles_among_triples():
    order = preference_embedding(votes_of(6, lambda i, j: 0.9))
    assert told(order[2], "cyclicity") == 0
    assert order[2].filter(measure="cyclicity")["n"].item() == 20
    stone_paper = votes_of(3, lambda i, j: 1.0 if (j - i) % 3 == 1 else 0.0)
    assert told(preference_embedding(stone_paper)[2], "cyclicity") == 1
    chance = rng(0).random((40, 40)) < 0.5
    random = votes_of(40, lambda i, j: float(chance[i, j]), draws=1)
    assert told(preference_embedding(random, restarts=1)[2], "cyclicity") == pytest.approx(
        0.25, abs=0.02
    )


def test_strengths_of_an_order_are_in_its_order():
    votes = votes_of(7, lambda i, j: 0.85)
    strengths, scores, _ = preference_embedding(votes)
    said = [[{"role": "assistant", "content": f"answer {at}"}] for at in range(7)]
    ids = t.completion_ids([votes["prompt_id"][0]] * 7, said)
    ordered = pl.DataFrame({"completion_id": ids}).join(
        strengths, on="completion_id", maintain_order="left"
    )
    assert (ordered["strength"].diff().drop_nulls() < 0).all()
    assert strengths["estimator"].unique().to_list() == ["preference_embedding"]
    assert scores["score"].unique().to_list() == ["preference"]
    assert scores.height == 21
    t.check("strengths", strengths, where="test")


def test_swapping_a_and_b_of_every_vote_changes_no_probability(
    shuffled: Callable[..., pl.DataFrame],
):
    votes = votes_of(6, lambda i, j: 0.8 if (i + j) % 3 else 0.3)
    one = preference_embedding(votes)[1].sort("subject_id")
    other = preference_embedding(Votes(shuffled(votes, 2)))[1].sort("subject_id")
    assert np.allclose(one["value"], other["value"], atol=1e-6)
    reversed_votes = Votes(votes.with_columns(preference=1 - pl.col("preference")))
    mirrored = preference_embedding(reversed_votes)[1].sort("subject_id")
    assert np.allclose(one["value"], 1 - mirrored["value"], atol=2e-3)


def test_no_votes_give_nothing_and_odd_dimensions_are_refused():
    votes = votes_of(3, lambda i, j: 1.0)
    assert all(frame.is_empty() for frame in preference_embedding(Votes(votes.clear())))
    with pytest.raises(RecipeError, match="dimension = 3"):
        preference_embedding(votes, dimension=3)
