"""Likings for marks of style: planted ones are found, and quality is not taken for style."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.measure.style_bias import style_bias
from tests.measure.planted_votes import measured, samples_of, swapped, voted_world

MARKS = ("lists", "headings", "bold", "emojis", "code")
SLOPES = {"lists": 0.8, "headings": -0.6, "bold": 0.5, "emojis": 0.0, "code": 0.7}
NONE = dict.fromkeys(MARKS, 0.0)
OTHERS = {f"llm:j{k}": NONE for k in range(5)}


def written(name: str, counts: Mapping[str, int], words: int) -> str:
    """A text with so many of each mark."""
    lines = [f"{name} " + "word " * words]
    lines += [f"# heading {at}" for at in range(counts["headings"])]
    lines += [f"- item {at}" for at in range(counts["lists"])]
    lines += [f"some **bold {at}** words" for at in range(counts["bold"])]
    lines += ["fine \N{PARTY POPPER}" for _ in range(counts["emojis"])]
    lines += [f"call `f({at})`" for at in range(counts["code"])]
    return "\n\n".join(lines)


def planted(
    seed: int,
    judges: Mapping[str, Mapping[str, float]],
    *,
    n: int = 400,
    along: float = 0.0,
    marks: tuple[str, ...] = MARKS,
    length: float = 0.0,
) -> dict[str, Any]:
    """Completions with marks; `along` ties quality to lists, `length` is a liking for length."""
    draw = np.random.default_rng(seed)
    counts = draw.poisson(draw.gamma(0.7, 3.0, size=(n, 2, 1)), size=(n, 2, len(MARKS)))
    counts *= np.array([mark in marks for mark in MARKS])
    words = draw.integers(20, 120, size=(n, 2))
    texts = [
        tuple(
            written(f"{seed} {at} {side}", dict(zip(MARKS, counts[at, side], strict=True)), size)
            for side, size in enumerate(words[at])
        )
        for at in range(n)
    ]
    style = np.log1p(counts)
    longer = np.log([[len(text) + 1 for text in two] for two in texts])
    quality = draw.normal(0, 0.8, size=(n, 2)) + along * style[:, :, 0]
    liked = {
        name: style @ np.array([slopes[mark] for mark in MARKS]) + length * longer
        for name, slopes in judges.items()
    }
    world = voted_world(draw, texts, quality, liked, name=f"question {seed}")
    return {**world, "counts": counts}


def test_each_planted_slope_is_found_beside_the_others_and_a_liking_for_length():
    world = planted(0, {"llm:styled": SLOPES, **OTHERS}, n=800, length=0.5)
    measures = style_bias(world["votes"], world["completions"], judges=["llm:styled"])
    t.check("measures", measures, where="test")
    for mark, slope in SLOPES.items():
        found = measured(measures, f"style_bias_{mark}", "llm:styled")
        assert found["low"] < slope < found["high"], mark
        assert found["high"] - found["low"] < 1, mark
    assert measured(measures, "styled_preferred", "llm:styled")["low"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("slopes", [NONE, SLOPES])
def test_intervals_cover_over_two_hundred_worlds(slopes: dict[str, float]):
    covered = dict.fromkeys(MARKS, 0)
    for seed in range(200):
        world = planted(seed, {"llm:styled": slopes, **OTHERS}, n=200)
        measures = style_bias(world["votes"], world["completions"], judges=["llm:styled"])
        for mark, slope in slopes.items():
            found = measured(measures, f"style_bias_{mark}", "llm:styled")
            covered[mark] += found["low"] <= slope <= found["high"]
    assert all(180 <= each <= 198 for each in covered.values()), covered


def test_who_follows_a_quality_that_goes_along_with_lists_is_not_called_biased():
    fair = {f"llm:j{k}": NONE for k in range(6)}
    world = planted(1, fair, n=800, along=1.0, marks=("lists", "bold"))
    two = ["llm:j0", "llm:j1"]
    measures = style_bias(world["votes"], world["completions"], judges=two)
    assert measured(measures, "styled_preferred", "llm:j0")["low"] > 0.55
    biases = measures.filter(pl.col("measure") == "style_bias_lists")
    assert ((biases["low"] <= 0) & (biases["high"] >= 0)).to_list() == [True, True]
    assert biases["value"].abs().max() < 0.4


def test_gold_tells_a_liking_that_all_share():
    listing = {**NONE, "lists": 1.0}
    judges = {"human:gold": NONE, **{f"llm:j{k}": listing for k in range(4)}}
    world = planted(2, judges, n=800, marks=("lists", "bold"))
    votes, completions, one = world["votes"], world["completions"], ["llm:j0"]
    told = style_bias(votes, completions, gold="human:gold", judges=one)
    votes = votes.filter(pl.col("annotator") != "human:gold")
    blind = style_bias(votes, completions, judges=one)
    assert measured(blind, "style_bias_lists", "llm:j0")["value"] < 0.3
    assert measured(told, "style_bias_lists", "llm:j0")["low"] > 0.3


def test_rows_names_and_sides_change_nothing(shuffled: Any):
    world = planted(3, {"llm:styled": SLOPES, "llm:j": NONE, "llm:k": NONE}, n=80)
    measures = style_bias(world["votes"], world["completions"])
    numbers = ["value", "stderr", "low", "high"]

    def same(other: pl.DataFrame) -> bool:
        key = ["measure", "subject", "n", "note"]
        at = measures.select(key).equals(other.select(key))
        return at and np.allclose(measures[numbers], other[numbers], atol=1e-5)

    assert same(style_bias(shuffled(world["votes"], 1), shuffled(world["completions"], 2)))
    assert same(style_bias(**swapped(world, 4)))
    renamed = world["votes"].with_columns(pl.col("annotator").str.replace("llm:", "human:"))
    found = style_bias(renamed, world["completions"])
    assert same(found.with_columns(pl.col("subject").str.replace("human:", "llm:")))


def test_what_no_text_has_is_null_with_a_note():
    world = planted(4, OTHERS, n=60, marks=("lists",))
    measures = style_bias(world["votes"], world["completions"])
    t.check("measures", measures, where="test")
    for mark in MARKS:
        found = measured(measures, f"style_bias_{mark}", "llm:j0")
        assert (found["value"] is None) == (mark != "lists")
        assert (found["note"] == "no comparison differs in it") == (mark != "lists")
        assert (found["n"] > 0) == (mark == "lists")
    plain = planted(5, OTHERS, n=60, marks=())
    measures = style_bias(plain["votes"], plain["completions"])
    assert measures["value"].is_null().all()
    alone = style_bias(world["votes"], world["completions"], judges=["llm:j0"])
    only = world["votes"].filter(pl.col("annotator") == "llm:j0")
    without = style_bias(only, world["completions"])
    assert measured(alone, "style_bias_lists", "llm:j0")["note"] is None
    assert "no others" in measured(without, "style_bias_lists", "llm:j0")["note"]


def test_win_rates_in_equal_style():
    """Two generators as good as each other, one lists more, judged by who likes lists."""
    listing = {**NONE, "lists": 2.0}
    world = planted(6, {"llm:lists": listing}, n=1200, marks=("lists", "bold"))
    lists = world["counts"][:, :, 0]
    # Of most prompts the one with more items is the lister's.
    order = (lists[:, 0] > lists[:, 1]) ^ (np.random.default_rng(6).random(len(lists)) < 0.25)
    names = [("lister", "plain") if each else ("plain", "lister") for each in order]
    samples = samples_of(world, names)
    measures = style_bias(world["votes"], world["completions"], samples=samples, baseline="plain")
    rate = measured(measures, "style_controlled_win_rate", "lister")
    assert rate["low"] < 0.5 < rate["high"] < 0.6
    with pytest.raises(RecipeError, match="did you mean 'plain'"):
        style_bias(world["votes"], world["completions"], samples=samples, baseline="plan")
    lone = samples.head(1).with_columns(generator=pl.lit("lone"), completion_id=pl.lit("?"))
    more = t.Samples(pl.concat([samples, lone]))
    measures = style_bias(world["votes"], world["completions"], samples=more, baseline="lone")
    for name in ("lister", "plain"):
        said = measured(measures, "style_controlled_win_rate", name)
        assert (said["value"], said["note"]) == (None, "no votes connect it to lone")


def test_who_is_not_there_is_named_and_no_votes_have_no_measures():
    world = planted(7, OTHERS, n=10)
    found = style_bias(world["votes"], world["completions"], gold="llm:j9")
    assert found["value"].null_count() == found.height > 0
    assert found["note"].str.starts_with("no votes of 'llm:j9'").all()
    assert "" not in found["measure"]
    assert style_bias(world["votes"].clear(), world["completions"]).is_empty()
