"""Distinct sides: what counts as the same text and as an empty one."""

from random import Random

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.models.scripted import ScriptedClient
from prefdata.models.spec import ModelSpec
from prefdata.select import distinct as module
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Pairs, Prompts, Requests, Responses

WORDS = Model("target", "words", "scripted", {})


def nobody(requests):
    raise AssertionError("no model is needed")


def by_words(requests):
    """A tokenizer that counts words, of what the template says nothing else."""
    client = ScriptedClient(ModelSpec(client="scripted"))
    return Responses(pl.concat(client.answer(Requests(requests))))


def distinct(pairs, completions, prompts=None, *, ask=nobody, **options):
    return drive(module.distinct(pairs, completions, prompts, **options), ask)[0]


def world(texts):
    """A pair and its two completions for each (chosen, rejected); a side may be a list of turns."""
    turns = [
        [{"role": "assistant", "content": turn} for turn in ([t] if isinstance(t, str) else t)]
        for both in texts
        for t in both
    ]
    n = len(texts)
    ids = [f"c{i:03}" for i in range(2 * n)]
    completions = pl.DataFrame({"completion_id": ids, "prompt_id": ["p"] * 2 * n}).with_columns(
        pl.Series("completion", turns, tables.MESSAGES)
    )
    pairs = {
        "pair_id": [f"pair{i:03}" for i in range(n)],
        "prompt_id": ["p"] * n,
        "chosen_id": ids[::2],
        "rejected_id": ids[1::2],
        "soft_label": [0.75] * n,
        "n_votes": [1] * n,
    }
    typed = tables.typed(Pairs, pl.DataFrame(pairs))
    return typed, tables.typed(Completions, completions)


def kept(chosen, rejected, **options):
    return distinct(*world([(chosen, rejected)]), **options).height == 1


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("same", "same"),
        ("two  words\n", " two words"),
        ("caf\u00e9", "cafe\u0301"),
        ("\ufb01ne", "fine"),
        ("a\u00a0b", "a b"),
        ("zero\u200bwidth", "zerowidth"),
        (["one", "two"], ["one\ntwo"]),
    ],
)
def test_texts_that_differ_only_in_spelling_are_the_same(chosen, rejected):
    assert not kept(chosen, rejected)
    assert not kept(rejected, chosen)


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("yes", "no"),
        ("4", "5"),
        ("C", "C++"),
        ("👍", "👎"),
        ("好", "不好"),
        ("a b", "ab"),
        ("x²", "x³"),
    ],
)
def test_texts_that_differ_are_kept(chosen, rejected):
    assert kept(chosen, rejected)


@pytest.mark.parametrize("nothing", ["", "   ", "\n\t", "...", "\u200b", "-"])
def test_an_empty_side_is_dropped_on_either_side(nothing):
    assert not kept("something", nothing)
    assert not kept(nothing, "something")


def test_the_fewest_characters_are_inclusive():
    assert kept("abc!", "defg", min_characters=3)
    assert not kept("ab!!", "defg", min_characters=3)
    assert kept("", "defg", min_characters=0)


def test_case_counts_unless_it_does_not():
    assert kept("Yes", "yes")
    assert not kept("Yes", "yes", case_counts=False)


def test_rows_stay_as_they_are_and_in_their_order():
    pairs, completions = world([("a", "b"), ("c", "c"), ("d", "e"), ("", "f")])
    mixed = Pairs(pairs.reverse())
    assert distinct(mixed, completions).equals(mixed[[1, 3]])
    assert distinct(Pairs(pairs[:0]), completions).equals(pairs[:0])


def test_a_pair_without_its_completion_and_a_bad_option_are_refused():
    pairs, completions = world([("a", "b")])
    with pytest.raises(TableError, match="c001"):
        distinct(pairs, Completions(completions[:1]))
    with pytest.raises(RecipeError, match="min_characters is -1"):
        distinct(pairs, completions, min_characters=-1)
    for half in ({"tokenizer": WORDS}, {"max_length": 9}, {"tokenizer": WORDS, "max_length": 0}):
        with pytest.raises(RecipeError, match="give both"):
            distinct(pairs, completions, **half)


