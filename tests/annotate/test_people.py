"""People's answers as votes and ratings."""

from typing import Any

import polars as pl

from prefdata import tables as t
from prefdata.annotate.people import people
from prefdata.tables import Annotations, Completions, typed

COMPLETIONS = typed(
    Completions,
    pl.DataFrame(
        {
            "completion_id": ["a1", "a2", "b1"],
            "prompt_id": ["p", "p", "q"],
            "completion": [[{"role": "assistant", "content": text}] for text in "xyz"],
        }
    ),
)


def annotations(*rows: dict[str, Any]) -> Annotations:
    base = {
        "annotator": "human:anna", "criterion": "helpfulness", "completion_a": "a1",
        "completion_b": "a2", "a_first": True, "value": 1.0, "raw": "first", "rationale": None,
        "unscored": None, "gold": None, "seconds": 3.0, "answered_at": None, "tool": "csv",
    }  # fmt: skip
    made = [{"task_id": f"t{at}", **base, **row} for at, row in enumerate(rows)]
    frame = pl.DataFrame(made, t.empty("annotations").schema)
    return Annotations(t.check("annotations", frame, where="a test"))


def checked(given: Annotations) -> tuple[pl.DataFrame, pl.DataFrame]:
    votes, ratings = people(given, COMPLETIONS)
    return t.check("votes", votes, where="x"), t.check("ratings", ratings, where="x")


def test_a_comparison_is_a_vote_and_its_task_is_its_request():
    votes, ratings = checked(annotations({"a_first": False, "value": 0.0, "rationale": "why"}))
    assert ratings.is_empty()
    (vote,) = votes.to_dicts()
    assert vote == {
        "completion_a": "a1", "completion_b": "a2", "annotator": "human:anna",
        "criterion": "helpfulness", "draw": 0, "a_first": False, "prompt_id": "p",
        "preference": 0.0, "rationale": "why", "unscored": None, "request_id": "t0",
    }  # fmt: skip


def test_a_rating_is_a_rating():
    single = {"completion_b": None, "a_first": None, "value": 0.75, "raw": "4"}
    votes, ratings = checked(annotations(single))
    assert votes.is_empty()
    assert ratings.select("completion_id", "prompt_id", "rating", "raw").rows() == [
        ("a1", "p", 0.75, "4")
    ]


def test_answers_to_different_prompts_have_no_prompt():
    votes, _ = checked(annotations({"completion_b": "b1"}))
    assert votes["prompt_id"].to_list() == [None]


def test_the_same_question_in_two_tasks_is_two_votes_of_one_annotator():
    votes, _ = checked(annotations({}, {"value": 0.5}, {"annotator": "human:bert"}))
    told = votes.sort("annotator", "draw").select("annotator", "draw").rows()
    assert told == [("human:anna", 0), ("human:anna", 1), ("human:bert", 0)]


def test_what_was_said_of_completions_that_are_gone_counts_for_nothing():
    gone = {"completion_b": "zz"}
    single = {"completion_a": "zz", "completion_b": None, "a_first": None}
    votes, ratings = checked(annotations(gone, single, {}))
    assert (votes["request_id"].to_list(), ratings.height) == (["t2"], 0)


def test_an_answer_without_a_value_is_unscored():
    votes, _ = checked(annotations({"value": None, "unscored": "cannot tell"}))
    assert votes.select("preference", "unscored").rows() == [(None, "cannot tell")]


def test_the_order_of_the_rows_does_not_matter():
    rows = [{}, {"value": 0.5}, {"annotator": "human:bert"}, {"completion_b": "b1"}]
    given = annotations(*rows)
    votes, _ = checked(given)
    assert checked(Annotations(given.reverse()))[0].equals(votes)
