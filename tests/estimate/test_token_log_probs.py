"""Likelihoods by token: what stands where, and what a trainer can make of the likeliest ones."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate.token_log_probs import token_log_probs
from prefdata.models.client import response, responses
from prefdata.stage import Model, drive
from prefdata.tables import Requests, Responses

REFERENCE = Model("reference", identity="planted")
SIZE = 200


def spread(text: str, at: int, seed: int = 0) -> np.ndarray:
    """The log-probabilities of all tokens in one place of a text."""
    drawn = np.random.default_rng([seed, at, *text.encode()]).gumbel(size=SIZE) * 2
    return drawn - np.log(np.exp(drawn).sum())


class Reference:
    """A model of 200 tokens, of which the words of a completion are some; the prompt is two."""

    def __init__(self, top: int = 0, fails: str = "nobody says this") -> None:
        self.top, self.fails = top, fails

    @staticmethod
    def ids(text: str) -> list[int]:
        return [sum(word.encode()) % SIZE for word in text.split()]

    def __call__(self, requests: Requests) -> Responses:
        return responses(self.reply(row) for row in requests.iter_rows(named=True))

    def reply(self, row: dict[str, Any]) -> dict[str, Any]:
        text = row["completion"][0]["content"]
        if self.fails in text:
            return response(row["request_id"], error="planted failure")
        ids = self.ids(text)
        places = [spread(text, at) for at in range(len(ids))]
        said = [{"token": "t", "logprob": p[i]} for i, p in zip(ids, places, strict=True)]
        more: dict[str, Any] = {}
        if self.top:
            likeliest = [np.argsort(-p)[: self.top] for p in places]
            more["top"] = [
                [{"id": int(i), "logprob": float(p[i])} for i in best]
                for p, best in zip(places, likeliest, strict=True)
            ]
            left = [np.delete(p, best) for p, best in zip(places, likeliest, strict=True)]
            more["rest"] = [float(np.log(np.exp(p).sum())) if len(p) else None for p in left]
        total = sum(each["logprob"] for each in said)
        return response(
            row["request_id"], logprobs=said, token_ids=[3, 4, *ids], number=total, **more
        )


def known(made: Any, top: int = 0, **how: Any) -> pl.DataFrame:
    ask = Reference(top, **how)
    asks = token_log_probs(
        made["prompts"], made["completions"], made["pairs"], model=REFERENCE, top=top
    )
    return tables.check("likelihoods", drive(asks, ask), where="test")


def test_each_token_of_a_completion_has_its_own_and_none_of_the_prompt_has(world: Any):
    made = world(4, 3)
    rows = known(made)
    assert set(rows["completion_id"]) == set(made["completions"]["completion_id"])
    told = dict(made["completions"].select("completion_id", "completion").iter_rows())
    for row in rows.iter_rows(named=True):
        text = told[row["completion_id"]][0]["content"]
        assert row["token_ids"] == Reference.ids(text)
        assert row["prompt_token_ids"] == [3, 4]
        expected = [spread(text, at)[i] for at, i in enumerate(row["token_ids"])]
        np.testing.assert_allclose(row["logps"], expected)
        assert row["topk_ids"] is row["topk_logps"] is row["tail_logps"] is None


def divergence(row: dict[str, Any], text: str, seed: int) -> float:
    """KL(reference || policy) over a text, the tokens beyond the likeliest taken for one."""
    total = 0.0
    places = zip(row["topk_ids"], row["topk_logps"], row["tail_logps"], strict=True)
    for at, (ids, logps, tail) in enumerate(places):
        policy = spread(text, at, seed)
        ref, other = np.array(logps), policy[ids]
        total += float(np.exp(ref) @ (ref - other))
        if tail is not None:
            left = np.log1p(-min(np.exp(other).sum(), 1.0))
            total += float(np.exp(tail) * (tail - left))
    return total


def test_the_divergence_from_the_likeliest_is_a_bound_that_closes(world: Any):
    made = world(3, 2)
    told = dict(made["completions"].select("completion_id", "completion").iter_rows())
    found: dict[int, list[float]] = {}
    for top in (1, 8, 64, SIZE):
        rows = known(made, top).iter_rows(named=True)
        found[top] = [divergence(r, told[r["completion_id"]][0]["content"], 1) for r in rows]
    exact = []
    for i in sorted(told):
        text = told[i][0]["content"]
        both = [(spread(text, at), spread(text, at, 1)) for at in range(len(text.split()))]
        exact.append(sum(float(np.exp(p) @ (p - q)) for p, q in both))
    widths = np.array([found[top] for top in (1, 8, 64, SIZE)])
    assert (np.diff(widths, axis=0) >= -1e-9).all()
    np.testing.assert_allclose(widths[-1], exact, rtol=1e-9)
    assert (widths[0] < 0.9 * np.array(exact)).all()
    same = [
        divergence(r, told[r["completion_id"]][0]["content"], 0)
        for r in known(made, 8).iter_rows(named=True)
    ]
    np.testing.assert_allclose(same, 0, atol=1e-9)


def test_a_failed_request_leaves_no_row_and_others_alone(world: Any):
    made = world(3, 3)
    rows = known(made, fails="answer 1")
    assert rows.height == 6
    made["pairs"] = made["pairs"].head(1)
    assert known(made).height == 2


def test_fewer_than_no_tokens_are_refused(world: Any):
    with pytest.raises(RecipeError, match="top is -1"):
        known(world(1, 2), top=-1)
