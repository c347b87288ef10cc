"""Planted annotators are as right, as biased and as broken as they were planted."""

import json
import math
from typing import Any

import polars as pl
import pytest

from prefdata import stage, tables
from prefdata.annotate.tool import Calls
from prefdata.judge import load as load_judge
from prefdata.judge.form import Choice, Field, Form, Some, Texts
from prefdata.judge.lists import Numbers
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.scripted import qualities
from prefdata.models.spec import ModelSpec
from tests.models.conftest import VERDICT, ask

N = 4000
RATING = {"type": "object", "properties": {"clarity": {"type": "integer", "enum": [1, 2, 3, 4, 5]}}}


def said(ledger: Ledger, texts: list[str], spec: dict[str, Any], **how: Any) -> pl.DataFrame:
    model = ModelSpec.model_validate({"client": "scripted", **spec})
    requests = ask(model, texts, **how)
    with Edge({"m": model}, ledger) as edge:
        return requests.join(edge(requests), on="request_id", maintain_order="left")


def duels(first: float, second: float) -> list[str]:
    """Judge prompts that differ, with the same two qualities in this order."""
    return [f"{i}. A: text quality={first} B: text quality={second}" for i in range(N)]


def share(replies: pl.DataFrame, value: str) -> float:
    return sum(json.loads(text)["verdict"] == value for text in replies["text"]) / N


def near(p: float) -> Any:
    return pytest.approx(p, abs=4 * math.sqrt(max(p * (1 - p), 0.001) / N))


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("bias", [0.0, 0.3, 1.0])
def test_accuracy_and_position_bias_are_as_planted(ledger: Ledger, accuracy: float, bias: float):
    spec = {"accuracy": accuracy, "position_bias": bias}
    better_first = said(ledger, duels(0.9, 0.2), spec, options={"schema": VERDICT})
    better_last = said(ledger, duels(0.2, 0.9), spec, options={"schema": VERDICT})
    assert share(better_first, "A") == near(bias + (1 - bias) * accuracy)
    assert share(better_last, "A") == near(bias + (1 - bias) * (1 - accuracy))


def test_ties_and_failures_are_as_planted(ledger: Ledger):
    spec = {"accuracy": 1.0, "tie_rate": 0.25}
    assert share(said(ledger, duels(0.9, 0.2), spec, options={"schema": VERDICT}), "tie") == near(
        0.25
    )
    spec = {"accuracy": 1.0}
    assert share(said(ledger, duels(0.5, 0.5), spec, options={"schema": VERDICT}), "tie") == 1
    spec = {"failure_rate": 0.2, "malformed_rate": 0.5}
    broken = said(ledger, duels(0.9, 0.2), spec, options={"schema": VERDICT})
    assert broken["error"].count() / N == near(0.2)
    assert broken["text"].str.starts_with("{").not_().sum() / N == near(0.8 * 0.5)


def test_a_perfect_rater_gives_the_true_step_and_a_blind_one_any(ledger: Ledger):
    texts = [f"{i} quality={i % 5 / 4}" for i in range(N)]
    for accuracy, right in ((1.0, 1.0), (0.0, 0.2)):
        replies = said(ledger, texts, {"accuracy": accuracy}, options={"schema": RATING})
        given = [json.loads(text)["clarity"] for text in replies["text"]]
        assert sum(g == i % 5 + 1 for i, g in enumerate(given)) / N == near(right)


def test_a_writer_plants_qualities_that_a_judge_reads(ledger: Ledger):
    texts = [f"Prompt {i}" for i in range(N)]
    written = said(ledger, texts, {"quality": 0.6, "spread": 0.1})["text"]
    found = pl.Series([qualities(text)[0] for text in written])
    assert found.mean() == pytest.approx(0.6, abs=0.01)
    assert found.std() == pytest.approx(0.1, abs=0.01)
    assert written.n_unique() == N


def test_choices_have_the_planted_probabilities(ledger: Ledger):
    spec = {"accuracy": 0.8, "position_bias": 0.1}
    rows = said(ledger, duels(0.2, 0.9)[:3], spec, want="choice", options={"choices": ["A", "B"]})
    for row in rows["logprobs"]:
        shares = {each["token"]: math.exp(each["logprob"]) for each in row}
        assert shares == pytest.approx({"A": 0.1 + 0.9 * 0.2, "B": 0.9 * 0.8})
    assert rows["number"].to_list() == [1.0] * rows.height


def test_the_same_request_has_the_same_answer_in_any_company(ledger: Ledger, tmp_path: Any):
    alone = said(Ledger(tmp_path / "a"), duels(0.7, 0.6)[7:8], {}, options={"schema": VERDICT})
    crowd = said(Ledger(tmp_path / "b"), duels(0.7, 0.6)[::-1], {}, options={"schema": VERDICT})
    assert crowd.filter(pl.col("request_id") == alone["request_id"][0]).equals(alone)


def test_embeddings_are_nearer_for_texts_that_share_words(ledger: Ledger):
    texts = ["the red fox runs home", "the red fox runs away", "quantum flux capacitors hum"]
    vectors = said(ledger, texts, {}, want="embedding")["vector"].to_list()
    dot = [[sum(a * b for a, b in zip(u, v, strict=True)) for v in vectors] for u in vectors]
    assert dot[0][0] == pytest.approx(1)
    assert dot[0][1] > dot[0][2]


def test_it_reads_the_judges_that_are_shipped(ledger: Ledger):
    """A perfect planted judge is right in both orders, and a perfect rater gives the true step."""
    spec = ModelSpec(client="scripted", accuracy=1.0)
    texts = ["Good. quality=0.9000", "Bad. quality=0.2000"]
    prompt = [{"role": "user", "content": "Why?"}]
    shown = [[{"role": "assistant", "content": text}] for text in texts]
    pairwise, pointwise = load_judge("helpfulness"), load_judge("ultrafeedback")
    with Edge({"m": spec}, ledger) as edge:
        for order, better in ((shown, "A"), (shown[::-1], "B")):
            messages = pl.Series([pairwise.render(prompt, *order)], dtype=tables.MESSAGES)
            options = {"schema": pairwise.schema}
            requests = stage.requests(spec.resolve("m"), "text", messages, options=options)
            verdict = pairwise.read(edge(requests)["text"][0])
            assert (verdict.raws, verdict.unscored) == ((better,), None)
        messages = pl.Series([pointwise.render(prompt, shown[0])], dtype=tables.MESSAGES)
        options = {"schema": pointwise.schema}
        requests = stage.requests(spec.resolve("m"), "text", messages, options=options)
        verdict = pointwise.read(edge(requests)["text"][0])
        assert verdict.unscored is None
        assert len(verdict.worths) == len(pointwise.criteria)
        assert all(worth is not None and worth >= 0.75 for worth in verdict.worths)


@pytest.mark.parametrize(
    "field",
    [
        Calls(("calculator", "unit"), 3),
        Texts(4),
        Some(("a", "b")),
        Choice(("yes", "no")),
        Numbers(9),
    ],
    ids=lambda field: type(field).__name__,
)
def test_whatever_a_form_asks_for_is_given(ledger: Ledger, field: Field):
    form = Form({"asked": field}, "first", 100)
    replies = said(
        ledger, [f"{i}. quality=0.5" for i in range(50)], {}, options={"schema": form.schema}
    )
    assert all(field.accepts(json.loads(text)["asked"]) for text in replies["text"])
    assert replies["text"].n_unique() > 1
