"""The highest of a score, for each prompt or of all, or a sample with the stated probabilities."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.select.score_select import score_select
from prefdata.tables import Completions, Scores


def given(values: list[list[float]]) -> tuple[Completions, Scores]:
    """A prompt for each list, a completion for each of its values."""
    rows = [(f"p{p}", f"p{p}c{c}", value) for p, each in enumerate(values)
            for c, value in enumerate(each)]  # fmt: skip
    frame = pl.DataFrame(rows, ["prompt_id", "completion_id", "value"], orient="row")
    said = [[{"role": "assistant", "content": id}] for id in frame["completion_id"]]
    completions = frame.select("completion_id", "prompt_id").with_columns(
        pl.Series("completion", said)
    )
    scores = frame.select("value", subject_id="completion_id", subject=pl.lit("completion"),
                          score=pl.lit("distilled"))  # fmt: skip
    return tables.typed(Completions, completions), tables.typed(Scores, scores)


def kept(world: tuple[Completions, Scores], **options: Any) -> list[str]:
    return score_select(*world, score="distilled", **options)["completion_id"].sort().to_list()


def test_the_highest_of_each_prompt_or_of_all():
    world = given([[1.0, 3.0, 2.0], [9.0, 8.0, 7.0]])
    assert kept(world, count=1) == ["p0c1", "p1c0"]
    assert kept(world, keep=0.67) == ["p0c1", "p0c2", "p1c0", "p1c1"]
    assert kept(world, count=3, per_prompt=False) == ["p1c0", "p1c1", "p1c2"]
    assert kept(world, keep=0.01) == ["p0c1", "p1c0"]  # one at least
    assert len(kept(world, count=9)) == 6


def test_ties_go_by_id_and_order_of_rows_changes_nothing(shuffled: Any):
    completions, scores = given([[1.0, 1.0, 1.0, 0.0]])
    assert kept((completions, scores), count=2) == ["p0c0", "p0c1"]
    mixed = (Completions(shuffled(completions, 1)), Scores(shuffled(scores, 2)))
    assert kept(mixed, count=2) == ["p0c0", "p0c1"]
    drawn = kept((completions, scores), count=2, temperature=1.0)
    assert kept(mixed, count=2, temperature=1.0) == drawn


def test_a_sample_has_the_stated_probabilities():
    """Of one prompt one is drawn with probability exp(s / T) / sum."""
    values, t = [0.0, 1.0, 2.0], 0.8
    world = given([values])
    n = 4000
    seen = Counter(kept(world, count=1, temperature=t, seed=seed)[0] for seed in range(n))
    expected = np.exp(np.array(values) / t) / np.exp(np.array(values) / t).sum()
    shares = np.array([seen[f"p0c{at}"] for at in range(3)]) / n
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / n)


def test_without_a_score_none_is_kept_and_a_wrong_name_is_refused():
    completions, scores = given([[1.0, 2.0]])
    assert kept((completions, Scores(scores.head(1))), count=2) == ["p0c0"]
    with pytest.raises(RecipeError, match="no completion has a score 'distiled'"):
        score_select(completions, scores, score="distiled", count=1)


@pytest.mark.parametrize(
    "options",
    [{}, {"keep": 0.5, "count": 1}, {"keep": 0.0}, {"count": 0}, {"count": 1, "temperature": -1}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]):
    with pytest.raises(RecipeError, match="score_select"):
        kept(given([[1.0]]), **options)
