"""One pass answers all that is asked of a text: states of any layer, log-probabilities, tokens."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata.errors import ModelError
from prefdata.models.local import LocalClient
from prefdata.models.template import Template, Unreadable
from prefdata.tables import Requests, Responses
from tests.models.conftest import answers, ask, assistant, load, spec_for

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not INSTALLED, reason="torch and transformers are not installed (make test-slow)"
    ),
]
PROMPTS = ["Name a colour.", "Say hello.", "2+2?", "Why is the sky blue?", "2+2?"]
ANSWERS = ["Red.", "Hello everybody!", "4", "Because of Rayleigh. " * 9, "5, or 4"]
USER = [{"role": "user", "content": "2+2?"}]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load("tiny").causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture
def rows_read() -> Iterator[list[int]]:
    """How many texts each pass through a model's body has."""
    from torch.nn.modules.module import register_module_forward_pre_hook
    from transformers import PreTrainedModel

    read: list[int] = []

    def note(module: Any, given: Any) -> None:
        if isinstance(module, PreTrainedModel) and module.base_model is module:
            read.append(0)

    handle = register_module_forward_pre_hook(note)
    yield read
    handle.remove()


WANTS: list[tuple[str, dict[str, Any]]] = [
    ("hidden", {}),
    ("hidden", {"pool": "last", "end": True}),
    ("hidden", {"pool": "sum", "end": True}),
    ("hidden", {"layer": 1}),
    ("hidden", {"norm": False}),
    ("logprobs", {"end": "template", "ids": True}),
    ("logprobs", {}),
]


def everything(folder: Path, wants: Any = WANTS) -> Requests:
    spec = spec_for(folder)
    return Requests(
        pl.concat(
            ask(spec, PROMPTS, want=want, completion=assistant(ANSWERS), options=options)
            for want, options in wants
        )
    )


def same(one: Responses, other: Responses) -> None:
    """Equal to 1e-4, whatever the order of the rows."""
    one, other = (each.sort("request_id") for each in (one, other))  # pyright: ignore
    assert one["request_id"].equals(other["request_id"])
    for a, b in zip(one.iter_rows(named=True), other.iter_rows(named=True), strict=True):
        assert a["error"] is b["error"] is None
        assert a["token_ids"] == b["token_ids"]
        np.testing.assert_allclose(a["vector"] or [], b["vector"] or [], atol=1e-4)
        ours, theirs = ([t["logprob"] for t in each["logprobs"] or []] for each in (a, b))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_completion_is_read_once_for_all_that_is_asked_of_it(
    causal: Path, tmp_path: Path, rows_read: list[int]
):
    asked = everything(causal)
    said = answers(spec_for(causal, max_num_batched_tokens=1), asked, tmp_path)
    # A batch of one text each: as many passes as texts.
    assert len(rows_read) == len(PROMPTS)
    new = said.filter(pl.col("tokens_cached").is_null())
    assert new.height == len(PROMPTS)
    longest = said["tokens_in"].to_numpy().reshape(len(WANTS), -1).max(0)
    assert sorted(new["tokens_in"]) == sorted(longest)
    rows_read.clear()
    answers(spec_for(causal), asked, tmp_path)
    assert len(rows_read) == 1


def test_neither_company_nor_order_nor_padding_changes_an_answer(causal: Path, tmp_path: Path):
    asked = everything(causal)
    whole = answers(spec_for(causal), asked, tmp_path)
    shuffled = Requests(asked.sample(fraction=1, shuffle=True, seed=2))
    same(answers(spec_for(causal), shuffled, tmp_path), whole)
    same(answers(spec_for(causal, max_num_batched_tokens=150), asked, tmp_path), whole)
    client = LocalClient(spec_for(causal))
    for n in (1, 11):
        parts = [each for part in asked.iter_slices(n) for each in client.answer(Requests(part))]
        same(Responses(pl.concat(parts)), whole)


