from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.sources import as_pairs
from prefdata.sources.conversations import conversations, shared_prompts, shared_text
from prefdata.tables import Votes

Turn = dict[str, str]


def turns(*pairs: str) -> list[Turn]:
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[each[0]], "content": each[2:]} for each in pairs]


def sides(made: Any) -> list[tuple[list[Turn], list[Turn], list[Turn]]]:
    """(prompt, preferred, other) of each vote."""
    prompts = dict(made.tables["prompts"].select("prompt_id", "prompt").rows())
    texts = dict(made.tables["completions"].select("completion_id", "completion").rows())
    rows = made.tables["votes"].rows(named=True)
    ends = [
        (row["completion_a"], row["completion_b"])[:: 1 if row["preference"] == 1 else -1]
        for row in rows
    ]
    return [
        (prompts[row["prompt_id"]], texts[one], texts[other])
        for row, (one, other) in zip(rows, ends, strict=True)
    ]


U, A, B = turns("u hi"), turns("a yes"), turns("a no")
HI = turns("s be kind", "u hi", "a hello", "u more")

LAYOUTS: dict[str, tuple[dict[str, Any], tuple[list[Turn], list[Turn], list[Turn]]]] = {
    "explicit, standard": ({"prompt": "hi", "chosen": "yes", "rejected": "no"}, (U, A, B)),
    "explicit, conversational": ({"prompt": U, "chosen": A, "rejected": B}, (U, A, B)),
    "explicit, texts of messages": ({"prompt": U, "chosen": "yes", "rejected": B}, (U, A, B)),
    "explicit, several turns": ({"prompt": HI, "chosen": A, "rejected": B}, (HI, A, B)),
    "explicit, and again in both sides": (
        {"prompt": "hi", "chosen": U + A, "rejected": U + B},
        (U, A, B),
    ),
    "explicit, and sides with a system message": (
        {"prompt": "more", "chosen": HI + A, "rejected": HI + B},
        (HI, A, B),
    ),
    "implicit, standard": (
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        (turns("u The sky is"), turns("a  blue."), turns("a  green.")),
    ),
    "implicit, conversational": ({"chosen": U + A, "rejected": U + B}, (U, A, B)),
    "implicit, several turns": ({"chosen": HI + A, "rejected": HI + B}, (HI, A, B)),
    "implicit, one side goes on": (
        {"chosen": U + A, "rejected": U + A + turns("u so?", "a so.")},
        (U, A, A + turns("u so?", "a so.")),
    ),
    "implicit, parting at a user": (
        {
            "chosen": U + A + turns("u why", "a x"),
            "rejected": U + A + turns("u how", "a x"),
        },
        (U, A + turns("u why", "a x"), A + turns("u how", "a x")),
    ),
    "with tools": (
        {"prompt": turns("u q", "a call", "t 4"), "chosen": A, "rejected": B},
        (turns("u q", "a call", "t 4"), A, B),
    ),
}


@pytest.mark.parametrize(("row", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_trl_layouts(imported: Any, row: dict[str, Any], expected: Any) -> None:
    made = imported("pairs", [row], strict=True)
    assert sides(made) == [expected]
    [vote] = made.tables["votes"].rows(named=True)
    assert (vote["annotator"], vote["draw"], vote["a_first"]) == ("human:rows", 0, None)


words = st.text("ab é天", max_size=8)


@given(words, words)
def test_a_shared_text_is_a_beginning_of_both(one: str, other: str) -> None:
    shared = shared_text(one, other)
    if shared.prompt is None:
        assert (shared.chosen, shared.rejected) == (one, other)
        return
    assert shared.prompt + shared.chosen == one
    assert shared.prompt + shared.rejected == other
    assert shared.prompt.strip()


@given(words, words, words)
def test_what_two_texts_begin_with_is_all_that_they_share(p: str, one: str, other: str) -> None:
    """Parted at a space, nothing but that space and the word after it can still be shared."""
    shared = shared_text(f"{p} {one}", f"{p} {other}")
    if shared.prompt is not None and shared.chosen and shared.rejected:
        first = [t.removeprefix(" ").split(" ")[0] for t in (shared.chosen, shared.rejected)]
        assert first[0] != first[1] or "天" in shared.prompt + shared.chosen + shared.rejected


TEXTS = {
    ("The sky is blue", "The sky is blank"): "The sky is",
    ("same words", "same words"): "same words",
    ("天空是蓝色", "天空是绿色"): "天空是",
    ("The sky is", "The sky is blue"): "The sky is",
    ("ask I think", "ask I'd say"): "ask",
    ("ask cafe", "ask cafe\u0301"): "ask",
    ("A ", "B"): None,
    ("", "B"): None,
}


@pytest.mark.parametrize(("both", "prompt"), TEXTS.items())
def test_texts_are_parted_between_words(both: tuple[str, str], prompt: str | None) -> None:
    assert shared_text(*both).prompt == prompt
    assert shared_text(*reversed(both)).prompt == prompt


talk = st.lists(st.sampled_from(turns("u x", "u y", "a x", "a y", "s x")), min_size=1, max_size=6)


@given(st.lists(st.tuples(talk, talk), min_size=1, max_size=8))
def test_shared_messages_are_the_longest_that_leave_assistants(
    both: list[tuple[list[Turn], list[Turn]]],
) -> None:
    columns = [conversations([pair[i] for pair in both], "assistant").value for i in (0, 1)]
    for (one, other), n in zip(both, shared_prompts(*columns), strict=True):
        fits = [
            k
            for k in range(1, min(len(one), len(other)))
            if one[:k] == other[:k] and one[k]["role"] == other[k]["role"] == "assistant"
        ]
        assert n == max(fits, default=0)


def test_pairs_of_an_annotator_are_pairs_again(imported: Any) -> None:
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "u1"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "u1"},
        {"prompt": "p", "chosen": "b", "rejected": "a", "annotator": "u1"},
        {"prompt": "p", "chosen": "b", "rejected": "a", "annotator": "llm:m/j"},
        {"prompt": "q", "chosen": "b", "rejected": "a", "annotator": "u2"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "annotator": "u2"},
    ]
    made = imported("pairs", rows, strict=True)
    texts = dict(
        made.tables["completions"]
        .select("completion_id", pl.col("completion").list.first().struct.field("content"))
        .rows()
    )
    pairs, ties = as_pairs(Votes(made.tables["votes"]))
    found = {
        (row["annotator"], texts[row["chosen_id"]], row["n_votes"]): row["soft_label"]
        for row in pairs.rows(named=True)
    }
    assert found == {
        ("human:u1", "a", 3): pytest.approx(2 / 3),
        ("llm:m/j", "b", 1): 1.0,
    }
    assert pairs["margin"].null_count() == pairs.height
    (tie,) = ties.rows(named=True)
    assert (tie["table"], tie["stage"]) == ("pairs", "sources.pairs")
    assert tie["key"].endswith(" human:u2")


def test_no_votes_are_no_pairs(imported: Any) -> None:
    made = imported("pairs", [{"prompt": "p", "chosen": "a", "rejected": "a"}])
    assert as_pairs(Votes(made.tables["votes"]))[0].is_empty()
