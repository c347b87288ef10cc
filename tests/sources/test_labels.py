import random
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prefdata.sources import Imported

SCALE = {"scale": [1, 5], "higher_is_better": True}


def vote(a: str = "x", b: str = "y", preference: Any = 1.0, **rest: Any) -> dict[str, Any]:
    return {"prompt": "p", "completion_a": a, "completion_b": b, "preference": preference, **rest}


def preferred(made: Imported) -> list[tuple[str, float | None, bool | None]]:
    """(text, preference, a_first) of each vote, for the one of its two texts that is first."""
    texts = {row["completion_id"]: row["completion"][0]["content"]
             for row in made.tables["completions"].rows(named=True)}  # fmt: skip
    rows: list[tuple[str, float | None, bool | None]] = []
    for row in made.tables["votes"].rows(named=True):
        a, b = texts[row["completion_a"]], texts[row["completion_b"]]
        preference, first = row["preference"], row["a_first"]
        if a > b:
            a = b
            preference = None if preference is None else 1 - preference
            first = None if first is None else not first
        rows.append((a, preference, first))
    return rows


def test_the_order_of_a_and_b_in_the_file_carries_no_meaning(imported: Any) -> None:
    one = [vote("x", "y", 0.7, a_first=True), vote("x", "z", 1), vote("y", "z", 0.5)]
    other = [vote("y", "x", 0.3, a_first=False), vote("z", "x", 0), vote("z", "y", 0.5)]
    first, second = imported("votes", one), imported("votes", other)
    for name, table in first.tables.items():
        assert_frame_equal(table, second.tables[name])


def test_a_preference_is_for_the_completion_that_the_file_calls_a(imported: Any) -> None:
    for row in (vote("x", "y", 0.75, a_first=True), vote("y", "x", 0.25, a_first=False)):
        assert preferred(imported("votes", [row])) == [("x", 0.75, True)]


def test_the_order_of_the_rows_carries_no_meaning(imported: Any) -> None:
    rows = [
        vote(a, b, preference, annotator=who, rationale=why)
        for a, b in (("x", "y"), ("y", "x"), ("x", "z"))
        for preference in (0, 1, 0.5)
        for who in ("u1", "u2")
        for why in (None, "so")
    ]
    rows += [vote(preference=1, reference="4"), vote(preference=1, reference="5")]
    first = imported("votes", rows)
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        second = imported("votes", shuffled)
        for name, table in first.tables.items():
            assert_frame_equal(table, second.tables[name])
        assert sorted(first.quarantined["reason"]) == sorted(second.quarantined["reason"])


def test_repeated_votes_of_one_annotator_get_the_next_draw(imported: Any) -> None:
    rows = [vote(annotator="u1"), vote(annotator="u1"), vote(annotator="u2")]
    rows += [vote(annotator="u1", criterion="tone"), vote(annotator="u3", draw=4)]
    rows += [vote(annotator="u3"), vote(annotator="u3", draw=4)]
    votes = imported("votes", rows).tables["votes"]
    keys = votes.select("annotator", "criterion", "draw").rows()
    assert sorted(keys) == [
        ("human:u1", "overall", 0),
        ("human:u1", "overall", 1),
        ("human:u1", "tone", 0),
        ("human:u2", "overall", 0),
        ("human:u3", "overall", 4),
        ("human:u3", "overall", 5),
    ]


def test_one_draw_with_two_contents_is_quarantined(imported: Any) -> None:
    rows = [vote(draw=0), vote(draw=0, preference=0), vote(draw=1)]
    made = imported("votes", rows)
    assert made.quarantined["line"].to_list() == [1, 2]
    assert made.tables["votes"]["draw"].to_list() == [1]


def test_annotators_are_kinds_and_names(imported: Any) -> None:
    rows = [vote(annotator="llm:m/j"), vote(annotator="w: 3"), vote(), vote(annotator=7)]
    votes = imported("votes", rows, annotator="rule:mine").tables["votes"]
    assert sorted(votes["annotator"]) == ["human:7", "human:w: 3", "llm:m/j", "rule:mine"]


def test_values_translate_and_say_why_there_is_none(imported: Any) -> None:
    rows = [vote(preference=each) for each in (1, 2.0, "0", "junk", True, None, "new")]
    values = {"preference": {"1": 1.0, "2": 0.0, "0": 0.5, "junk": "unparsable", "true": 1}}
    made = imported("votes", rows, values=values)
    assert sorted(p for _, p, _ in preferred(made) if p is not None) == [0.0, 0.5, 1.0, 1.0]
    [unscored] = made.tables["votes"].filter(pl.col("preference").is_null()).rows(named=True)
    assert (unscored["unscored"], unscored["rationale"]) == ("unparsable", "junk")
    assert made.quarantined.select("line", "reason").rows() == [
        (6, "preference is missing"),
        (7, "preference is 'new', which is not among its values (0, 1, 2, junk, true)"),
    ]


def test_an_exported_unscored_vote_is_one_again(imported: Any) -> None:
    rows = [vote(preference=None, unscored="refused", rationale="I cannot"), vote(unscored="odd")]
    made = imported("votes", rows)
    [row] = made.tables["votes"].rows(named=True)
    assert (row["preference"], row["unscored"], row["rationale"]) == (None, "refused", "I cannot")
    [reason] = made.quarantined["reason"]
    assert reason == "there is a preference, and a reason for none"


