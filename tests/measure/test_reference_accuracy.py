import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.measure.reference_accuracy import reference_accuracy
from prefdata.tables import Measures, Ratings, Votes


def vote(a: str, b: str, preference: float | None, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "completion_a": a,
        "completion_b": b,
        "annotator": "llm:j/helpfulness",
        "criterion": "helpfulness",
        "draw": 0,
        "a_first": True,
        "preference": preference,
        "unscored": "malformed verdict" if preference is None else None,
    }
    return row | changes


def votes(*rows: dict[str, object]) -> Votes:
    return t.typed(Votes, pl.DataFrame(list(rows), infer_schema_length=None))


def checks(**passed: float | None) -> Ratings:
    rows = [
        {
            "completion_id": name,
            "annotator": "rule:exact_match",
            "criterion": "correctness",
            "draw": 0,
            "prompt_id": "p",
            "rating": value,
            "unscored": "no answer" if value is None else None,
        }
        for name, value in passed.items()
    ]
    return t.typed(Ratings, pl.DataFrame(rows, infer_schema_length=None))


def value(measures: Measures) -> tuple[float, int]:
    return measures.select("value", "n").row(0)


RIGHT = checks(a=1.0, b=0.0, c=1.0, d=0.0, e=None)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (vote("a", "b", 1.0), 1.0),
        (vote("a", "b", 0.0), 0.0),
        (vote("b", "c", 0.0), 1.0),
        (vote("b", "c", 0.5), 0.5),
        (vote("a", "d", 0.8), 0.8),
    ],
)
def test_the_right_one_may_be_either_side(row: dict[str, object], expected: float):
    assert value(reference_accuracy(votes(row), RIGHT)) == (pytest.approx(expected), 1)


def test_pairs_that_do_not_tell_count_for_nothing():
    both_right, unchecked, unscored = vote("a", "c", 1.0), vote("a", "e", 1.0), vote("a", "b", None)
    assert reference_accuracy(votes(both_right, unchecked, unscored), RIGHT).is_empty()
    assert reference_accuracy(votes(vote("a", "b", 1.0)), RIGHT, check="rule:other").is_empty()


def test_two_orders_of_one_pair_are_one_observation():
    both = votes(vote("a", "b", 1.0), vote("a", "b", 0.0, a_first=False))
    assert value(reference_accuracy(both, RIGHT)) == (0.5, 1)


def test_a_planted_accuracy_is_recovered_within_its_error():
    random = np.random.default_rng(5)
    n = 4000
    names = [f"{i:05d}" for i in range(2 * n)]
    rows = [vote(names[2 * i], names[2 * i + 1], float(random.random() < 0.73)) for i in range(n)]
    ratings = checks(**{name: float(i % 2 == 0) for i, name in enumerate(names)})
    measured = reference_accuracy(votes(*rows), ratings).row(0, named=True)
    assert measured["n"] == n
    assert measured["stderr"] == pytest.approx(np.sqrt(0.73 * 0.27 / n), rel=0.05)
    assert abs(measured["value"] - 0.73) < 4 * measured["stderr"]
