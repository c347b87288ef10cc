"""vLLM in process on tiny models: what it says of given texts is what transformers says."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import ModelError
from prefdata.estimate.ches import ches
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stage import drive
from prefdata.tables import Completions, Pairs, Prompts, Scores
from tests.conftest import make_world
from tests.models.conftest import ask, load

INSTALLED = importlib.util.find_spec("vllm") is not None
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(not INSTALLED, reason="vllm is not installed (make test-slow)"),
]
PROMPTS = ["Name a colour.", "Say hello to all of them, please.", "2+2?", "Why is the sky blue?"]
ANSWERS = ["Red.", "Hello everybody, and good day to you!", "4", "Because of Rayleigh. " * 9]
ENGINE = {"max_model_len": 512, "enforce_eager": True, "dtype": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def causal(folder: Path) -> Path:
    return load("tiny").causal(folder / "causal")


@pytest.fixture(scope="module")
def specs(folder: Path, causal: Path) -> dict[str, ModelSpec]:
    tiny = load("tiny")
    plain = {"client": "vllm", "model": str(causal), "engine": ENGINE}
    one, two = (tiny.adapter(folder / f"lora{seed}", causal, seed) for seed in (5, 6))
    return {
        "writer": ModelSpec(**plain, temperature=0.7, max_tokens=16),
        "judge": ModelSpec(**plain, temperature=0.0),
        "one": ModelSpec(**plain, adapter=str(one)),
        "two": ModelSpec(**plain, adapter=str(two)),
    }


@pytest.fixture(scope="module")
def edge(specs: dict[str, ModelSpec], folder: Path) -> Iterator[Edge]:
    with Edge(specs, Ledger(folder / "ledger")) as asked:
        yield asked


@pytest.fixture(scope="module")
def by_transformers(folder: Path) -> Callable[..., Any]:
    def make(weights: Path, want: str, columns: Any, options: Any = None) -> Any:
        spec = ModelSpec(client="local", model=str(weights), engine={"device": "cpu"})
        given = {"want": want, "completion": completions(), "options": options}
        with Edge({"m": spec}, Ledger(folder / "local")) as asked:
            return asked(ask(spec, PROMPTS, **given))[columns]

    return make


def completions() -> pl.Series:
    turns = [[{"role": "assistant", "content": text}] for text in ANSWERS]
    return pl.Series("completion", turns, dtype=tables.MESSAGES)


def test_logprobs_of_given_completions_agree(
    edge: Edge, causal: Path, by_transformers: Callable[..., Any]
):
    spec = edge.specs["writer"]
    said = edge(ask(spec, PROMPTS, "writer", want="logprobs", completion=completions()))
    np.testing.assert_allclose(
        said["number"], by_transformers(causal, "logprobs", "number"), atol=1e-3
    )
    for row, answer in zip(said.iter_rows(named=True), ANSWERS, strict=True):
        assert "".join(each["token"] for each in row["logprobs"]) == answer
    counted = edge(ask(spec, PROMPTS, "writer", want="tokens", completion=completions()))
    assert counted["number"].to_list() == [len(each) for each in said["logprobs"]]


def test_the_likeliest_tokens_and_the_ids_agree(
    edge: Edge, causal: Path, by_transformers: Callable[..., Any]
):
    how = {"want": "logprobs", "completion": completions()}
    how["options"] = {"ids": True, "top": 4, "end": "template"}
    said = edge(ask(edge.specs["writer"], PROMPTS, "writer", **how))
    local = by_transformers(causal, "logprobs", ["token_ids", "top", "rest"], how["options"])
    assert said["token_ids"].equals(local["token_ids"])
    for ours, theirs in zip(said["top"].to_list(), local["top"].to_list(), strict=True):
        for place, other in zip(ours, theirs, strict=True):
            assert [each["id"] for each in place] == [each["id"] for each in other]
            values = ([each["logprob"] for each in two] for two in (place, other))
            np.testing.assert_allclose(*values, atol=1e-3)
    rests = (np.concatenate(each["rest"].to_list()) for each in (said, local))
    np.testing.assert_allclose(*rests, atol=1e-3)


def test_adapters_share_an_engine_and_answer_as_their_merged_models(
    edge: Edge, folder: Path, causal: Path, by_transformers: Callable[..., Any]
):
    found: dict[str, Any] = {}
    # A draw that no other test asks for: what the ledger answers shares no batch.
    asked = [
        ask(edge.specs[role], PROMPTS, role, want="logprobs", completion=completions(), draw=7)
        for role in ("writer", "one", "two")
    ]
    said = edge(pl.concat(asked))
    for role, part in zip(("writer", "one", "two"), said.iter_slices(len(PROMPTS)), strict=True):
        found[role] = part["number"]
    for role, weights in (
        ("writer", causal),
        ("one", folder / "lora5-merged"),
        ("two", folder / "lora6-merged"),
    ):
        expected = by_transformers(weights, "logprobs", "number")
        np.testing.assert_allclose(found[role], expected, atol=1e-3)
    assert not np.allclose(found["one"], found["writer"], atol=0.1)
    assert not np.allclose(found["one"], found["two"], atol=0.1)
    assert len(edge.clients.opened) == 1


def test_a_writer_and_a_judge_of_one_model_share_its_engine(edge: Edge):
    written = edge(ask(edge.specs["writer"], PROMPTS, "writer"))
    choices = {"choices": [chr(code) for code in range(33, 127)]}
    judged = edge(ask(edge.specs["judge"], PROMPTS, "judge", want="choice", options=choices))
    assert written["error"].null_count() == judged["error"].null_count() == len(PROMPTS)
    assert len(edge.clients.opened) == 1


def test_what_several_begin_with_is_read_once(edge: Edge):
    """In a shuffled table of two long prefixes all but the first of each find theirs read."""
    texts = [f"{start * 300} and {end}" for end in "0123456789" for start in "xy"]
    said = edge(ask(edge.specs["judge"], texts, "judge", options={"max_tokens": 1}))
    cached = said["tokens_cached"].fill_null(0).to_list()
    assert sum(each >= 256 for each in cached) == len(texts) - 2
    again = edge(ask(edge.specs["judge"], [texts[0]], "judge", options={"max_tokens": 1}, draw=1))
    assert again["tokens_cached"][0] >= 256


def test_a_pooling_engine_gives_states_and_embeddings(
    folder: Path, causal: Path, by_transformers: Callable[..., Any]
):
    engine = {**ENGINE, "runner": "pooling", "convert": "embed"}
    spec = ModelSpec(client="vllm", model=str(causal), engine=engine)
    with Edge({"m": spec}, Ledger(folder / "pooled")) as pooled:
        said = pooled(ask(spec, PROMPTS, want="hidden", completion=completions()))
        vectors = pooled(ask(spec, [*PROMPTS, PROMPTS[0] + " "], want="embedding"))["vector"]
    np.testing.assert_allclose(
        said["vector"].to_list(),
        by_transformers(causal, "hidden", "vector").to_list(),
        atol=1e-3,
    )
    assert said["number"].to_list() == by_transformers(causal, "hidden", "number").to_list()
    unit = np.array(vectors.to_list())
    reads: list[str] = []
    poolings = [{"pool": pool, "end": True} for pool in ("mean", "sum", "last")]
    with Edge({"m": spec}, Ledger(folder / "pooled")) as pooled:
        tables_of = [
            ask(spec, PROMPTS, want="hidden", completion=completions(), options=each)
            for each in poolings
        ]
        pooled(tables_of[0].head(1))
        client = next(iter(pooled.clients.opened.values()))
        engine = client._engine.llm_engine
        send = engine.add_request
        engine.add_request = lambda *given, **how: (reads.append(given[0]), send(*given, **how))[1]
        three = pooled(pl.concat(tables_of))["vector"].to_list()
        n_read = len(reads)
        how = {"want": "hidden", "completion": completions(), "options": {"layer": 1}}
        with pytest.raises(ModelError, match="last layer behind its norm only"):
            pooled(ask(spec, PROMPTS, **how))
        by_vllm = scores_of_pairs(spec, pooled)
    # The first was known already; what is left of the table has two or three poolings of a text.
    assert n_read == len(PROMPTS)
    # Of a pair's side the mean and the last state, from one pass.
    assert len(reads) - n_read == make_world(4, 3)["completions"].height
    local = [by_transformers(causal, "hidden", "vector", each).to_list() for each in poolings]
    np.testing.assert_allclose(three, np.concatenate(local), atol=3e-3)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    plain = ModelSpec(client="local", model=str(causal), engine={"device": "cpu"})
    with Edge({"m": plain}, Ledger(folder / "local")) as asked:
        by_local = scores_of_pairs(plain, asked)
    key = by_vllm.select("subject_id", "score")
    assert key.equals(by_local.select("subject_id", "score"))
    np.testing.assert_allclose(by_vllm["value"], by_local["value"], rtol=1e-3, atol=1e-2)


def scores_of_pairs(spec: ModelSpec, edge: Edge) -> Scores:
    made = make_world(4, 3)
    given = Pairs(made["pairs"]), Prompts(made["prompts"]), Completions(made["completions"])
    scores, _ = drive(ches(*given, model=spec.resolve("m")), edge)
    return Scores(scores.sort("score", "subject_id"))
