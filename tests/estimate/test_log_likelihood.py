"""Likelihoods of completions, and beside their pairs: sums, means, lengths, failures."""

from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.estimate.log_likelihood import log_likelihood
from prefdata.models.client import response, responses
from prefdata.stage import Model, drive
from prefdata.tables import Requests, Responses

REFERENCE = Model("reference", identity="planted")


def logprobs_of(text: str) -> list[float]:
    """One token a word, the end included."""
    return [-0.25 * (len(word) + at) for at, word in enumerate([*text.split(), "<end>"])]


def ask(requests: Requests, fails: str = "nobody says this") -> Responses:
    made: list[dict[str, Any]] = []
    for row in requests.iter_rows(named=True):
        text = row["completion"][0]["content"]
        said = [{"token": "t", "logprob": p} for p in logprobs_of(text)]
        if fails in text:
            made.append(response(row["request_id"], error="planted failure"))
        else:
            total = sum(each["logprob"] for each in said)
            made.append(response(row["request_id"], logprobs=said, number=total))
    return responses(made)


def value(scores: pl.DataFrame, name: str) -> dict[str, float]:
    return dict(scores.filter(pl.col("score") == name).select("subject_id", "value").iter_rows())


def test_sums_means_and_lengths_stand_on_completions_and_beside_pairs(world: Any):
    made = world(4, 3)
    scores = drive(
        log_likelihood(made["prompts"], made["completions"], made["pairs"], model=REFERENCE), ask
    )
    tables.check("scores", scores, where="test")
    said = {
        i: logprobs_of(turns[0]["content"])
        for i, turns in made["completions"].select("completion_id", "completion").iter_rows()
    }
    assert value(scores, "logp") == pytest.approx({i: sum(p) for i, p in said.items()})
    means = {i: sum(p) / len(p) for i, p in said.items()}
    assert value(scores, "logp_per_token") == pytest.approx(means)
    for side in ("chosen", "rejected"):
        ids = dict(made["pairs"].select("pair_id", f"{side}_id").iter_rows())
        sums = {pair: sum(said[i]) for pair, i in ids.items()}
        assert value(scores, f"ref_logp_{side}") == pytest.approx(sums)
        per_token = {pair: means[i] for pair, i in ids.items()}
        assert value(scores, f"ref_logp_{side}_per_token") == pytest.approx(per_token)
        assert value(scores, f"n_tokens_{side}") == {p: len(said[i]) for p, i in ids.items()}


def test_without_pairs_only_completions_are_scored(world: Any):
    made = world(2, 2)
    scores = drive(log_likelihood(made["prompts"], made["completions"], model=REFERENCE), ask)
    assert set(scores["subject"]) == {"completion"}
    assert scores.height == 3 * made["completions"].height


def test_a_failed_request_leaves_no_zero(world: Any):
    made = world(2, 3)
    scores = drive(
        log_likelihood(made["prompts"], made["completions"], made["pairs"], model=REFERENCE),
        lambda requests: ask(requests, fails="answer 1"),
    )
    assert scores.filter(pl.col("score") == "logp").height == 4
    assert scores.filter(pl.col("score") == "ref_logp_chosen").height == 2
