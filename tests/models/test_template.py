"""A completion's tokens are those that a trainer reads, whatever the template does to its text."""

import importlib.util
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.models.template import DAY, ENDS, MARK, Template, Unreadable
from tests.models.conftest import load

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None,
        reason="transformers is not installed (make test-slow)",
    ),
]
USER = [{"role": "user", "content": " 2+2? \n"}]
TURN = "<|{{ turn['role'] }}|>"
LOOP, ASK = "{% for turn in messages %}", "{% if add_generation_prompt %}<|assistant|>"
# How makers' templates write a turn's text, and what they ask the model with.
TRIMS = f"{LOOP}{TURN}{{{{ turn['content'] | trim }}}}<|end|>\n{{% endfor %}}{ASK}{{% endif %}}"
BLANK = f"{LOOP}{TURN} {{{{ turn['content'] }}}}<|end|>{{% endfor %}}{ASK}{{% endif %}}"
THINKS = (
    f"{LOOP}{TURN}{{% if turn['role'] == 'assistant' %}}<think></think>{{% endif %}}"
    f"{{{{ turn['content'] }}}}<|end|>\n{{% endfor %}}{ASK}{{% endif %}}"
)
DATED = (
    f"{{{{ strftime_now('%d %b %Y') }}}}{LOOP}{TURN}{{{{ turn['content'] }}}}<|end|>{{% endfor %}}"
)
APART = f"{LOOP}{TURN}{{{{ turn['content'] }}}}<|end|>{{% endfor %}}{ASK}<quick>{{% endif %}}"
TWICE = f"{LOOP}{TURN}{{{{ turn['content'] }}}} {{{{ turn['content'] }}}}<|end|>{{% endfor %}}"


def tokenizer(template: str | None = None, **how: Any) -> Any:
    made = load("tiny").tokenizer()
    made.chat_template = template or made.chat_template
    for name, value in how.items():
        setattr(made, name, value)
    return made


def assistant(*said: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": each} for each in said]


def own(template: Template, tokens: Any, said: str, end: Any = False) -> str:
    placed = template.place(USER, assistant(said), end=end)
    return tokens.decode(placed.ids[placed.start :])


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "  4, of course \n"),
        (TRIMS, "4, of course"),
        (BLANK, "   4, of course \n"),
        (THINKS, "<think></think>  4, of course \n"),
    ],
    ids=["as it is", "trims", "puts a blank before", "writes thoughts before"],
)
def test_the_text_is_the_one_that_the_template_makes_of_it(template: str | None, expected: str):
    tokens = tokenizer(template)
    made = Template(tokens)
    said = "  4, of course \n"
    none, turn, whole = (made.place(USER, assistant(said), end=end) for end in ENDS)
    assert own(made, tokens, said) == expected
    assert own(made, tokens, said, True) == f"{expected}<|end|>"
    assert whole.ids == tokens.apply_chat_template([*USER, *assistant(said)])["input_ids"]
    assert none.start == turn.start == whole.start
    # One pass of a model serves all three.
    assert whole.ids[: len(turn.ids)] == turn.ids
    assert turn.ids[: len(none.ids)] == none.ids


@pytest.mark.parametrize("said", ["end", "e", "|", "<", "n|>", "assistant", "\n", "<|end|", "1"])
def test_a_short_completion_is_not_looked_for_in_the_marks_around_it(said: str):
    tokens = tokenizer(eos_token="<|pad|>")
    made = Template(tokens)
    assert own(made, tokens, said) == said
    assert own(made, tokens, said, True) == f"{said}<|end|>"
    thanks = [{"role": "user", "content": said}]
    placed = made.place([*USER, *assistant("4")], thanks)
    assert tokens.decode(placed.ids[placed.start :]) == said


def test_marks_within_a_completion_are_read_as_a_trainer_reads_them():
    tokens = tokenizer()
    said = "4<|end|>\n<|user|>Thanks<|end|>\n<|assistant|>5"
    placed = Template(tokens).place(USER, assistant(said), end="template")
    assert placed.ids == tokens.apply_chat_template([*USER, *assistant(said)])["input_ids"]
    assert tokens.decode(placed.ids[placed.start :]) == f"{said}<|end|>\n"