def small(kind: str) -> Any:
    """A model of three layers of random weights, of another make each."""
    import torch
    import transformers as t

    torch.manual_seed(3)
    size = {"vocab_size": 261, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
    if kind == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(n_embd=32, n_layer=3, n_head=2, **size))
    how = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, **size}
    if kind == "opt":
        how |= {"word_embed_proj_dim": 32, "ffn_dim": 48, "pad_token_id": 3}
        return t.OPTForCausalLM(t.OPTConfig(**how))
    return t.LlamaForCausalLM(
        t.LlamaConfig(**how, intermediate_size=48, num_key_value_heads=1, initializer_range=0.2)
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_states_are_those_that_transformers_calls_by_the_layers_number(kind: str, tmp_path: Path):
    import torch
    from transformers import AutoModelForCausalLM

    made = small(kind)
    made.save_pretrained(tmp_path / kind)
    tokenizer = load("tiny").tokenizer()
    tokenizer.save_pretrained(tmp_path / kind)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / kind).eval()
    norm = {"llama": "norm", "gpt2": "ln_f", "opt": "decoder.final_layer_norm"}[kind]
    final = model.base_model.get_submodule(norm)
    options = [{"layer": at} for at in (0, 1, 2, 3, -1, -2)]
    options += [{"layer": 1, "norm": True}, {"norm": False}, {"norm": True}]
    wants = [("hidden", {"pool": "sum", **each}) for each in options]
    said = answers(spec_for(tmp_path / kind), everything(tmp_path / kind, wants), tmp_path)
    found = np.array(said["vector"].to_list()).reshape(len(options), len(PROMPTS), -1)
    for place, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        head = tokenizer(f"<|user|>{prompt}<|end|>\n<|assistant|>")["input_ids"]
        ids = torch.tensor([head + tokenizer(answer)["input_ids"]])
        with torch.no_grad():
            told = model(ids, output_hidden_states=True).hidden_states
            before: list[Any] = []
            hook = final.register_forward_pre_hook(lambda _, given, into=before: into.extend(given))
            model(ids)
            hook.remove()
            expected = [*told, told[-1], told[-2], final(told[1]), before[0], told[-1]]
        for mine, states in zip(found[:, place], expected, strict=True):
            own = states.reshape(len(ids[0]), -1)[len(head) - 1 : -1].sum(0)
            np.testing.assert_allclose(mine, own, atol=1e-3, rtol=1e-4)
    with pytest.raises(ModelError, match=r"0 \(embeddings\) to 3"):
        answers(
            spec_for(tmp_path / kind),
            everything(tmp_path / kind, [("hidden", {"layer": 4})]),
            tmp_path,
        )


