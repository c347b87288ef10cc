"""Texts read together: within their budget and the memory there is, each with its answer."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata import tables
from prefdata.errors import ModelError
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.local.texts import BATCH_ROWS, by_length
from prefdata.models.spec import ModelSpec
from prefdata.tables import Responses
from tests.models.conftest import ask, load

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
needs_torch = pytest.mark.skipif(
    not INSTALLED, reason="torch and transformers are not installed (make test-slow)"
)
TEXTS = ["Yes.", "Hello everybody, and good day to you!", "4", "Because of Rayleigh. " * 9, "No."]


@given(st.lists(st.lists(st.integers(0, 3), max_size=40), max_size=700), st.integers(1, 200))
def test_each_text_is_in_one_batch_and_a_batch_within_its_budget(ids: list[list[int]], budget: int):
    batches = list(by_length(ids, budget))
    assert sorted(at for batch in batches for at in batch) == list(range(len(ids)))
    for batch in batches:
        widest = max(len(ids[at]) for at in batch)
        assert len(batch) == 1 or widest * len(batch) <= budget
        assert len(batch) <= BATCH_ROWS
    widths = [len(ids[at]) for batch in batches for at in batch]
    assert widths == sorted(widths, reverse=True)


@given(st.permutations([[1, 2], [1, 2, 3], [2], [1, 2], [3], [2, 1]]), st.integers(1, 12))
def test_what_is_read_together_does_not_depend_on_the_order_of_rows(
    ids: list[list[int]], budget: int
):
    def read(texts: list[list[int]]) -> list[list[list[int]]]:
        return [[texts[at] for at in batch] for batch in by_length(texts, budget)]

    assert read(ids) == read(sorted(ids))


@pytest.fixture
def rewarding(tmp_path: Path) -> Path:
    return load("tiny").reward(tmp_path / "reward", pad=3)


def rewards(folder: Path, ledger: Path) -> Responses:
    spec = ModelSpec(client="local", model=str(folder), engine={"device": "cpu"})
    turns = [[{"role": "assistant", "content": text}] for text in TEXTS]
    said = pl.Series("completion", turns, dtype=tables.MESSAGES)
    with Edge({"m": spec}, Ledger(ledger), fresh=True) as edge:
        return edge(ask(spec, ["Why?"] * len(TEXTS), want="reward", completion=said))


@pytest.mark.torch
@needs_torch
def test_what_does_not_fit_into_memory_is_read_in_parts(
    rewarding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A batch is halved until it fits; a text that does not fit alone has that as its reason."""
    import torch

    from prefdata.models.local.rewarder import Rewarder

    plain = rewards(rewarding, tmp_path / "plain")
    read: list[tuple[int, int]] = []
    padded = Rewarder.padded

    def scarce(head: Any, batch: Any, filler: int) -> Any:
        read.append((len(batch), max(len(text.ids) for text in batch)))
        if read[-1][0] * read[-1][1] > 150:
            raise torch.OutOfMemoryError
        return padded(head, batch, filler)

    monkeypatch.setattr(Rewarder, "padded", scarce)
    said = rewards(rewarding, tmp_path / "scarce")
    assert read[0][0] == len(TEXTS)
    is_long = [text == TEXTS[3] for text in TEXTS]
    assert said["error"].is_not_null().to_list() == is_long
    assert said["error"][3].startswith("out of memory at ")
    fits = pl.Series(is_long).not_()
    np.testing.assert_allclose(said["number"].filter(fits), plain["number"].filter(fits), atol=1e-4)


@pytest.mark.torch
@needs_torch
def test_no_reward_is_made_of_what_is_no_number(rewarding: Path, tmp_path: Path):
    """Weights that overflow would else make rewards of NaN."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(rewarding)
    with torch.no_grad():
        model.score.weight.fill_(torch.inf)
    model.save_pretrained(rewarding)
    with pytest.raises(ModelError, match=r"answered none of 5 requests.* are not finite"):
        rewards(rewarding, tmp_path / "ledger")
