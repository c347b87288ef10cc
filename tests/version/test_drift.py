"""What moved between two versions as a whole: planted moves are told, and nothing where none is."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import tables, version
from prefdata.version.diff import diff
from prefdata.version.drift import drift

World = dict[str, pl.DataFrame]
NOW: dict[str, Any] = {"exports": {}, "recipe_text": "", "resolved": {}}


def drawn(made: World, good: str = "large", other: str = "small") -> World:
    """The best of each prompt is by one generator, the others are by another."""
    best = made["strengths"].filter(pl.col("strength") == 1)["completion_id"].implode()
    samples = made["completions"].select(
        "completion_id", "prompt_id", draw=0,
        generator=pl.when(pl.col("completion_id").is_in(best)).then(pl.lit(good))
        .otherwise(pl.lit(other)),
    )  # fmt: skip
    return {**made, "samples": tables.check("samples", samples, where="t")}


@pytest.fixture
def two(tmp_path: Path) -> Any:
    def two(a: World, b: World):
        ids = [version.write(tmp_path, "v", tables=each, **NOW).id for each in (a, b)]
        return [version.find(tmp_path, f"v@{each}") for each in ids]

    return two


def test_nothing_moves_between_a_version_and_itself(two: Any, world: Any):
    a, b = two(drawn(world(20)), drawn(world(20)))
    assert drift(a, b) == ()


def test_shares_of_sources_and_generators_are_counted(two: Any, world: Any):
    one = drawn(world(20))
    kept = one["prompts"].with_columns(
        source=pl.when(pl.int_range(pl.len()) < 5).then(pl.lit("new")).otherwise("source")
    )
    other = {**one, "prompts": kept}
    # of three pairs a prompt two have the best one: of the others, another one is taken
    weak = one["pairs"].filter(pl.col("margin") == 2)
    a, b = two(one, {**other, "pairs": weak})
    found = {(each.what, each.of): (each.before, each.after) for each in drift(a, b)}
    assert found["share of source", "new"] == (0.0, pytest.approx(0.25))
    assert found["share of source", "made-up"] == (1.0, pytest.approx(0.75))
    assert found["share of chosen by", "large"] == (pytest.approx(2 / 3), 1.0)
    assert found["share of chosen by", "small"] == (pytest.approx(1 / 3), 0.0)
    assert found["mean margin", ""] == (pytest.approx(4 / 3), 2.0)


def test_lengths_and_scores_of_what_is_chosen(two: Any, world: Any):
    one = drawn(world(20))
    scores = one["completions"].select(
        subject_id="completion_id", subject=pl.lit("completion"), score=pl.lit("reward"),
        model=pl.lit("rm"), value=pl.lit(1.0),
    )  # fmt: skip
    chosen = one["pairs"]["chosen_id"].implode()
    higher = pl.when(pl.col("subject_id").is_in(chosen)).then(3.0).otherwise(1.0)
    a, b = two({**one, "scores": scores}, {**one, "scores": scores.with_columns(value=higher)})
    [moved] = drift(a, b)
    assert (moved.what, moved.of) == ("mean over chosen of", "reward@rm")
    assert (moved.before, moved.after) == (1.0, 3.0)
    assert str(moved) == "mean over chosen of reward@rm: 1 → 3"


def test_preferences_of_pairs_are_for_either_side_and_no_move(two: Any, world: Any):
    """Of one half of the pairs the chosen side has the smaller id, of the other half the larger."""
    one = drawn(world(20))
    pairs = one["pairs"]
    scores = pairs.select(
        subject_id="pair_id", subject=pl.lit("pair"), score=pl.lit("preference"),
        model=pl.lit("bradley_terry"),
        value=pl.when(pl.col("chosen_id") < pl.col("rejected_id")).then(0.9).otherwise(0.1),
    )  # fmt: skip
    smaller = pairs.filter(pl.col("chosen_id") < pl.col("rejected_id"))
    assert 0 < smaller.height < pairs.height
    a, b = two({**one, "scores": scores}, {**one, "scores": scores, "pairs": smaller})
    assert not [each for each in drift(a, b) if "preference" in each.of]


def test_a_version_without_samples_or_pairs_is_no_zero(two: Any, world: Any):
    bare = {name: rows for name, rows in world(20).items() if name != "pairs"}
    a, b = two(drawn(world(20)), bare)
    found = {(each.what, each.of): each.after for each in drift(a, b)}
    assert set(found.values()) == {None}
    assert diff(a, b).to_json()["drift"]
    assert "→ none" in str(diff(a, b))
