"""As many pairs of each source, by lot, and none that is of two sources."""

from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.select.size_matched import NO_PROMPT, SHARED, size_matched
from tests.conftest import World, make_world, shuffle


def sourced(n_large: int = 30, n_small: int = 10, n_both: int = 5) -> World:
    """Three pairs a prompt; prompts of a large source, a small one, and of both."""
    made = make_world(n_large + n_small + n_both)
    names = ["large"] * n_large + ["small"] * n_small + ["large,small"] * n_both
    prompts = made["prompts"].with_columns(source=pl.Series(names))
    return {**made, "prompts": tables.check("prompts", prompts, where="t")}


def counted(kept: pl.DataFrame, made: World) -> dict[str, int]:
    about = kept.join(made["prompts"], on="prompt_id")
    return dict(about.group_by("source").len().iter_rows())


def test_each_source_has_as_many_as_the_smallest_and_shared_ones_count_for_none():
    made = sourced()
    kept, dropped = size_matched(made["pairs"], made["prompts"])
    assert counted(kept, made) == {"large": 30, "small": 30}
    reasons = dict(dropped.group_by("reason").len().iter_rows())
    assert reasons == {SHARED: 15, "it was not drawn": 60}
    assert kept.height + dropped.height == made["pairs"].height
    same = made["pairs"].filter(pl.col("pair_id").is_in(kept["pair_id"].implode()))
    assert kept.equals(same)


def test_a_source_that_is_too_small_is_told_and_one_that_is_large_enough_is_needed():
    made = sourced()
    kept, dropped = size_matched(made["pairs"], made["prompts"], size=50)
    assert counted(kept, made) == {"large": 50}
    few = "its source has 30 pairs of its own, fewer than 50"
    assert dropped.filter(pl.col("reason") == few).height == 30
    with pytest.raises(RecipeError, match="large 90, small 30"):
        size_matched(made["pairs"], made["prompts"], size=91)
    with pytest.raises(RecipeError, match="at least 1"):
        size_matched(made["pairs"], made["prompts"], size=0)


def test_a_pair_of_two_prompts_is_of_no_source():
    made = sourced()
    pairs = made["pairs"].with_columns(
        prompt_id=pl.when(pl.int_range(pl.len()) > 0).then("prompt_id")
    )
    _, dropped = size_matched(pairs, made["prompts"])
    assert dropped.filter(pl.col("reason") == NO_PROMPT).height == 1


def test_the_lots_follow_the_seed_and_no_order_of_rows_and_no_other_source():
    made = sourced()

    def drawn(pairs: pl.DataFrame, **how: Any) -> set[str]:
        return set(size_matched(pairs, made["prompts"], size=20, **how)[0]["pair_id"])

    one = drawn(made["pairs"])
    assert one == drawn(shuffle(made["pairs"], 3))
    assert one != drawn(made["pairs"], seed=1)
    large = made["prompts"].filter(pl.col("source") == "large")
    alone = made["pairs"].join(large, on="prompt_id", how="semi")
    assert drawn(alone) == one & set(alone["pair_id"])
