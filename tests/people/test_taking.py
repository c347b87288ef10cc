"""Which answers count: one test for each kind of bad import, and that all else is taken."""

from dataclasses import replace
from typing import Any

import pytest

from prefdata.judge import load
from prefdata.people.form import form_of
from prefdata.people.store import record
from prefdata.people.taking import Given, Taken, gold_accuracy, take
from prefdata.people.tasks import Task

FORM = form_of(load("helpfulness"), "pairwise")
TEXTS = {"prompt": "Which?", "first": "one", "second": "other\nline"}
TASKS = {
    id: record(FORM, Task(id, "aa", f"b{id}", a_first, *_texts, gold=gold))
    for id, a_first, gold in (("t1", True, None), ("t2", False, None), ("t3", False, 1.0))
    for _texts in [(TEXTS["prompt"], (TEXTS["first"], TEXTS["second"]))]
}
GOOD = Given(
    place="file, line 2", tool="csv", task_id="t1", annotator="anna", texts=TEXTS,
    values={"helpfulness": "first"}, seconds="12.5", answered_at="2026-01-31T13:00:00+01:00",
    row={"task_id": "t1"},
)  # fmt: skip


def answer(**changes: Any) -> Given:
    return replace(GOOD, **changes)


def taken(*given: Given, kept: list[dict[str, Any]] | None = None, **options: Any) -> Taken:
    return take(given, TASKS, kept or [], **options)


def test_an_answer_is_kept_with_all_that_it_says():
    (row,) = taken(answer(rationale=" clearer ")).rows
    assert row["annotator"] == "human:anna"
    assert (row["value"], row["raw"], row["unscored"]) == (1.0, "first", None)
    assert (row["seconds"], row["answered_at"]) == (12.5, "2026-01-31T12:00:00+00:00")
    assert (row["rationale"], row["tool"], row["task_id"]) == ("clearer", "csv", "t1")


@pytest.mark.parametrize(
    ("said", "straight", "turned"), [("first", 1.0, 0.0), ("Second", 0.0, 1.0), ("tie", 0.5, 0.5)]
)
def test_the_same_side_means_the_other_completion_where_that_one_is_first(
    said: str, straight: float, turned: float
):
    values = {"helpfulness": said}
    both = taken(answer(values=values), answer(values=values, task_id="t2")).rows
    assert [row["value"] for row in both] == [straight, turned]


def test_what_cannot_be_told_or_is_skipped_is_unscored_with_its_reason():
    one, other = taken(
        answer(values={"helpfulness": "cannot tell"}),
        answer(values={}, task_id="t2", is_skipped=True),
    ).rows
    assert (one["value"], one["unscored"]) == (None, "cannot tell")
    assert (other["value"], other["unscored"]) == (None, "skipped")