def prompts_of(words):
    asked = [{"role": "user", "content": " ".join(["why"] * words)}]
    frame = pl.DataFrame({"prompt_id": ["p"], "source": ["s"]}).with_columns(
        pl.Series("prompt", [asked], tables.MESSAGES)
    )
    return tables.typed(Prompts, frame)


def reasons(texts, *, prompt=3, most, ask=by_words, **options):
    """Why each pair is dropped, in their order; None where it is kept."""
    pairs, completions = world(texts)
    stage = module.distinct(
        pairs, completions, prompts_of(prompt), tokenizer=WORDS, max_length=most, **options
    )
    kept, dropped = drive(stage, ask)
    said = dict(dropped.select("key", "reason").iter_rows())
    assert said.keys() == set(pairs["pair_id"]) - set(kept["pair_id"])
    assert kept.equals(pairs.filter(pl.col("pair_id").is_in(kept["pair_id"].implode())))
    return [said.get(each) for each in pairs["pair_id"]]


def test_what_is_cut_off_can_no_longer_tell_two_sides_apart():
    texts = [
        ("a b c d e", "a b c d f"),  # differ at the fifth word
        ("a b c d e", "a b c"),  # one begins the other
        ("x b c d e", "a b c d f"),  # differ at the first
        ("same", "same"),
    ]
    words = "both sides say the same"
    same, begun, empty = (
        f"{what} within {{}} tokens{rest}"
        for what, rest in (
            ("both sides are the same", ""),
            ("one side is the beginning of the other", ", the rest is cut off"),
            ("a side is empty", ""),
        )
    )
    assert reasons(texts, most=8) == [None, None, None, words]
    assert reasons(texts, most=7) == [same.format(7), begun.format(7), None, words]
    assert reasons(texts, most=6) == [same.format(6), same.format(6), None, words]
    assert reasons(texts, most=4) == [same.format(4), same.format(4), None, words]
    assert reasons(texts, most=3) == [empty.format(3)] * 3 + [words]
    assert reasons(texts, most=1) == [empty.format(1)] * 3 + [words]
    # A longer prompt leaves less room.
    assert reasons(texts, prompt=4, most=8) == [same.format(8), begun.format(8), None, words]


def test_cutting_is_that_of_plain_lists():
    draw = Random(0)
    texts = [
        tuple(" ".join(draw.choices("ab", k=draw.randint(1, 6))) for _ in range(2))
        for _ in range(200)
    ]
    for most in (3, 4, 5, 6, 7, 8, 9, 20):
        room = max(0, most - 3)
        found = reasons(texts, most=most)
        for (one, other), why in zip(texts, found, strict=True):
            a, b = one.split()[:room], other.split()[:room]
            was_cut = len(a) < len(one.split()) or len(b) < len(other.split())
            n = min(len(a), len(b))
            bad = one == other or n == 0 or a == b or (a[:n] == b[:n] and was_cut)
            assert bad == (why is not None), (one, other, most, why)


def test_without_tokens_there_is_a_reason_and_a_pair_is_not_guessed():
    def broken(requests):
        told = by_words(requests)
        lost = pl.int_range(pl.len()) == 0
        return Responses(
            told.with_columns(
                token_ids=pl.when(~lost).then("token_ids"),
                number=pl.when(~lost).then("number"),
                error=pl.when(lost).then(pl.lit("bad request: none")),
            )
        )

    [why] = reasons([("a b", "c d")], most=20, ask=broken)
    assert why == "the tokenizer gave no tokens: bad request: none"


def test_a_completion_in_many_pairs_is_read_once_whatever_the_order(shuffled):
    pairs, completions = world([("a b", "c d"), ("e", "f"), ("g", "h")])
    twice = pairs.with_columns(
        chosen_id=pl.lit("c000"), pair_id=pl.concat_str("pair_id", pl.lit("x"))
    )
    both = Pairs(pl.concat([pairs, twice.filter(pl.col("rejected_id") != "c001")]))
    seen = []

    def counting(requests):
        seen.append(requests.height)
        return by_words(requests)

    options = {"tokenizer": WORDS, "max_length": 4}
    kept = distinct(both, completions, prompts_of(3), ask=counting, **options)
    assert seen == [6]
    mixed = distinct(
        Pairs(shuffled(both, 1)), shuffled(completions, 2), prompts_of(3), ask=by_words, **options
    )
    assert mixed.sort("pair_id").equals(kept.sort("pair_id"))