@given(st.text(min_size=1), st.text())
def test_any_text_comes_back_and_its_tokens_are_the_trainers(said: str, asked: str):
    tokens = tokenizer()
    made = Template(tokens)
    turns = [{"role": "user", "content": asked}]
    whole = made.place(turns, assistant(said), end="template")
    assert whole.ids == tokens.apply_chat_template([*turns, *assistant(said)])["input_ids"]
    assert tokens.decode(whole.ids[whole.start :]) == f"{said}<|end|>\n"


@pytest.mark.parametrize("said", ["", " \n"])
def test_a_completion_of_which_nothing_is_left_has_no_tokens(said: str):
    made = Template(tokenizer(TRIMS))
    for end in (False, True):
        with pytest.raises(Unreadable, match="no tokens"):
            made.place(USER, assistant(said), end=end)
    # To end at once is something that a model can say.
    placed = made.place(USER, assistant(said), end="template")
    assert len(placed.ids) - placed.start == 2


def test_a_turn_that_begins_elsewhere_than_the_model_is_asked_is_read_where_it_is_asked():
    tokens = tokenizer(APART)
    made = Template(tokens)
    assert own(made, tokens, "4", True) == "4<|end|>"
    with pytest.raises(Unreadable, match=r"elsewhere .* has '<quick>', the whole .* '4<\|end\|>'"):
        made.place(USER, assistant("4"), end="template")


def spaced() -> Any:
    """A tokenizer that puts a blank before any text, and a template with one before a turn's end.

    So had the first models with a chat template; read alone, that blank is another token.
    """
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    signs = [chr(code) for code in range(33, 127)]
    vocabulary = {sign: at for at, sign in enumerate(["<unk>", "<s>", "</s>", "\u2581", *signs])}
    merges = [("\u2581", "\u2581"), ("\u2581", "a")]
    vocabulary |= {"".join(two): len(vocabulary) + at for at, two in enumerate(merges)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    fast.chat_template = (
        f"{LOOP}{{% if turn['role'] == 'user' %}}<s>[ {{{{ turn['content'] }}}} ]"
        "{% else %} {{ turn['content'] }} </s>{% endif %}{% endfor %}"
    )
    return fast


@pytest.mark.parametrize("said", ["a4", "4 a", " a", "4 ", "</s>", "4</s> a"])
def test_the_token_that_ends_a_turn_is_read_where_it_stands(said: str):
    tokens = spaced()
    turns = [*USER, *assistant(said)]
    none, turn, whole = (Template(tokens).place(USER, turns[1:], end=end) for end in ENDS)
    assert whole.ids == tokens.apply_chat_template(turns)["input_ids"]
    assert turn == whole
    assert none.start == turn.start
    assert none.ids.count(tokens.eos_token_id) == turn.ids.count(tokens.eos_token_id) - 1


def test_a_template_that_asks_for_the_day_is_told_the_same_one_every_day():
    tokens = tokenizer(DATED)
    made = Template(tokens)
    asked = tokens.decode(made.ask(USER))
    assert asked.startswith(f"{DAY:%d %b %Y}<|user|>")
    assert asked != tokens.apply_chat_template(USER, tokenize=False)
    placed = made.place(USER, assistant("4"), end="template")
    assert tokens.decode(placed.ids).startswith(asked)


def test_a_text_that_cannot_be_told_from_others_is_refused():
    with pytest.raises(Unreadable, match="cannot be told"):
        Template(tokenizer(TWICE)).place(USER, assistant("4"))
    odd = [{"role": "user", "content": f"what is {MARK}?"}]
    with pytest.raises(Unreadable, match="cannot be told"):
        Template(tokenizer()).place(odd, assistant("4"))


def test_several_turns_are_read_with_what_stands_between_them():
    tokens = tokenizer(TRIMS)
    said = [*assistant(" 4 "), {"role": "user", "content": "Sure?"}, *assistant(" Yes. ")]
    placed = Template(tokens).place(USER, said, end=True)
    expected = "4<|end|>\n<|user|>Sure?<|end|>\n<|assistant|>Yes.<|end|>"
    assert tokens.decode(placed.ids[placed.start :]) == expected