BAD = {
    "unknown id": (answer(task_id="nowhere"), "unknown task: its task_id is 'nowhere'"),
    "no id": (answer(task_id=""), "unknown task: its task_id is empty"),
    "changed prompt": (
        answer(texts={**TEXTS, "prompt": "Which one?"}),
        "its prompt is not what was handed out",
    ),
    "swapped sides": (
        answer(texts={**TEXTS, "first": TEXTS["second"], "second": TEXTS["first"]}),
        "its first is not what was handed out",
    ),
    "text gone": (answer(texts={"prompt": "Which?"}), "its first is gone"),
    "no annotator": (answer(annotator=" "), "half-filled: there is an answer, but no annotator"),
    "no answer": (answer(values={"helpfulness": ""}), "half-filled: helpfulness has no answer"),
    "no column": (answer(values={"helpfulnes": "first"}), "half-filled: there is no helpfulness"),
    "other answer": (
        answer(values={"helpfulness": "frist"}),
        "helpfulness is 'frist', which is none of first, second, tie, cannot tell",
    ),
    "no person": (answer(annotator="llm:gpt"), "only people answer tasks"),
    "odd seconds": (answer(seconds="-3"), "seconds is '-3', not a number from 0"),
    "no seconds": (answer(seconds="nan"), "seconds is 'nan', not a number from 0"),
    "odd time": (answer(answered_at="yesterday"), "answered_at is 'yesterday', not a time"),
    "unreadable": (answer(wrong="bad JSON: x"), "bad JSON: x"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_is_quarantined_with_its_place_and_reason_and_the_rest_is_taken(kind: str):
    bad, reason = BAD[kind]
    came = taken(bad, answer(task_id="t2"))
    assert [row["task_id"] for row in came.rows] == ["t2"]
    (refused,) = came.quarantined
    assert reason in refused.reason
    assert (refused.place, refused.row) == (bad.place, bad.row)


def test_two_answers_under_one_name_are_both_left_out():
    other = answer(values={"helpfulness": "second"}, place="file, line 9")
    came = taken(answer(), other, answer(annotator="bert"))
    assert [row["annotator"] for row in came.rows] == ["human:bert"]
    assert [each.place for each in came.quarantined] == ["file, line 2", "file, line 9"]
    assert "human:anna has answered this task in several ways" in came.quarantined[0].reason


def test_the_same_answer_twice_is_one():
    came = taken(answer(), answer(place="another file", seconds="80"))
    assert (len(came.rows), came.new, came.known, came.quarantined) == (1, 1, 1, [])


def test_taking_again_changes_nothing():
    first = taken(answer(), answer(task_id="t2"))
    again = taken(answer(), answer(task_id="t2"), kept=first.rows)
    assert again.rows == first.rows
    assert (again.new, again.known, again.mended) == (0, 2, 0)


def test_an_answer_other_than_the_kept_one_is_left_out_unless_it_replaces_it():
    kept = taken(answer()).rows
    other = answer(values={"helpfulness": "second"})
    refused = taken(other, kept=kept)
    assert refused.rows == kept
    assert "has answered this task before, otherwise: 'first'" in refused.quarantined[0].reason
    replaced = taken(other, kept=kept, replace=True)
    assert ([row["value"] for row in replaced.rows], replaced.mended) == ([0.0], 1)


def test_an_answer_that_its_tool_calls_the_same_is_mended():
    kept = taken(answer(source="annotation 7")).rows
    mended = taken(answer(source="annotation 7", values={"helpfulness": "tie"}), kept=kept)
    assert ([row["value"] for row in mended.rows], mended.mended) == ([0.5], 1)
    another = taken(answer(source="annotation 8", values={"helpfulness": "tie"}), kept=kept)
    assert another.rows == kept
    assert len(another.quarantined) == 1


def test_a_task_without_any_answer_waits():
    blank = answer(values={"helpfulness": ""}, seconds="", answered_at="", annotator="anna")
    came = taken(blank, answer(task_id="t2"))
    assert (came.waiting, len(came.rows), came.quarantined) == (1, 1, [])


def test_gold_is_right_whichever_side_is_first():
    right = answer(task_id="t3", values={"helpfulness": "second"})  # a is shown second
    wrong = answer(task_id="t3", values={"helpfulness": "first"}, annotator="bert")
    unsure = answer(task_id="t3", values={"helpfulness": "cannot tell"}, annotator="carl")
    rows = taken(right, wrong, unsure, answer()).rows
    assert gold_accuracy(rows) == {"human:anna": (1.0, 1), "human:bert": (0.0, 1)}


def test_line_ends_and_outer_blanks_are_no_change():
    spreadsheet = {"prompt": " Which?", "first": "one\r\n", "second": "other\r\nline"}
    assert len(taken(answer(texts=spreadsheet)).rows) == 1


def test_a_row_with_a_hint_and_a_column_of_ones_own_but_no_answer_waits():
    from prefdata.people.rows import given

    row = {"task_id": "t1", "annotator": "", **TEXTS, "hint": "3 votes of models", "notes": "later",
           "helpfulness": "", "rationale": "", "seconds": "", "answered_at": ""}  # fmt: skip
    came = taken(given(row, "file, line 2", "csv"))
    assert (came.waiting, came.rows, came.quarantined) == (1, [], [])


@pytest.mark.parametrize("text", ["4", "4.0", " 4.00 "])
def test_a_grade_may_have_come_back_as_a_decimal(text: str):
    form = form_of(load("helpfulness-rating"), "rating")
    tasks = {"r": record(form, Task("r", "aa", None, None, "Which?", ("one",)))}
    said = answer(task_id="r", texts={"prompt": "Which?", "completion": "one"},
                  values={"helpfulness": text})  # fmt: skip
    assert [row["raw"] for row in take([said], tasks, []).rows] == ["4"]


def test_a_name_is_the_same_however_its_accents_are_written():
    composed, parted = (answer(annotator=name) for name in ("Jos\u00e9", "Jose\u0301"))
    came = taken(composed, parted)
    assert (came.new, came.known, len(came.rows)) == (1, 1, 1)
