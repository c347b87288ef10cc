"""Ideal points: planted ones are found, new people are placed by few votes, one kind is one."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.estimate._people import Choices, held_out_users
from prefdata.estimate.em_groups import fewest
from prefdata.estimate.ideal_point import (
    few_shot,
    fit_ideal_points,
    held_out,
    ideal_point,
    log_odds,
    people,
    place,
)
from prefdata.stage import Model, drive

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WIDTH = 8


def planted(
    seed: int,
    *,
    kinds: int = 2,
    n_people: int = 40,
    n_votes: int = 30,
    share: Floats | None = None,
    flips: float = 0.05,
) -> tuple[Floats, Floats, Ints, Floats, Ints]:
    """Two completions of each vote, who votes, whether for the first, and each person's kind.

    Everyone prefers the one that is nearer to its ideal; `share` is that of the second of two
    ideals in each person's own.
    """
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(kinds, WIDTH))
    kind = draw.permutation(np.arange(n_people) % kinds)
    ideals = points[kind] if share is None else points[0] + share[:, None] * (points[1] - points[0])
    user = np.repeat(np.arange(n_people), n_votes)
    first, other = draw.normal(size=(2, len(user), WIDTH))
    ideal = ideals[user]
    nearer = ((first - ideal) ** 2).sum(1) < ((other - ideal) ** 2).sum(1)
    return first, other, user, (nearer ^ (draw.random(len(user)) < flips)).astype(float), kind


def as_choices(first: Floats, other: Floats, user: Ints, y: Floats) -> Choices:
    def whole(v: Floats) -> Floats:
        return np.column_stack([v, -(v**2).sum(1) / np.sqrt(WIDTH)])

    names = [f"human:{at:03}" for at in range(user.max() + 1)]
    x = whole(first) - whole(other)
    return Choices(names, user, np.arange(len(x)), x, y, pl.DataFrame(), np.zeros((0, WIDTH + 1)))


def supported(seen: Choices, seed: int, most: int) -> int:
    draw = np.random.default_rng(seed)
    part = draw.permutation(len(seen.x)) % 5
    losses = {k: held_out(seen, k, 1.0, part, draw) for k in range(1, most + 1)}
    return fewest(losses, held_out_users(seen, part))


def test_two_ideals_foretell_what_one_cannot_and_people_are_put_with_their_kind():
    right: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(3):
        *world, kind = planted(seed)
        seen = as_choices(*world)
        part = np.random.default_rng(seed).permutation(len(seen.x)) % 5
        outside = seen.only(part == 0)
        for k in right:
            found = fit_ideal_points(seen.only(part != 0), k, 1.0, np.random.default_rng(seed))
            z = log_odds(outside, found, found.weights)
            right[k].append(float(((z > 0) == (outside.prefers_a == 1)).mean()))
        group = found.weights.argmax(1)
        assert max((group == kind).mean(), (group != kind).mean()) >= 0.9
    assert np.mean(right[2]) >= 0.86
    assert np.mean(right[2]) - np.mean(right[1]) >= 0.08


def test_one_ideal_is_one_group_and_two_are_two():
    ones = [supported(as_choices(*planted(seed, kinds=1)[:4]), seed, 2) for seed in range(3)]
    twos = [supported(as_choices(*planted(seed)[:4]), seed, 3) for seed in range(2)]
    assert ones == [1] * 3
    assert twos == [2] * 2


def test_new_people_are_placed_by_a_few_votes_with_the_rest_held():
    by_shots: dict[int, list[float]] = {}
    for seed in range(3):
        seen = as_choices(*planted(seed, n_people=60)[:4])
        for each in few_shot(seen, 2, 1.0, np.random.default_rng(seed)):
            by_shots.setdefault(each.n_votes, []).append(each.accuracy)
    mean = {n: np.mean(each) for n, each in by_shots.items()}
    assert list(mean) == [0, 2, 5, 10, 20]
    assert mean[20] >= 0.86
    assert mean[0] + 0.05 < mean[2] < mean[20]


def test_a_person_alone_cannot_be_learnt_from_its_few_votes():
    """What a cheap version does, a model for each person: it does not reach what all share."""
    first, other, user, y, _ = planted(5, n_votes=15)
    seen = as_choices(first, other, user, y)
    together = fit_ideal_points(seen, 2, 1.0, np.random.default_rng(0))
    draw = np.random.default_rng(0)
    right: list[float] = []
    points = np.random.default_rng(5).normal(size=(2, WIDTH))  # as planted
    for one in range(10):
        mask = np.arange(40) == one
        own = people(seen, mask)
        alone = fit_ideal_points(own, 1, 1.0, draw)
        new = np.random.default_rng(one).normal(size=(2, 300, WIDTH))
        kind = planted(5, n_votes=15)[4][one]
        away = ((new - points[kind]) ** 2).sum(2)
        asked = as_choices(new[0], new[1], np.zeros(300, np.int64), (away[0] < away[1]) * 1.0)
        for found, weights, at in ((alone, alone.weights, 0), (together, together.weights, one)):
            z = log_odds(asked, found, weights[at : at + 1])
            right.append(float(((z > 0) == (asked.prefers_a == 1)).mean()))
    assert np.mean(right[1::2]) > np.mean(right[::2]) + 0.05


def test_people_between_two_ideals_have_weights_between():
    share = np.linspace(0, 1, 60)
    *world, _ = planted(6, n_people=60, n_votes=60, share=share, flips=0.02)
    found = fit_ideal_points(as_choices(*world), 2, 1.0, np.random.default_rng(0))
    assert abs(np.corrcoef(found.weights[:, 0], share)[0, 1]) > 0.9
    assert np.allclose(found.weights.sum(1), 1)
    assert found.weights.min() >= 0


def test_the_gradient_is_nought_at_what_is_found():
    """Moving any prototype a little either way makes the votes less likely."""
    seen = as_choices(*planted(7)[:4])
    found = fit_ideal_points(seen, 2, 1.0, np.random.default_rng(0))

    def loss(q: Floats) -> float:
        z = log_odds(seen, replace_q(q), found.weights)
        y = seen.prefers_a
        fit = np.logaddexp(0, -z) * y + np.logaddexp(0, z) * (1 - y)
        return float(fit.sum() + (q[:, :-1] ** 2).sum() / 2)

    def replace_q(q: Floats) -> Any:
        return found._replace(q=q)

    at = loss(found.q)
    draw = np.random.default_rng(1)
    for _ in range(20):
        step = draw.normal(size=found.q.shape) * 0.02
        step[:, -1] = 0
        assert loss(found.q + step) > at - 1e-3


def test_someone_without_votes_is_the_average_person():
    seen = as_choices(*planted(8)[:4])
    found = fit_ideal_points(seen, 2, 1.0, np.random.default_rng(0))
    nobody = replace(seen.only(np.zeros(len(seen.x), bool)), names=["human:new"])
    average = np.exp(found.average) / np.exp(found.average).sum()
    assert np.allclose(place(nobody, found), average)


def run(world: Any, **options: Any) -> Any:
    votes, completions, ask = world
    return drive(ideal_point(votes, completions, model=Model("embeds"), **options), ask)


def test_the_tables_say_who_leans_where(ballots: Any, shuffled: Any):
    first, other, user, y, kind = planted(9, n_people=30)
    names = [f"human:{at:02}" for at in user]
    votes, completions, ask = ballots(first, other, names, y)
    scores, measures = run((votes, completions, ask), most_groups=2)
    by_name = scores.filter(pl.col("score") == "ideal_group").sort("subject_id")
    group = by_name["value"].to_numpy()
    assert max((group == kind).mean(), (group != kind).mean()) >= 0.9
    weights = scores.filter(pl.col("score") == "ideal_weight")
    assert np.allclose(weights.group_by("subject_id").agg(pl.sum("value"))["value"], 1)
    told = dict(measures.select(pl.concat_str("measure", "subject", separator="|"), "value").rows())
    assert told["n_groups|ideal_point: supported"] == 2
    assert told["few_shot_accuracy|ideal_point: 20 votes"] > 0.8
    own = scores.filter(pl.col("score") == "ideal_preference")
    pairs = t.pair_ids(votes["completion_a"], votes["completion_b"])
    said = votes.select(subject_id=pairs, model="annotator", said="preference")
    both = own.join(said, on=["subject_id", "model"])
    assert both.height == votes.height
    assert ((both["value"] > 0.5) == (both["said"] > 0.5)).mean() > 0.85
    again = run((shuffled(votes, 1), shuffled(completions, 2), ask), most_groups=2)
    assert scores.sort(scores.columns[:4]).equals(again[0].sort(scores.columns[:4]))
    assert measures.equals(again[1])


def test_people_with_few_votes_are_placed_and_shape_nothing(ballots: Any):
    first, other, user, y, _ = planted(10, n_people=20)
    names = [f"human:{at:02}" for at in user]
    whole = run(ballots(first, other, names, y), n_groups=2, most_groups=1)[0]
    new = np.random.default_rng(1).normal(size=(2, 3, WIDTH))
    more = ballots(
        np.vstack([first, new[0]]), np.vstack([other, new[1]]),
        [*names, "human:new", "human:new", "human:new"], np.append(y, [1.0, 1.0, 1.0]),
    )  # fmt: skip
    scores = run(more, n_groups=2, most_groups=1)[0]
    is_reward = pl.col("score") == "ideal_reward"
    both = whole.filter(is_reward).join(scores.filter(is_reward), on=["subject_id", "model"])
    # The scale is set by the vectors of all votes, so that it is equal but for that.
    assert np.corrcoef(both["value"], both["value_right"])[0, 1] > 0.999
    placed = scores.filter(
        (pl.col("subject_id") == "human:new") & (pl.col("score") == "ideal_weight")
    )
    assert placed.height == 2


def test_what_cannot_be_meant_is_refused(ballots: Any):
    world = ballots(*planted(11, n_people=2, n_votes=3)[:2], ["human:a"] * 6, np.ones(6))
    with pytest.raises(RecipeError, match="n_groups = 0"):
        run(world, n_groups=0)
    with pytest.raises(RecipeError, match="no votes of 'humans:"):
        run(world, annotators="humans:*")
    _, measures = run(world)  # a single person is one group, and nobody is left to be new
    assert measures.filter(pl.col("measure") == "few_shot_accuracy").is_empty()
