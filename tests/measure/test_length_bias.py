"""Slopes of votes by length: planted ones are found, and quality is not taken for length."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.measure.length_bias import length_bias
from tests.measure.planted_votes import measured, samples_of, voted_world


def planted(
    seed: int,
    slopes: dict[str, float],
    *,
    n: int = 400,
    along: float = 0.0,
    first: float = 0.0,
) -> dict[str, Any]:
    """Two completions a prompt; votes by quality, length and place. `along` ties the first two."""
    draw = np.random.default_rng(seed)
    sizes = np.round(np.exp(draw.normal(4.5, 0.6, size=(n, 2)))).astype(int)
    texts = [
        (f"{at:04}0".ljust(one, "x"), f"{at:04}1".ljust(other, "x"))
        for at, (one, other) in enumerate(sizes)
    ]
    longer = np.log(np.maximum(sizes, 5) + 1.0)
    quality = draw.normal(0, 0.8, size=(n, 2)) + along * longer
    liked = {name: slope * longer for name, slope in slopes.items()}
    return voted_world(draw, texts, quality, liked, first=first, name=f"question {seed}")


JUDGES = {"llm:long": 1.0, **{f"llm:j{k}": 0.0 for k in range(5)}}


def test_a_planted_slope_is_found_beside_a_bias_for_places():
    world = planted(0, JUDGES, n=1500, first=0.5)
    measures = length_bias(world["votes"], world["completions"])
    t.check("measures", measures, where="test")
    found = measured(measures, "length_bias", "llm:long")
    assert found["low"] < 1.0 < found["high"]
    assert found["low"] > 0.4
    assert measured(measures, "longer_preferred", "llm:long")["low"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_intervals_cover_over_two_hundred_worlds(slope: float):
    covered = 0
    for seed in range(200):
        world = planted(seed, {**JUDGES, "llm:long": slope}, n=200)
        measures = length_bias(world["votes"], world["completions"], judges=["llm:long"])
        found = measured(measures, "length_bias", "llm:long")
        covered += found["low"] <= slope <= found["high"]
    assert 180 <= covered <= 198


def test_who_follows_a_quality_that_goes_along_with_length_is_not_called_biased():
    fair = {f"llm:j{k}": 0.0 for k in range(6)}
    world = planted(1, fair, n=1500, along=1.0)
    measures = length_bias(world["votes"], world["completions"])
    assert measured(measures, "longer_preferred", "llm:j0")["low"] > 0.55  # what a cheap one says
    biases = measures.filter(pl.col("measure") == "length_bias")
    inside = (biases["low"] <= 0) & (biases["high"] >= 0)
    assert inside.sum() >= 5
    assert biases["value"].abs().max() < 0.4


def test_gold_tells_a_liking_that_all_share():
    """Others who like length too make it look like quality; gold does not."""
    shared = {f"llm:j{k}": 1.0 for k in range(5)}
    world = planted(2, {"human:gold": 0.0, **shared}, n=1500)
    blind = length_bias(
        world["votes"].filter(pl.col("annotator") != "human:gold"), world["completions"]
    )
    told = length_bias(world["votes"], world["completions"], gold="human:gold")
    assert measured(blind, "length_bias", "llm:j0")["value"] < 0.5
    assert measured(told, "length_bias", "llm:j0")["low"] > 0.5


def test_rows_names_and_sides_change_nothing(shuffled: Any):
    world = planted(3, JUDGES)
    measures = length_bias(world["votes"], world["completions"])
    mixed = length_bias(shuffled(world["votes"], 1), shuffled(world["completions"], 2))
    key = ["measure", "subject"]
    assert measures.select(*key, "n").equals(mixed.select(*key, "n"))
    assert np.allclose(measures["value"], mixed["value"], atol=1e-6)
    names = pl.col("annotator").str.replace("llm:", "human:")
    renamed = length_bias(world["votes"].with_columns(names), world["completions"])
    assert np.allclose(measures["value"], renamed["value"], atol=1e-6)


def test_win_rates_at_equal_length(world: Any):
    """Two generators as good as each other, one longer, judged by who likes length."""
    made = planted(4, {"llm:long": 2.0}, n=1500)
    sizes = made["completions"].with_columns(
        n=pl.col("completion").list.first().struct.field("content").str.len_chars()
    )
    longest = pl.col("n") == pl.col("n").max().over("prompt_id")
    # Of most prompts the longer one is the wordy generator's.
    draw = pl.col("prompt_id").hash(7) % 4 == 0
    samples = t.check(
        "samples",
        sizes.select(
            "completion_id",
            "prompt_id",
            generator=pl.when(longest ^ draw).then(pl.lit("wordy")).otherwise(pl.lit("terse")),
            draw=pl.lit(0),
        ),
        where="test",
    )
    measures = length_bias(made["votes"], made["completions"], samples=samples)
    rate = measured(measures, "length_controlled_win_rate", "wordy")
    assert rate["low"] < 0.5 < rate["high"]
    other = measured(measures, "length_controlled_win_rate", "terse")
    assert rate["value"] + other["value"] == pytest.approx(1, abs=1e-6)


def test_who_is_not_there_is_named_and_no_votes_have_no_measures():
    world = planted(5, JUDGES, n=20)
    found = length_bias(world["votes"], world["completions"], judges=["llm:longg", *JUDGES])
    known = length_bias(world["votes"], world["completions"], judges=list(JUDGES))
    lost = found.filter(subject="llm:longg")
    assert set(lost["measure"]) == {"length_bias", "longer_preferred"}
    assert lost["value"].null_count() == 2
    assert lost["note"].str.starts_with("no votes of 'llm:longg'; did you mean").all()
    assert found.filter(pl.col("subject") != "llm:longg").equals(known)
    alone = length_bias(world["votes"], world["completions"], gold="human:nobody")
    assert set(alone["subject"]) == set(world["votes"]["annotator"])
    assert alone["value"].null_count() == alone.height
    assert alone["note"].str.starts_with("no votes of 'human:nobody'").all()
    assert length_bias(world["votes"].clear(), world["completions"]).is_empty()


def test_prompts_that_are_all_alike_show_no_error_of_a_win_rate():
    """Two annotators who contradict each other on every prompt: nobody wins, with what error?"""
    made = planted(5, {"llm:one": 0.0}, n=20)
    votes = made["votes"].with_columns(pl.lit(1.0).alias("preference"), a_first=None)
    other = votes.with_columns(pl.lit(0.0).alias("preference"), annotator=pl.lit("llm:other"))
    both = t.typed(t.Votes, pl.concat([votes, other]))
    found = length_bias(both, made["completions"], None, samples_of(made, [("x", "y")] * 20))
    rates = found.filter(pl.col("measure") == "length_controlled_win_rate")
    assert rates.height == 2
    assert rates["value"].to_list() == pytest.approx([0.5, 0.5])
    assert rates["low"].null_count() == rates["stderr"].null_count() == 2
    assert rates["note"].str.contains("do not differ").all()


def test_gold_on_some_comparisons_leaves_the_win_rates_as_they_are():
    """Gold says what is better, not how often who wins."""
    world = planted(6, {"human:gold": 0.0, "llm:a": 1.0, "llm:b": 0.0})
    names = [("x", "y") if at % 3 else ("y", "x") for at in range(len(world["ids"]))]
    samples = samples_of(world, names)
    is_gold = pl.col("annotator") == "human:gold"
    some = world["votes"].filter(~is_gold | (pl.col("prompt_id").hash(1) % 4 == 0))
    told = length_bias(some, world["completions"], samples=samples, gold="human:gold")
    without = world["votes"].filter(~is_gold)
    blind = length_bias(without, world["completions"], samples=samples)
    rates = pl.col("measure") == "length_controlled_win_rate"
    assert told.filter(rates).equals(blind.filter(rates))
    assert told.filter(rates)["n"].to_list() == [800, 800]
    counted = measured(told, "length_bias", "llm:a")["n"]
    assert 0 < counted < measured(blind, "length_bias", "llm:a")["n"] / 2


@pytest.mark.parametrize(
    ("judge", "agreement", "apart"),
    [("weighted_alpaca_eval_gpt4_turbo", 0.75, 4.0), ("alpaca_eval_gpt4", 0.85, 7.5)],
)
def test_length_controlled_win_rates_come_near_to_those_that_alpacaeval_publishes(
    judge: str, agreement: float, apart: float, shared: Any
):
    """On 475 of its 805 prompts, by another model of length: by log-ratio, one model a generator,
    no term for the difficulty of a prompt."""
    outputs = shared("alpacaeval_outputs.parquet").drop_nulls("output")
    said = shared("alpacaeval_judge_votes.parquet").drop_nulls("preference")
    said = said.filter(pl.col("judge") == judge, pl.col("generator_1") != pl.col("generator_2"))
    said = said.unique(["prompt_id", "generator_2"], maintain_order=True)
    # An id of its own for each generator, so that equal texts are not votes on all of theirs.
    name = pl.format("{}~{}", "prompt_id", "model")
    texts = outputs.select(
        "prompt_id",
        completion_id=name,
        completion=pl.concat_list(pl.struct(role=pl.lit("assistant"), content="output")),
    )
    samples = outputs.select("prompt_id", completion_id=name, generator="model", draw=0)
    one, other = (pl.format("{}~{}", "prompt_id", f"generator_{side}") for side in (1, 2))
    wins = pl.when(pl.col("preference") == 0).then(0.5).otherwise(pl.col("preference") - 1)
    turned = pl.when(other < one).then(wins).otherwise(1 - wins)
    votes = said.with_columns(one=one, other=other, turned=turned).select(
        "prompt_id",
        completion_a=pl.min_horizontal("one", "other"),
        completion_b=pl.max_horizontal("one", "other"),
        annotator=pl.lit("llm:gpt-4"),
        criterion=pl.lit("quality"),
        draw=0,
        a_first=pl.lit(None, pl.Boolean),
        preference="turned",
    )
    made = length_bias(
        t.typed(t.Votes, votes),
        t.typed(t.Completions, texts),
        samples=t.typed(t.Samples, samples),
        baseline=said["generator_1"][0],
    )
    rates = made.filter(pl.col("measure") == "length_controlled_win_rate")
    published = shared(f"published_alpacaeval_{judge}_leaderboard.parquet")
    both = published.join(rates.select(model="subject", ours=100 * pl.col("value")), on="model")
    both = both.drop_nulls("length_controlled_winrate")
    assert both.height >= 15
    ours, theirs, raw = both["ours"], both["length_controlled_winrate"], both["win_rate"]
    assert both.select(pl.corr("ours", theirs, method="spearman")).item() > agreement
    assert (ours - theirs).abs().mean() < apart
    # Most of what length does to a win rate is taken out, and rarely too little or the wrong way.
    assert (ours - theirs).abs().mean() < 0.7 * (raw - theirs).abs().mean()
    assert ((ours - raw).sign() == (theirs - raw).sign()).mean() > 0.75


def test_llmbar_finds_weak_judges_that_take_length_for_quality(shared: Any):
    """Its adversarial items are long and wrong: LLaMA-2 and ChatGPT fall for them, GPT-4 seldom."""
    items = shared("llmbar_items.parquet").with_columns(
        a=pl.format("{}~1", "id"), b=pl.format("{}~2", "id"), judge_model=pl.lit("gold")
    )
    texts = pl.concat(
        items.select("id", completion_id=side, text=text)
        for side, text in (("a", "response_1"), ("b", "response_2"))
    )
    message = pl.struct(role=pl.lit("assistant"), content="text")
    completions = texts.select("completion_id", prompt_id="id", completion=pl.concat_list(message))
    said = shared("llmbar_llm_votes.parquet").filter(pl.col("strategy") == "Vanilla_2shot")
    said = said.drop_nulls("winner").rename({"winner": "gold"})
    said = said.join(items.select("id", "a", "b"), on="id")
    columns = ["id", "a", "b", "judge_model", "gold"]
    votes = pl.concat(
        [
            items.select(columns, a_first=pl.lit(None, pl.Boolean)),
            said.select(columns, a_first=pl.col("order") == "ab"),
        ],
        how="vertical_relaxed",
    ).select(
        prompt_id="id",
        completion_a="a",
        completion_b="b",
        annotator=pl.format("llm:{}", "judge_model"),
        criterion=pl.lit("quality"),
        draw=0,
        a_first="a_first",
        preference=2 - pl.col("gold").cast(pl.Float64),
    )
    made = length_bias(
        t.typed(t.Votes, votes), t.typed(t.Completions, completions), gold="llm:gold"
    )
    found = {
        judge: measured(made, "length_bias", f"llm:{judge}")
        for judge in ("LLaMA2", "ChatGPT", "GPT-4")
    }
    assert found["LLaMA2"]["low"] > 0.3
    assert found["ChatGPT"]["low"] > 0.2
    assert found["GPT-4"]["high"] < min(found["LLaMA2"]["value"], found["ChatGPT"]["value"])
