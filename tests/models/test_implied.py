"""Follow-ups and implicit rewards of tiny models, against plain passes of transformers."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata.annotate.follow_up import NEGATIVE, POSITIVE, follow_up
from prefdata.annotate.implicit_reward import implicit_reward
from prefdata.estimate.log_likelihood import log_likelihood
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.stage import drive
from tests.annotate.planted import text_of, world
from tests.models.conftest import load, spec_for

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
        reason="torch and transformers are not installed (make test-slow)",
    ),
]
TEXTS = {"Name a colour.": ["Red.", "I would say blue."], "2+2?": ["4", "Five, or about that"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("models")
    tiny = load("tiny")
    return tiny.causal(made / "policy", seed=1), tiny.causal(made / "reference", seed=2)


@cache
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return AutoTokenizer.from_pretrained(folder), model


def logps(folder: Path, turns: list[tuple[str, str]], header: str) -> np.ndarray:
    """Those of the last turn's tokens, its end and what follows it among them, by one pass."""
    import torch

    tokenizer, model = loaded(folder)
    *context, (_, last) = turns
    before = "".join(f"<|{role}|>{said}<|end|>\n" for role, said in context) + header
    head, ids = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (before, f"{before}{last}<|end|>\n")
    )
    with torch.no_grad():
        spread = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return np.array([float(spread[at - 1, ids[at]]) for at in range(len(head), len(ids))])


def test_a_follow_up_counts_by_its_own_tokens_behind_the_users_header(
    folders: tuple[Path, Path], tmp_path: Path
):
    """Forty of them: neither header nor end, nor the completion before, is in the mean."""
    prompts, completions = world(TEXTS)
    spec = spec_for(folders[0])
    with Edge({"lm": spec}, Ledger(tmp_path)) as edge:
        scores, _ = drive(follow_up(prompts, completions, model=spec.resolve("lm")), edge)
    assert edge.counts.asked == 4 * (len(POSITIVE) + len(NEGATIVE))
    texts = text_of(completions)
    asked = {said: prompt for prompt, both in TEXTS.items() for said in both}
    for name, follows in (("positive", POSITIVE), ("negative", NEGATIVE)):
        found = scores.filter(pl.col("score") == f"follow_up_{name}")
        assert found.height == 4
        for key, value in found.select("subject_id", "value").iter_rows():
            context = [("user", asked[texts[key]]), ("assistant", texts[key])]
            means = [
                logps(folders[0], [*context, ("user", each)], "<|user|>")[:-2].mean()
                for each in follows
            ]
            assert value == pytest.approx(np.mean(means), abs=1e-3)


def test_an_implicit_reward_is_that_of_whole_turns_and_asks_nothing_that_is_known(
    folders: tuple[Path, Path], tmp_path: Path
):
    prompts, completions = world(TEXTS)
    specs = dict(zip(("policy", "reference"), map(spec_for, folders), strict=True))
    models: dict[str, Any] = {role: spec.resolve(role, role) for role, spec in specs.items()}
    with Edge(specs, Ledger(tmp_path)) as edge:
        for each in models.values():
            drive(log_likelihood(prompts, completions, model=each), edge)
        asked = edge.counts.asked
        scores, _ = drive(implicit_reward(prompts, completions, **models, beta=0.5), edge)
        assert edge.counts.asked == asked == 8
    texts = text_of(completions)
    assert scores.height == 4
    for key, value in scores.select("subject_id", "value").iter_rows():
        prompt = next(each for each, said in TEXTS.items() if texts[key] in said)
        turns = [("user", prompt), ("assistant", texts[key])]
        policy, reference = (logps(each, turns, "<|assistant|>").sum() for each in folders)
        assert value == pytest.approx(0.5 * (policy - reference), abs=1e-3)
