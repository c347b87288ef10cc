"""From pairs to exported columns with a real model, against plain passes of transformers.

Nothing of the project is used on the other side: a text is read alone, by the tokens that TRL
makes of a conversation, and all sums are taken by hand.
"""

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import prefdata
from prefdata.models.local import LocalClient
from prefdata.tables import Requests
from tests.models.conftest import ask, assistant, spec_for

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(
        not INSTALLED, reason="torch and transformers are not installed (make test-slow)"
    ),
]
TEXTS = {
    "What is the capital of France?": [
        "The capital of France is Paris.",
        "Paris is the capital of France, on the river Seine.",
        "I do not know.",
    ],
    "Write me a haiku about rain.": [
        "Soft rain on the roof,\nthe old cat dreams of summer;\nI put the kettle on.",
        "Rain rain rain rain rain",
        "I cannot write poems, but I can tell you what a haiku is: lines of 5, 7, 5 syllables.",
    ],
    "How do I pick a lock?": [
        "I am sorry, I cannot help with that.",
        "I am sorry, but I can not help you with this.",
        "You need a tension wrench and a pick; start with the pin that binds first.",
    ],
}
RECIPE = """
name = "real"
sources.pairs = "pairs.jsonl"

[models.reference]
client = "local"
model = "{model}"
engine = {{ device = "cpu" }}

[[stages]]
use = "estimate.ches"
model = "reference"
likelihoods = true

[[stages]]
use = "estimate.log_likelihood"
model = "reference"

[[stages]]
use = "estimate.ranking_accuracy"

[[stages]]
use = "estimate.token_log_probs"
model = "reference"
top = 5

[[exports]]
use = "export.pairwise"
columns = [
    "ref_logp_chosen", "ref_logp_rejected", "ref_logp_chosen_per_token",
    "ref_logp_rejected_per_token", "difficulty", "ches", "ln_ches",
    "last_hidden_product", "negative_edit_distance",
]

[[exports]]
use = "export.token_level"
"""


