"""Every kind that scores with models, end to end through the ledger, by real (tiny) models."""

import importlib.util
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import tables as t
from prefdata.annotate.follow_up import follow_up
from prefdata.annotate.implicit_reward import implicit_reward
from prefdata.annotate.pair_ranker import pair_ranker
from prefdata.annotate.relevance import relevance
from prefdata.annotate.reward_model import reward_model
from prefdata.estimate.self_refine_labels import self_refine_labels
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stage import drive
from prefdata.tables import Pairs, Scores, Votes
from tests.annotate.planted import world
from tests.models import tiny

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="torch and transformers are not installed"),
]
TEXTS = {
    "Name a colour.": ["Red.", "Blue, I think.", "qq"],
    "What is 2+2?": ["4", "It is four.", "Ask somebody else."],
}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    folder = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {
        "policy": tiny.causal(folder / "policy"),
        "start": tiny.causal(folder / "start", seed=2),
        "rewarder": tiny.reward(folder / "rewarder"),
        "ranker": tiny.cross_encoder(folder / "ranker"),
        "retriever": tiny.encoder(folder / "retriever"),
    }
    how = {"client": "local", "engine": {"device": "cpu"}}
    return {role: ModelSpec(model=str(path), **how) for role, path in made.items()}


def ran(make: Any, specs: dict[str, ModelSpec], folder: Path) -> Any:
    """What a stage makes, twice: the second time nothing is left to ask of a model."""
    models = {role: spec.resolve(role) for role, spec in specs.items()}
    with Edge(specs, Ledger(folder / "ledger")) as edge:
        first = drive(make(models), edge)
    with Edge(specs, Ledger(folder / "ledger")) as edge:
        again = drive(make(models), edge)
        assert edge.counts.asked == 0
    several = isinstance(first, tuple)
    for one, other in zip(first, again, strict=True) if several else [(first, again)]:
        assert one.equals(other)
        assert "unscored" not in one.columns or one["unscored"].null_count() == one.height
    return first


def test_rewards(specs: dict[str, ModelSpec], tmp_path: Path):
    given = world(TEXTS)
    scores, votes, _ = ran(lambda m: reward_model(*given, models=[m["rewarder"]]), specs, tmp_path)
    assert t.typed(Scores, scores)["value"].n_unique() == 6
    assert t.typed(Votes, votes)["preference"].is_between(0, 1, closed="none").all()


def test_ranks(specs: dict[str, ModelSpec], tmp_path: Path):
    given = world(TEXTS)
    votes = ran(lambda m: pair_ranker(*given, model=m["ranker"]), specs, tmp_path)
    assert t.typed(Votes, votes).height == 2 * 6
    # Both candidates are read: the orders give different numbers.
    assert votes["preference"].n_unique() > 6


def test_implicit_rewards_and_refined_labels(specs: dict[str, ModelSpec], tmp_path: Path):
    prompts, completions = given = world(TEXTS)
    scores, votes = ran(
        lambda m: implicit_reward(*given, policy=m["policy"], reference=m["start"], beta=1.0),
        specs,
        tmp_path,
    )
    value = dict(scores.select("subject_id", "value").iter_rows())
    assert len(value) == 6
    chosen, rejected = votes["completion_a"].to_list(), votes["completion_b"].to_list()
    made = votes.select("prompt_id", chosen_id="completion_a", rejected_id="completion_b")
    made = made.with_columns(
        t.pair_ids(chosen, rejected),
        soft_label=pl.lit(1.0),
        n_votes=pl.lit(1, pl.Int64),
    )
    pairs = t.typed(Pairs, made)
    refined = ran(
        lambda m: self_refine_labels(
            pairs, prompts, completions,
            policy=m["policy"], reference=m["start"], beta=1.0, share=0.5,
        ),
        specs,
        tmp_path,
    )  # fmt: skip
    margin = refined.filter(pl.col("score") == "implicit_reward")
    margin = dict(margin.select("subject_id", "value").iter_rows())
    for row in pairs.to_dicts():
        lead = value[row["chosen_id"]] - value[row["rejected_id"]]
        assert margin[row["pair_id"]] == pytest.approx(lead, abs=1e-6)


def test_follow_ups(specs: dict[str, ModelSpec], tmp_path: Path):
    given = world(TEXTS)
    scores, votes = ran(lambda m: follow_up(*given, model=m["policy"]), specs, tmp_path)
    assert scores.height == 3 * 6
    halves = scores.filter(pl.col("score") != "follow_up")
    assert (halves["value"] < 0).all()
    assert votes.height == 6


def test_relevance(specs: dict[str, ModelSpec], tmp_path: Path):
    given = world(TEXTS, {"What is 2+2?": "4"})
    scores, votes = ran(lambda m: relevance(*given, model=m["retriever"]), specs, tmp_path)
    assert t.typed(Scores, scores).filter(pl.col("score") == "relevance").height == 6
    assert votes.height == 6
