"""The same requests to vLLM in process: a real engine on a real model."""

import importlib.util
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefdata.errors import ModelError
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from tests.models.conftest import VERDICT, ask

INSTALLED = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed (make test-slow)")


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("vllm")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    engine = {"max_model_len": 1024, "enforce_eager": True}
    spec = ModelSpec(client="vllm", model=str(small_model), max_tokens=24, seed=3, engine=engine)
    with Edge({"m": spec}, Ledger(folder / "ledger")) as asked:
        yield asked


@pytest.mark.slow
@pytest.mark.long
@needs_vllm
def test_text_schema_choice_and_a_bad_row(edge: Edge):
    spec = edge.specs["m"]
    texts = [f"Name {n} colours." for n in range(2, 8)]
    said = edge(ask(spec, texts))
    assert said["error"].null_count() == len(texts)
    assert said["text"].str.len_bytes().min() > 0  # pyright: ignore[reportOptionalOperand]
    assert said["tokens_out"].max() <= 24  # pyright: ignore[reportOptionalOperand]

    verdicts = edge(ask(spec, texts, options={"schema": VERDICT, "max_tokens": 64}))
    for text, reason in verdicts.select("text", "finish_reason").iter_rows():
        if reason == "stop":
            assert json.loads(text)["verdict"] in ("A", "B", "tie")
    assert "stop" in verdicts["finish_reason"].to_list()

    chosen = edge(ask(spec, texts, want="choice", options={"choices": ["The", "I", "A"]}))
    for row in chosen.filter(chosen["error"].is_null())["logprobs"]:
        assert math.isclose(sum(math.exp(each["logprob"]) for each in row), 1.0)
    assert chosen["error"].null_count() > 0

    mixed = edge(ask(spec, ["Say hello.", "word " * 3000, "Say goodbye."]))
    assert mixed["error"].is_null().to_list() == [True, False, True]
    assert mixed["error"][1].startswith("bad request")


@pytest.mark.slow
@pytest.mark.long
@needs_vllm
def test_a_seed_repeats_and_a_draw_does_not(edge: Edge):
    spec = edge.specs["m"].model_copy(update={"temperature": 1.0})
    with Edge({"m": spec}, edge.ledger, fresh=True) as again:
        # One engine is enough: the second edge borrows it.
        again.clients.opened = edge.clients.opened
        first = edge(ask(spec, ["Tell a story."]))["text"][0]
        other = again(ask(spec, ["Tell a story."], draw=1))["text"][0]
        same = again(ask(spec, ["Tell a story."]))["text"][0]
        again.clients.opened = {}
    assert first == same
    assert first != other


@pytest.mark.skipif(INSTALLED, reason="vllm is installed")
def test_without_vllm_it_says_how_to_get_it(tmp_path: Path):
    spec = ModelSpec(client="vllm", model="any/model")
    with (
        Edge({"m": spec}, Ledger(tmp_path)) as edge,
        pytest.raises(ModelError, match="pip install"),
    ):
        edge(ask(spec, ["x"]))