@dataclass
class Plain:
    """What transformers says of one conversation: token by token, and the states behind the norm.

    `states` predict the tokens up to the one that ends the turn; `tokens` are without it.
    """

    prompt_ids: list[int]
    ids: list[int]
    logps: np.ndarray
    states: np.ndarray
    tokens: list[int]

    @property
    def total(self) -> np.ndarray:
        return self.states.sum(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    made = tmp_path_factory.mktemp("real")
    rows = [
        {"prompt": prompt, "chosen": one, "rejected": other}
        for prompt, said in TEXTS.items()
        for one, other in combinations(said, 2)
    ]
    (made / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (made / "recipe.toml").write_text(RECIPE.format(model=small_model))
    return made


@pytest.fixture(scope="module")
def plain(small_model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small_model)
    model = AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float32).eval()

    @cache
    def read(prompt: str, said: str) -> Plain:
        asked = [{"role": "user", "content": prompt}]
        whole = [*asked, {"role": "assistant", "content": said}]
        before = tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
        ids = tokenizer.apply_chat_template(whole)["input_ids"]
        assert ids[: len(before)] == before
        with torch.inference_mode():
            out = model(torch.tensor([ids]), output_hidden_states=True)
        spread = out.logits[0].double().log_softmax(-1)
        own = torch.arange(len(before), len(ids))
        logps = spread[own - 1, torch.tensor(ids)[own]].numpy()
        end = ids.index(tokenizer.eos_token_id, len(before))
        states = out.hidden_states[-1][0, len(before) - 1 : end].double().numpy()
        return Plain(before, ids[len(before) :], logps, states, ids[len(before) : end])

    return read


@pytest.fixture(scope="module")
def built(folder: Path) -> Any:
    return prefdata.build(folder / "recipe.toml", data=folder / "data")


def rows_of(folder: Path, export: str) -> list[dict[str, Any]]:
    return list(prefdata.load("real", export, data=folder / "data")["train"])


def test_the_columns_of_an_export_are_those_of_plain_passes(built: Any, folder: Path, plain: Any):
    rows = rows_of(folder, "pairwise")
    assert len(rows) == 9
    for row in rows:
        prompt = row["prompt"][0]["content"]
        won, lost = (plain(prompt, row[side][0]["content"]) for side in ("chosen", "rejected"))
        for said, side in ((won, "chosen"), (lost, "rejected")):
            assert row[f"ref_{side}_logps"] == pytest.approx(said.logps.sum(), abs=1e-3)
            each = row[f"ref_logp_{side}_per_token"]
            assert each == pytest.approx(said.logps.mean(), abs=1e-4)
        apart = 0.1 * (won.logps.sum() - lost.logps.sum())
        assert row["difficulty"] == pytest.approx(np.logaddexp(0, apart), abs=1e-4)
        whole = won.total @ (lost.total - won.total)
        assert row["ches"] == pytest.approx(whole, rel=1e-4, abs=1e-3 * abs(won.total).sum())
        mean, other = won.states.mean(0), lost.states.mean(0)
        expected = mean @ (other - mean)
        assert row["ln_ches"] == pytest.approx(expected, rel=1e-3, abs=1e-4 * (mean @ mean))
        product = won.states[-1] @ lost.states[-1]
        assert row["last_hidden_product"] == pytest.approx(product, rel=1e-3)
        assert -1 <= row["negative_edit_distance"] < 0


def test_the_nearest_refusals_are_the_most_alike_and_the_least_edited(built: Any, folder: Path):
    rows = rows_of(folder, "pairwise")
    refusal, other, help = TEXTS["How do I pick a lock?"]
    refusing = {
        row["rejected"][0]["content"]: row for row in rows if row["chosen"][0]["content"] == refusal
    }
    assert refusing[other]["ln_ches"] > refusing[help]["ln_ches"]
    assert max(rows, key=lambda row: row["negative_edit_distance"]) == refusing[other]


def test_tokens_and_their_likelihoods_are_those_that_a_trainer_would_find(
    built: Any, folder: Path, plain: Any
):
    texts = {row["pair_id"]: row for row in rows_of(folder, "pairwise")}
    for row in rows_of(folder, "token_level"):
        pair = texts[row["pair_id"]]
        for side in ("chosen", "rejected"):
            said = plain(pair["prompt"][0]["content"], pair[side][0]["content"])
            assert row["prompt_ids"] == said.prompt_ids
            assert row[f"{side}_ids"] == said.ids
            found = row[f"ref_{side}_token_logps"]
            np.testing.assert_allclose(found, said.logps, atol=1e-3)
            assert sum(found) == pytest.approx(pair[f"ref_{side}_logps"], abs=1e-4)
            for at, logps in enumerate(row[f"ref_{side}_topk_logps"]):
                mass = np.exp(logps).sum() + np.exp(row[f"ref_{side}_tail_logps"][at])
                assert mass == pytest.approx(1, abs=1e-4)
                assert max(logps) >= found[at] - 1e-4


def test_likelihoods_beside_ches_leave_nothing_to_ask_and_one_pass_a_completion(
    built: Any, folder: Path
):
    n = sum(map(len, TEXTS.values()))
    # mean, last, tokens, log-probabilities; with their likeliest tokens they are another request
    assert built.requests["asked"] == 5 * n
    assert built.requests["cached"] >= n
    again = prefdata.build(folder / "recipe.toml", data=folder / "data", n_shards=3)
    assert again.id == built.id
    assert again.requests["asked"] == 0


def test_shards_and_company_change_no_score(built: Any, folder: Path):
    other = prefdata.build(
        folder / "recipe.toml",
        data=folder / "elsewhere",
        n_shards=3,
        changes=["models.reference.engine.max_num_batched_tokens=128"],
    )
    assert other.tables == built.tables
    rows, others = (
        {r["pair_id"]: r for r in prefdata.load("real", "pairwise", data=folder / data)["train"]}
        for data in ("data", "elsewhere")
    )
    assert rows.keys() == others.keys()
    for pair, row in rows.items():
        for name in ("ref_chosen_logps", "ref_rejected_logps", "difficulty", "ln_ches"):
            assert row[name] == pytest.approx(others[pair][name], rel=1e-4, abs=1e-4)


def test_batched_is_one_by_one(small_model: Path):
    spec = spec_for(small_model)
    said = [(prompt, text) for prompt, texts in TEXTS.items() for text in texts]
    given = {"completion": assistant([text for _, text in said])}
    asked = pl.concat(
        [
            ask(spec, [p for p, _ in said], want=want, options={"end": True}, **given)
            for want in ("hidden", "logprobs")
        ]
    )
    client = LocalClient(spec)
    whole, alone = (
        pl.concat([b for part in parts for b in client.answer(Requests(part))]).sort("request_id")
        for parts in ([asked], asked.sample(fraction=1, shuffle=True, seed=1).iter_slices(1))
    )
    states = [np.array(each["vector"].drop_nulls().to_list()) for each in (whole, alone)]
    np.testing.assert_allclose(*states, atol=1e-4 * abs(states[0]).max())
    logps = [
        each["logprobs"].explode().struct.field("logprob").drop_nulls() for each in (whole, alone)
    ]
    np.testing.assert_allclose(*logps, atol=1e-4)
