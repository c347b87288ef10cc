"""Latent vectors of people: new people by few votes, nobody told apart who agrees."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.estimate._people import Choices
from prefdata.estimate.em_groups import fewest
from prefdata.estimate.user_latent import (
    fit_latents,
    held_out,
    infer,
    preferred,
    principal,
    user_latent,
)
from prefdata.models.client import response, responses
from prefdata.stage import Model, drive
from prefdata.tables import Requests, Responses

Floats = NDArray[np.float64]
WIDTH, KINDS = 16, 4
EMBEDS = Model("embeds", identity="planted")


def planted(
    seed: int, n_people: int, n_votes: int, *, kinds: int = KINDS, world: int = 0, size: float = 4.0
) -> tuple[Choices, NDArray[np.int64]]:
    """People of kinds whose rewards stand at right angles; votes by the sigmoid of the reward."""
    turned, _ = np.linalg.qr(np.random.default_rng(world).normal(size=(WIDTH, WIDTH)))
    directions = size * turned[:kinds]
    draw = np.random.default_rng(seed + 100)
    kind = draw.permutation(np.arange(n_people) % kinds)
    user = np.repeat(np.arange(n_people), n_votes)
    x = draw.normal(size=(len(user), WIDTH))
    p = 1 / (1 + np.exp(-(x * directions[kind[user]]).sum(1)))
    y = (draw.random(len(user)) < p).astype(float)
    names = [f"human:{at:03}" for at in range(n_people)]
    none = np.zeros((0, WIDTH))
    return Choices(names, user, np.arange(len(x)), x, y, pl.DataFrame(), none), kind


def right(seen: Choices, p: Floats) -> float:
    return float(((p > 0.5) == (seen.prefers_a == 1)).mean())


def test_new_people_are_foretold_from_a_few_votes_and_better_from_more():
    """Fitted to some people, asked about others, whose kind nobody states."""
    seen, _ = planted(1, 120, 40)
    found = fit_latents(seen, KINDS - 1, 1.0)
    outside, kind = planted(2, 200, 60)
    later = np.arange(len(outside.x)) % 60 >= 16
    asked = outside.only(later)
    foretold: dict[int, float] = {}
    doubt: dict[int, float] = {}
    for n in (0, 1, 8, 16):
        context = outside.only(np.arange(len(outside.x)) % 60 < n)
        q = infer(context, found.mean, found.basis)
        foretold[n] = right(asked, preferred(asked, found.mean, found.basis, *q))
        doubt[n] = float(np.trace(q[1], axis1=1, axis2=2).mean())
    assert foretold[0] < 0.68  # the mean of four directions at right angles
    assert foretold[0] + 0.02 < foretold[1] < foretold[8] < foretold[16]
    assert foretold[16] > foretold[0] + 0.1
    assert doubt[0] == pytest.approx(KINDS - 1)
    assert doubt[0] > doubt[1] > doubt[8] > doubt[16]
    # Votes of somebody else say nothing: it is the context that told.
    mixed = np.random.default_rng(0).permutation(200)
    context = outside.only(np.arange(len(outside.x)) % 60 < 16)
    place, cover = infer(context, found.mean, found.basis)
    wrong = preferred(asked, found.mean, found.basis, place[mixed], cover[mixed])
    assert right(asked, wrong) < foretold[0] + 0.02
    assert len(set(kind)) == KINDS


def test_places_tell_the_kinds_apart():
    seen, kind = planted(3, 100, 60)
    place = fit_latents(seen, KINDS - 1, 1.0).place
    centres = np.stack([place[kind == k].mean(0) for k in range(KINDS)])
    nearest = ((place[:, None] - centres) ** 2).sum(2).argmin(1)
    assert (nearest == kind).mean() >= 0.95


def test_the_bound_never_falls_and_dimensions_are_in_order():
    seen, _ = planted(4, 40, 30)
    found = fit_latents(seen, 3, 1.0)
    assert len(found.trace) > 3
    assert (np.diff(found.trace) > -1e-6).all()
    gram = found.basis.T @ found.basis
    assert np.allclose(gram, np.diag(np.diag(gram)), atol=1e-8)
    assert (np.diff(np.diag(gram)) <= 1e-9).all()


@pytest.mark.parametrize(("kinds", "least", "most"), [(1, 0, 0), (2, 1, 1), (4, 2, 3)])
def test_votes_support_as_many_dimensions_as_people_differ_in(kinds: int, least: int, most: int):
    seen, _ = planted(1, 60, 40, kinds=kinds, world=1)
    part = np.random.default_rng(1).permutation(len(seen.x)) % 5
    losses = {k: held_out(seen, k, 1.0, part) for k in range(5)}
    assert least <= fewest(losses, seen.user) <= most


def test_swapped_sides_swap_what_is_said():
    seen, _ = planted(5, 30, 30)
    turned = Choices(
        seen.names, seen.user, seen.pair, -seen.x, 1 - seen.prefers_a, seen.completions,
        seen.vectors,
    )  # fmt: skip
    p, q = (preferred(s, *fit_latents(s, 2, 1.0)[:4]) for s in (seen, turned))
    assert np.allclose(p, 1 - q, atol=1e-6)


def test_principal_columns_keep_what_differs():
    seen, _ = planted(6, 20, 40)
    wide = np.column_stack([seen.x, np.zeros((len(seen.x), 20))])
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(36, 36)))
    whole = Choices(
        seen.names, seen.user, seen.pair, wide @ turn, seen.prefers_a, seen.completions,
        np.zeros((0, 36)),
    )  # fmt: skip
    kept = principal(whole, WIDTH)
    scale = np.sqrt((seen.x**2).mean())
    gram = (seen.x / scale) @ (seen.x / scale).T
    assert np.allclose(kept.x @ kept.x.T, gram, atol=1e-8)


def voted(seed: int) -> tuple[Any, Any, Any]:
    """Votes of two kinds of people on the pairs of a few prompts, and who embeds."""
    draw = np.random.default_rng(seed)
    n = 40
    asked = [[{"role": "user", "content": f"question {at}"}] for at in range(n)]
    ids = t.prompt_ids(asked)
    said = [[{"role": "assistant", "content": f"answer {at}"}] for at in range(2 * n)]
    made = pl.DataFrame({"prompt_id": [*ids, *ids], "completion": said})
    made = made.with_columns(t.completion_ids(made["prompt_id"], said))
    vectors = draw.normal(size=(2 * n, 6))
    known = {f"answer {at}": vectors[at] for at in range(2 * n)}
    places = {each: at for at, each in enumerate(made["completion_id"])}
    directions = np.array([[6.0, 0, 0, 0, 0, 0], [0, 6.0, 0, 0, 0, 0]])
    rows: list[dict[str, Any]] = []
    for person in range(16):
        for at in range(n):
            a, b = sorted([made["completion_id"][at], made["completion_id"][n + at]])
            apart = vectors[places[a]] - vectors[places[b]]
            likes = draw.random() < 1 / (1 + np.exp(-apart @ directions[person % 2]))
            rows.append(
                {
                    "prompt_id": ids[at],
                    "completion_a": a,
                    "completion_b": b,
                    "annotator": f"human:{person:02}",
                    "criterion": "helpfulness",
                    "draw": 0,
                    "preference": float(likes),
                }
            )
    votes = t.check("votes", pl.DataFrame(rows), where="test")

    def ask(requests: Requests) -> Responses:
        return responses(
            response(r["request_id"], vector=known[r["messages"][-1]["content"]].tolist())
            for r in requests.to_dicts()
        )

    return votes, t.check("completions", made, where="test"), ask


def test_the_stage_says_who_stands_where_and_which_pairs_part_people(shuffled: Any):
    votes, completions, ask = voted(0)
    options: dict[str, Any] = {"model": EMBEDS, "most_groups": 2}
    scores, measures = drive(user_latent(votes, completions, **options), ask)
    t.check("scores", scores, where="test")
    number = measures.filter(
        pl.col("measure") == "n_dimensions", pl.col("subject") == "user_latent: supported"
    )
    assert number["value"].to_list() == [1.0]
    latent = scores.filter(pl.col("score") == "latent").sort("subject_id")
    side = latent["value"].to_numpy() > latent["value"].to_numpy().mean()
    kind = np.arange(16) % 2 == 0
    assert (side == kind).all() or (side != kind).all()
    assert (latent["stderr"] < 1).all()
    said = scores.filter(pl.col("score") == "latent_preference")
    assert said.height == votes.height
    assert said["value"].is_between(0, 1).all()
    assert scores.filter(pl.col("score") == "controversy").height == 40
    again, _ = drive(user_latent(shuffled(votes, 1), shuffled(completions, 2), **options), ask)
    key = ["score", "subject_id", "model"]
    one, other = scores.sort(key), again.sort(key)
    assert one.select(key).equals(other.select(key))
    assert np.allclose(one["value"], other["value"], atol=1e-6)


def test_options_out_of_range_are_refused():
    votes, completions, ask = voted(1)
    with pytest.raises(RecipeError, match="precision = 0"):
        drive(user_latent(votes, completions, model=EMBEDS, precision=0), ask)
    with pytest.raises(RecipeError, match="robot"):
        drive(user_latent(votes, completions, model=EMBEDS, annotators="robot:*"), ask)
