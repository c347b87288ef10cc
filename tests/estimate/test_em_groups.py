"""Groups of people: planted ones are found, one group stays one, nobody is grouped by a vote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.special import expit

import prefdata
from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.estimate._people import Choices, held_out_users
from prefdata.estimate.em_groups import assign, em_groups, fewest, fit_groups, held_out
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Measures, Requests, Responses, Scores, Votes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def planted(
    minority: float, *, n_users: int = 80, n_votes: int = 30, width: int = 16, seed: int = 0
) -> tuple[Choices, Ints, Floats]:
    """Votes of two groups whose tastes are opposite on half of the columns, in random order."""
    draw = np.random.default_rng(seed)
    one = draw.normal(size=width) * 4 / np.sqrt(width)
    other = np.where(np.arange(width) < width // 2, -one, one)
    tastes = np.stack([one, other])
    group = np.zeros(n_users, np.int64)
    group[draw.permutation(n_users)[: round(minority * n_users)]] = 1
    user = np.repeat(np.arange(n_users), n_votes)
    x = draw.normal(size=(len(user), width))
    z = (x * tastes[group[user]]).sum(1)
    prefers_a = (draw.random(len(user)) < expit(z)).astype(float)
    names = [f"human:{at:03}" for at in range(n_users)]
    nothing = pl.DataFrame(), np.zeros((0, width))
    return Choices(names, user, np.arange(len(user)), x, prefers_a, *nothing), group, tastes


def adjusted_rand(one: Ints, other: Ints) -> float:
    """Agreement of two partitions beyond chance: 1 for the same, 0 for chance."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)

    def pairs(n: Floats) -> float:
        return float((n * (n - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected = rows * columns / pairs(np.array([float(len(one))]))
    return (both - expected) / ((rows + columns) / 2 - expected)


@pytest.mark.parametrize(("minority", "least"), [(0.5, 0.95), (0.2, 0.95), (0.1, 0.85)])
def test_users_are_put_with_their_own_kind(minority: float, least: float):
    agreement: list[float] = []
    cosines: list[float] = []
    for seed in range(3):
        seen, group, tastes = planted(minority, seed=seed)
        found = fit_groups(seen, 2, 1.0, np.random.default_rng(seed))
        agreement.append(adjusted_rand(group, found.belongs.argmax(1)))
        size = np.linalg.norm(found.weights, axis=1)[:, None] * np.linalg.norm(tastes, axis=1)
        cosines.append(float((found.weights @ tastes.T / size).max(0).min()))
    assert np.mean(agreement) >= least
    assert np.mean(cosines) >= 0.93


def test_the_likelihood_never_falls_on_the_way():
    seen, _, _ = planted(0.3, n_users=40, seed=2)
    trace = fit_groups(seen, 3, 1.0, np.random.default_rng(0)).trace
    assert len(trace) > 3
    assert np.diff(trace).min() > -1e-6 * abs(trace[0])


def supported(seen: Choices, seed: int, most: int) -> int:
    draw = np.random.default_rng(seed)
    part = draw.permutation(len(seen.x)) % 5
    losses = {k: held_out(seen, k, 1.0, part, draw) for k in range(1, most + 1)}
    return fewest(losses, held_out_users(seen, part))


def test_people_who_agree_are_one_group_and_two_kinds_are_two():
    assert supported(planted(0.0, n_users=24, seed=1)[0], 1, 2) == 1
    assert supported(planted(0.3, n_users=24, seed=1)[0], 1, 2) == 2


@pytest.mark.slow
@pytest.mark.long
def test_people_who_agree_are_one_group_over_20_worlds():
    ones = [supported(planted(0.0, n_users=40, seed=seed)[0], seed, 3) for seed in range(20)]
    twos = [supported(planted(0.3, n_users=40, seed=seed)[0], seed, 3) for seed in range(20)]
    assert ones == [1] * 20
    assert sum(k == 2 for k in twos) >= 19


def test_a_minority_is_lost_in_one_reward_and_kept_in_two():
    right: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(5):
        seen, group, tastes = planted(0.2, seed=seed)
        x = np.random.default_rng(100 + seed).normal(size=(500, 16))
        truth = x @ tastes[1] > 0
        someone = int(np.flatnonzero(group == 1)[0])
        for k in right:
            found = fit_groups(seen, k, 1.0, np.random.default_rng(seed))
            z = x @ found.weights[found.belongs[someone].argmax()]
            right[k].append(float(((z > 0) == truth).mean()))
    assert np.mean(right[1]) <= 0.65
    assert np.mean(right[2]) >= 0.85


def test_new_people_are_placed_from_their_first_ten_votes():
    seen, _, tastes = planted(0.5, seed=5)
    found = fit_groups(seen, 2, 1.0, np.random.default_rng(0))
    draw = np.random.default_rng(9)
    user, group = np.repeat(np.arange(60), 10), draw.integers(0, 2, 60)
    x = draw.normal(size=(600, 16))
    prefers = draw.random(600) < expit((x * tastes[group[user]]).sum(1))
    nothing = pl.DataFrame(), np.zeros((0, 16))
    names = [f"human:new{at}" for at in range(60)]
    new = Choices(names, user, np.arange(600), x, prefers.astype(float), *nothing)
    assert adjusted_rand(group, assign(new, found).argmax(1)) > 0.6


def test_clustering_votes_instead_of_users_would_find_nothing():
    """Each vote a user of its own: what a cheap version does."""
    seen, group, _ = planted(0.5, n_users=24, seed=6)
    n = len(seen.x)
    alone = Choices(
        [f"{at}" for at in range(n)], np.arange(n), seen.pair, seen.x, seen.prefers_a,
        seen.completions, seen.vectors,
    )  # fmt: skip
    found = fit_groups(alone, 2, 1.0, np.random.default_rng(0))
    assert adjusted_rand(group[seen.user], found.belongs.argmax(1)) < 0.5
    by_user = fit_groups(seen, 2, 1.0, np.random.default_rng(0))
    assert adjusted_rand(group, by_user.belongs.argmax(1)) > 0.9


def tables_of(seen: Choices) -> tuple[Votes, Completions, Callable[[Requests], Responses]]:
    """The same votes as tables: each two completions of a prompt, told by their vectors."""
    rows: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    known: dict[str, list[float]] = {}
    asked = [[{"role": "user", "content": f"q{at}"}] for at in range(len(seen.x))]
    prompt_ids = t.prompt_ids(asked)
    for at, prompt in enumerate(prompt_ids):
        texts = [f"one {at}", f"other {at}"]
        known |= {texts[0]: (seen.x[at] / 2).tolist(), texts[1]: (-seen.x[at] / 2).tolist()}
        answers = [[{"role": "assistant", "content": text}] for text in texts]
        ids = t.completion_ids([prompt] * 2, answers).to_list()
        said += [
            {"completion_id": i, "prompt_id": prompt, "completion": a}
            for i, a in zip(ids, answers, strict=True)
        ]
        first = ids[0] < ids[1]
        rows.append(
            {
                "completion_a": min(ids),
                "completion_b": max(ids),
                "prompt_id": prompt,
                "annotator": seen.names[seen.user[at]],
                "criterion": "all",
                "draw": 0,
                "preference": seen.prefers_a[at] if first else 1 - seen.prefers_a[at],
            }
        )

    def ask(requests: Requests) -> Responses:
        vectors = [known[messages[-1]["content"]] for messages in requests["messages"].to_list()]
        frame = pl.DataFrame({"request_id": requests["request_id"], "vector": vectors})
        return t.typed(Responses, frame.with_columns(tokens_in=0, tokens_out=0))

    return t.typed(Votes, pl.DataFrame(rows)), t.typed(Completions, pl.DataFrame(said)), ask


def run(seen: Choices, **options: Any) -> tuple[Scores, Measures]:
    votes, completions, ask = tables_of(seen)
    return drive(em_groups(votes, completions, model=Model("embeds"), **options), ask)


def test_the_tables_say_who_is_where_and_what_each_group_thinks():
    seen, group, _ = planted(0.3, n_users=30, seed=7)
    scores, measures = run(seen, most_groups=2)
    by_name = scores.filter(pl.col("score") == "group").sort("subject_id")
    assert adjusted_rand(group, by_name["value"].cast(pl.Int64).to_numpy()) > 0.85
    p = scores.filter(pl.col("score") == "group_probability").group_by("subject_id").agg(
        pl.sum("value")
    )  # fmt: skip
    assert np.allclose(p["value"], 1)
    rewards = scores.filter(pl.col("score") == "group_reward")
    least = rewards.group_by("subject_id").agg(pl.min("value")).sort("subject_id")
    worst = scores.filter(pl.col("score") == "worst_group_reward").sort("subject_id")
    assert np.allclose(least["value"], worst["value"])
    assert rewards["model"].unique().sort().to_list() == ["group:0", "group:1"]
    told = {(m, s): v for m, s, v in measures.select("measure", "subject", "value").iter_rows()}
    assert told["n_groups", "supported"] == 2
    assert told["group_share", "group:0"] > told["group_share", "group:1"]
    assert 0 <= told["group_distance", "group:1"] <= 1


def test_swapping_names_of_people_swaps_their_rows_only():
    seen, _, _ = planted(0.3, n_users=20, seed=8)
    renamed = Choices(
        [f"human:{chr(97 + at)}" for at in range(20)], seen.user, seen.pair, seen.x,
        seen.prefers_a, seen.completions, seen.vectors,
    )  # fmt: skip
    one, _ = run(seen, n_groups=2, most_groups=2)
    other, _ = run(renamed, n_groups=2, most_groups=2)
    key = ["score", "model", "value"]
    assert np.allclose(one.sort(key)["value"], other.sort(key)["value"], atol=1e-6)


def test_what_cannot_be_meant_is_refused():
    seen, _, _ = planted(0.3, n_users=4, n_votes=3)
    with pytest.raises(RecipeError, match="n_groups = 0"):
        run(seen, n_groups=0)
    with pytest.raises(RecipeError, match="no votes of 'humans:"):
        run(seen, annotators="humans:*")


@pytest.mark.slow
def test_votes_of_real_people_that_say_little_of_groups_still_come_to_an_end(
    shared: Callable[[str], pl.DataFrame], tmp_path: Path
):
    """The likelihood is flat there: it took up to 493 steps."""
    votes = shared("ukpconvarg1_votes.parquet")
    debates = votes["debate"].unique().sort().head(2)
    votes = votes.filter(pl.col("debate").is_in(debates.implode())).head(600)
    sides = pl.col("pair_id").str.split("_").list
    said = shared("ukpconvarg1_arguments.parquet").select("debate", "arg_id", "text")
    for side, place in (("completion_a", 0), ("completion_b", 1)):
        named = said.rename({"arg_id": "arg", "text": side})
        votes = votes.with_columns(arg=sides.get(place)).join(
            named, on=["debate", "arg"], maintain_order="left"
        )
    preference = pl.col("value").replace_strict({"a1": 1.0, "a2": 0.0}, default=0.5)
    who = pl.lit("human:") + pl.col("worker")
    rows = votes.select("completion_a", "completion_b", preference=preference, annotator=who)
    rows.with_columns(prompt=votes["debate"]).write_parquet(tmp_path / "votes.parquet")
    recipe = {
        "name": "ukp",
        "seed": 1,
        "sources": {"votes": "votes.parquet"},
        "models": {"m": {"client": "scripted", "model": "m"}},
        "stages": [{"use": "estimate.em_groups", "model": "m"}],
    }
    made = prefdata.build(prefdata.Recipe.parse(recipe, folder=tmp_path), data=tmp_path / "data")
    assert made.tables["scores"] > 0
