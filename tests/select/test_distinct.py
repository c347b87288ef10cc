"""Distinct sides: what counts as the same text and as an empty one."""

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.select.distinct import distinct
from prefdata.tables import Completions, Pairs


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