def test_padding_on_the_left_as_trainers_do_gives_the_same_states(causal: Path, tmp_path: Path):
    """All texts in one batch of transformers, the end of each turn at its right edge."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(causal, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(causal).eval()
    turns = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": said}]
        for prompt, said in zip(PROMPTS, ANSWERS, strict=True)
    ]
    texts = [tokenizer.apply_chat_template(each, tokenize=False).rstrip("\n") for each in turns]
    given = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    places = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        read = model(**given, position_ids=places, output_hidden_states=True).hidden_states[-1]
    options = {"pool": "sum", "end": True}
    said = answers(spec_for(causal), everything(causal, [("hidden", options)]), tmp_path)
    for states, answer, row in zip(read, ANSWERS, said.iter_rows(named=True), strict=True):
        n = len(tokenizer(answer)["input_ids"]) + 1
        assert row["number"] == n
        np.testing.assert_allclose(row["vector"], states[-n - 1 : -1].sum(0), atol=1e-3)


def test_the_likeliest_tokens_and_all_others_make_one(causal: Path, tmp_path: Path):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(causal).eval()
    tops = (1, 5, 260, 261)
    asked = everything(causal, [("logprobs", {"ids": True, "top": top}) for top in tops])
    rows = iter(answers(spec_for(causal), asked, tmp_path).iter_rows(named=True))
    for top in tops:
        for _ in PROMPTS:
            row = next(rows)
            n = len(row["logprobs"])
            with torch.no_grad():
                logits = model(torch.tensor([row["token_ids"]])).logits[0, -n - 1 : -1]
            spread = logits.double().log_softmax(-1)
            likeliest = spread.topk(top).indices
            told = [[each["id"] for each in place] for place in row["top"]]
            assert told == likeliest.tolist()
            for place, values in enumerate(row["top"]):
                found = [each["logprob"] for each in values]
                expected = spread[place, likeliest[place]]
                np.testing.assert_allclose(found, expected, atol=1e-4)
            if top == 261:
                assert row["rest"] == [None] * n
                continue
            others = spread.scatter(1, likeliest, -torch.inf).logsumexp(-1)
            np.testing.assert_allclose(row["rest"], others, atol=1e-4)
            own = spread.gather(1, torch.tensor(row["token_ids"][-n:])[:, None])[:, 0]
            np.testing.assert_allclose([e["logprob"] for e in row["logprobs"]], own, atol=1e-4)


def joining() -> Any:
    """A tokenizer that joins an exclamation mark and a question mark, and two line breaks."""
    import json

    from tokenizers import Tokenizer

    plain = load("tiny").tokenizer(template=False)
    told = json.loads(plain.backend_tokenizer.to_str())
    vocabulary = told["model"]["vocab"]
    for left, right in (("!", "?"), ("Ċ", "Ċ")):
        vocabulary[left + right] = len(vocabulary)
        told["model"]["merges"].append([left, right])
    told["pre_tokenizer"]["use_regex"] = False
    plain._tokenizer = Tokenizer.from_str(json.dumps(told))
    return plain


def test_a_completion_that_begins_within_a_token_is_refused_with_the_place(tmp_path: Path):
    tokenizer = joining()
    tokenizer.chat_template = "{{ messages[0]['content'] }}!{{ (messages[1:] or [{}])[0].content }}"
    template = Template(tokenizer)
    good = [{"role": "assistant", "content": "Yes?"}]
    placed = template.place(USER, good)
    assert tokenizer.decode(placed.ids[placed.start :]) == "Yes?"
    bad = [{"role": "assistant", "content": "? No"}]
    with pytest.raises(
        Unreadable, match=r"At token 4 of 5 the prompt alone has '!', the whole '!\?"
    ):
        template.place(USER, bad)
    within = [{"role": "assistant", "content": "Yes!? No"}]
    assert template.place(USER, within).start == 5


def test_where_one_row_begins_within_a_token_the_others_are_answered(causal: Path, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(causal)
    model.resize_token_embeddings(263)
    model.save_pretrained(tmp_path / "joining")
    joining().save_pretrained(tmp_path / "joining")
    spec = spec_for(tmp_path / "joining")
    said = ["Well.", "\n\nWell.", "Well.\n\n"]
    for want in ("hidden", "logprobs", "tokens"):
        asked = ask(spec, ["Is it?"] * 3, want=want, completion=assistant(said))
        errors = answers(spec, asked, tmp_path)["error"]
        assert errors.is_null().to_list() == [True, False, True]
        assert errors[1].startswith("bad request: the completion begins within a token")
        assert "At token 23 of 24" in errors[1]


@pytest.mark.parametrize("own", [True, False])
def test_the_templates_end_is_what_a_trainer_reads_after_the_prompt(own: bool):
    tokenizer = load("tiny").tokenizer(own)
    template = Template(tokenizer)
    said = [{"role": "assistant", "content": "4, of course"}]
    none, turn, whole = (template.place(USER, said, end=end) for end in (False, True, "template"))
    assert none.start == turn.start == whole.start
    assert turn.ids == [*none.ids, tokenizer.eos_token_id]
    if own:
        read = tokenizer.apply_chat_template([*USER, *said])["input_ids"]
        asked = tokenizer.apply_chat_template(USER, add_generation_prompt=True)["input_ids"]
        assert whole.ids == read
        assert whole.start == len(asked)
        assert whole.ids.count(tokenizer.eos_token_id) == 2
        assert whole.ids[: len(turn.ids)] == turn.ids
    else:
        assert whole == turn


def test_an_end_that_is_none_is_refused(causal: Path, tmp_path: Path):
    asked = everything(causal, [("hidden", {"end": "eos"})])
    with pytest.raises(ModelError, match="one of false, true and 'template'"):
        answers(spec_for(causal), asked, tmp_path)