def test_a_column_an_annotator_is_unfolded(imported: Any) -> None:
    base = {"prompt": "p", "completion_a": "x", "completion_b": "y"}
    rows = [
        base | {"h1": 1, "m": "L", "why": "good"},
        base | {"h1": None, "m": "R"},
        base | {"h1": 0.5, "m": "?"},
        base | {"h1": None, "m": None},
        base | {"h1": 1, "completion_a": "y"},
    ]
    annotators = {"human:1": "h1", "llm:m": {"preference": "m", "rationale": "why"}}
    values = {"preference": {"L": 1.0, "R": 0.0, "1": 1.0, "0.5": 0.5}}
    made = imported("votes", rows, annotators=annotators, values=values)
    votes = made.tables["votes"].sort("annotator", "rationale", nulls_last=True)
    x_is_a = preferred(made)
    assert sorted(p for _, p, _ in x_is_a if p is not None) == [0.0, 0.5, 1.0, 1.0]
    assert votes["annotator"].to_list() == ["human:1", "human:1", "llm:m", "llm:m"]
    assert votes["rationale"].to_list() == [None, None, "good", None]
    assert made.quarantined.select("line", "reason").rows() == [
        (3, "m: preference is '?', which is not among its values (0.5, 1, L, R)"),
        (4, "no preference in any of h1, m"),
        (5, "completion_a equals completion_b"),
    ]


def test_the_labels_of_one_row_keep_one_draw(imported: Any) -> None:
    """Two rows on the same texts: what annotators said of one of them stays together."""
    base = {"prompt": "p", "completion_a": "x", "completion_b": "y"}
    rows = [base | {"h1": 0, "h2": 1}, base | {"h1": 1, "h2": 0}, base | {"h1": 1, "h2": 0}]
    made = imported("votes", rows, annotators={"human:1": "h1", "human:2": "h2"})
    wide = made.tables["votes"].pivot("annotator", index="draw", values="preference")
    assert (wide["human:1"] + wide["human:2"]).to_list() == [1.0, 1.0, 1.0]


def rating(value: Any, completion: str = "x", **rest: Any) -> dict[str, Any]:
    return {"prompt": "p", "completion": completion, "rating": value, **rest}


@pytest.mark.parametrize(("higher", "expected"), [(True, 0.75), (False, 0.25)])
def test_a_rating_is_from_the_worst_to_the_best(
    imported: Any, higher: bool, expected: float
) -> None:
    made = imported("ratings", [rating(4)], scale=[1, 5], higher_is_better=higher)
    [row] = made.tables["ratings"].rows(named=True)
    assert (row["rating"], row["raw"], row["annotator"]) == (expected, "4", "human:rows")


def test_a_raw_rating_does_not_depend_on_its_neighbours(imported: Any) -> None:
    alone = imported("ratings", [rating(4)], **SCALE).tables["ratings"]
    beside = imported("ratings", [rating(4), rating(4.5, "y"), rating(2.0, "z")], **SCALE)
    assert alone["raw"].to_list() == ["4"]
    assert sorted(beside.tables["ratings"]["raw"]) == ["2", "4", "4.5"]


def test_words_and_thumbs_are_ratings(imported: Any) -> None:
    words = {"rating": {"good": 5, "bad": 1, "n/a": "not applicable"}}
    rows = [rating("good", "x"), rating("bad", "y"), rating("n/a", "z")]
    made = imported("ratings", rows, values=words, **SCALE).tables["ratings"]
    found = made.select("raw", "rating", "unscored", "rationale").rows()
    assert sorted(found) == [
        ("bad", 0.0, None, None), ("good", 1.0, None, None),
        ("n/a", None, "not applicable", "n/a"),
    ]  # fmt: skip
    thumbs = imported(
        "ratings", [rating(True, "x"), rating(False, "y")], scale=[0, 1], higher_is_better=True
    )
    assert sorted(thumbs.tables["ratings"]["rating"]) == [0.0, 1.0]


def test_completions_are_drawn_by_generators(imported: Any) -> None:
    rows = [
        {"prompt": "p", "completion": "x"},
        {"prompt": "p", "completion": "x"},
        {"prompt": "p", "completion": "x", "generator": "m", "finish_reason": "stop"},
        {"prompt": "q", "completion": "x"},
    ]
    made = imported("completions", rows, generator="old")
    assert made.tables["completions"].height == 2
    samples = made.tables["samples"].select("generator", "draw", "finish_reason").rows()
    assert sorted(samples, key=str) == [
        ("m", 0, "stop"), ("old", 0, None), ("old", 0, None), ("old", 1, None),
    ]  # fmt: skip


def test_a_generator_that_votes_mention_is_one_draw(imported: Any) -> None:
    rows = [vote("x", b, generator_a="m", generator_b="n") for b in "yz"]
    samples = imported("votes", rows).tables["samples"]
    assert sorted(samples.select("generator", "draw").rows()) == [("m", 0), ("n", 0), ("n", 0)]


def test_every_label_follows_to_its_texts(imported: Any) -> None:
    made = imported("votes", [vote("x", "y"), vote("x", "z")])
    known = made.tables["completions"]["completion_id"]
    votes = made.tables["votes"]
    assert pl.concat([votes["completion_a"], votes["completion_b"]]).is_in(known.implode()).all()
