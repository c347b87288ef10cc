"""Likings of judges for their own family: planted ones are found, better writing is none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.measure.self_preference import self_preference
from tests.measure.planted_votes import measured, samples_of, swapped, voted_world

WRITERS = ("gpt-4o", "claude-3-opus", "Llama-3-8B")
PEOPLE = {f"human:p{k}": 0.0 for k in range(5)}
JUDGED = {
    "human:1": "human1",
    "human:2": "human2",
    "human:3": "human3",
    "llm:gpt-3.5": "gpt35",
    "llm:pandalm-7b": "pandalm7b",
}
OF = {"gpt": "gpt-4o", "claude": "claude-3-opus", "Llama": "Llama-3-8B"}


def planted(
    seed: int,
    vanity: Mapping[str, float],
    *,
    n: int = 400,
    better: Mapping[str, float] | None = None,
    writers: Sequence[str] = WRITERS,
    first: float = 0.0,
) -> dict[str, Any]:
    """Two of the writers answer each prompt; `better` adds to the quality of a writer's.

    `vanity` is what each annotator adds, in log-odds, to completions of its family's writer.
    """
    draw = np.random.default_rng(seed)
    picked = np.array([draw.permutation(len(writers))[:2] for _ in range(n)])
    names = np.array(writers)[picked]
    texts = [
        (f"{seed} {at} one" + " word" * one, f"{seed} {at} other" + " word" * other)
        for at, (one, other) in enumerate(draw.integers(5, 50, size=(n, 2)))
    ]
    added = np.vectorize(lambda name: (better or {}).get(name, 0.0))(names)
    quality = draw.normal(0, 0.8, size=(n, 2)) + added
    own = {who: next((w for word, w in OF.items() if word in who), "") for who in vanity}
    liked = {who: much * (names == own[who]) for who, much in vanity.items()}
    world = voted_world(draw, texts, quality, liked, first=first, name=f"question {seed}")
    return {**world, "samples": samples_of(world, names.tolist())}


def measure(world: Mapping[str, Any], **options: Any) -> pl.DataFrame:
    return self_preference(world["votes"], world["completions"], world["samples"], **options)


def test_a_planted_liking_is_found_beside_a_bias_for_places():
    world = planted(0, {"llm:gpt-4/fair": 1.2, **PEOPLE}, n=1000, first=0.5)
    measures = measure(world)
    t.check("measures", measures, where="test")
    found = measured(measures, "self_preference", "llm:gpt-4/fair")
    assert found["low"] < 1.2 < found["high"]
    assert found["low"] > 0.6
    assert measured(measures, "own_win_rate_difference", "llm:gpt-4/fair")["low"] > 0
    assert measured(measures, "own_win_rate_above_others", "llm:gpt-4/fair")["low"] > 0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("liking", [0.0, 1.0])
def test_intervals_cover_over_two_hundred_worlds(liking: float):
    covered = 0
    for seed in range(200):
        world = planted(seed, {"llm:gpt-4/j": liking, **PEOPLE}, n=300, better={"gpt-4o": 0.5})
        found = measured(measure(world), "self_preference", "llm:gpt-4/j")
        covered += found["low"] <= liking <= found["high"]
    assert 180 <= covered <= 198


def test_a_family_that_writes_better_is_not_called_vain():
    world = planted(1, {"llm:gpt-4/j": 0.0, **PEOPLE}, n=1000, better={"gpt-4o": 1.0})
    measures = measure(world)
    found = measured(measures, "self_preference", "llm:gpt-4/j")
    assert found["low"] < 0 < found["high"]
    assert measured(measures, "own_win_rate_difference", "llm:gpt-4/j")["low"] > 0.2
    above = measured(measures, "own_win_rate_above_others", "llm:gpt-4/j")
    assert above["low"] < 0 < above["high"]


def test_judges_who_are_all_vain_do_not_hide_each_other():
    """Of a vain judge's votes those on its own family tell nothing of quality."""
    vain = {f"llm:{of}/{name}": 1.5 for of in ("gpt-4", "claude-3", "Llama-3") for name in "jkl"}
    world = planted(2, vain, n=800)
    for judge in ("llm:gpt-4/j", "llm:claude-3/j"):
        found = measured(measure(world, judges=[judge]), "self_preference", judge)
        assert found["low"] < 1.5 < found["high"], judge
        assert found["low"] > 0.5


def test_votes_of_the_same_family_change_nothing():
    """Two judges of one model err together: neither is evidence for the other."""
    judges = {"llm:gpt-4/j": 1.0, **PEOPLE, "llm:gpt-4/k": 1.0}
    world = planted(9, judges, n=200)
    both = measure(world, judges=["llm:gpt-4/j"])
    alone = world["votes"].filter(pl.col("annotator") != "llm:gpt-4/k")
    assert both.equals(measure({**world, "votes": alone}, judges=["llm:gpt-4/j"]))


def test_gold_tells_what_the_others_share():
    """Others of no known family who favour gpt as well make it look better."""
    families = {"*gpt*": "gpt", "claude*": "claude", "Llama*": "llama"}
    shared = {"llm:gpt-4/j": 1.2, **{f"rule:gpt-lover-{k}": 1.2 for k in range(4)}}
    world = planted(3, {**shared, "human:gold": 0.0}, n=1000)
    told = measure(world, gold="human:gold", judges=["llm:gpt-4/j"], families=families)
    nobody = pl.col("annotator") != "human:gold"
    blind = measure({**world, "votes": world["votes"].filter(nobody)}, families=families)
    assert measured(blind, "self_preference", "llm:gpt-4/j")["high"] < 0.9
    assert measured(told, "self_preference", "llm:gpt-4/j")["low"] > 0.5


def test_rows_names_and_sides_change_nothing(shuffled: Any):
    vain = {"llm:gpt-4/j": 1.0, "llm:claude-3/j": 0.5, **PEOPLE}
    world = planted(4, vain, n=150)
    measures = measure(world)
    numbers = ["value", "stderr", "low", "high"]

    def same(other: pl.DataFrame) -> bool:
        key = ["measure", "subject", "n", "note"]
        at = measures.select(key).equals(other.select(key))
        return at and np.allclose(
            measures[numbers].fill_null(0), other[numbers].fill_null(0), atol=1e-5
        )

    tables = {name: shuffled(world[name], 5) for name in ("votes", "completions", "samples")}
    assert same(measure(tables))
    assert same(measure(swapped(world, 6, "samples")))
    # Other families' names for the same families.
    other = {"gpt": "Qwen", "claude": "gemini", "Llama": "mistral"}
    swap = [(pl.col(c).str.replace_many(other)).alias(c) for c in ("annotator",)]
    made = {
        **world,
        "votes": world["votes"].with_columns(swap),
        "samples": world["samples"].with_columns(pl.col("generator").str.replace_many(other)),
    }
    back = {to: of for of, to in other.items()}
    found = measure(made).with_columns(pl.col("subject").str.replace_many(back))
    assert same(found.sort("measure", "subject"))


def test_who_can_show_nothing_is_null_and_says_why():
    world = planted(5, {"llm:my-own/j": 0.0, "llm:gpt-4/j": 0.0, "llm:Qwen3/j": 0.0,
                        "rule:longest": 0.0, "human:p": 0.0}, n=60)  # fmt: skip
    measures = measure(world)
    t.check("measures", measures, where="test")
    notes = {
        "llm:my-own/j": "of no known family",
        "llm:Qwen3/j": "no vote on a completion of its family",
        "rule:longest": "not a model",
        "human:p": "a person",
    }
    for subject, note in notes.items():
        found = measured(measures, "self_preference", subject)
        assert found["value"] is found["stderr"] is found["low"] is None
        assert note in found["note"]
        assert found["n"] == 0
        assert measures.filter(pl.col("subject") == subject).height == 1
    assert measured(measures, "self_preference", "llm:gpt-4/j")["value"] is not None
    stated = measure(world, families={"llm:my-own*": "gpt", "gpt-4*": "gpt", "[cL]*": "other"})
    assert measured(stated, "self_preference", "llm:my-own/j")["value"] is not None


@pytest.mark.parametrize(
    "writers", [("gpt-4o", "gpt-4o"), ("gpt-4o", "gpt-3.5"), ("claude-2", "Llama-3"), ("x", "y")]
)
def test_writers_of_one_family_or_none_show_nothing(writers: tuple[str, str]):
    world = planted(6, {"llm:gpt-4/j": 1.0, "human:p": 0.0}, n=40, writers=writers)
    found = measured(measure(world), "self_preference", "llm:gpt-4/j")
    assert found["value"] is None
    assert "no vote" in found["note"]


def test_people_alone_show_nothing_and_no_votes_have_no_measures():
    world = planted(7, PEOPLE, n=20)
    measures = measure(world)
    assert measures["value"].is_null().all()
    assert measures["note"].str.contains("a person").all()
    assert measure({**world, "votes": world["votes"].clear()}).is_empty()
    for options in ({"judges": ["human:p9"]}, {"gold": "human:p9"}):
        found = t.check("measures", measure(world, **options), where="here")
        assert found["value"].null_count() == found.height > 0
        assert found["note"].str.starts_with("no votes of 'human:p9'").all()


def test_a_completion_of_unknown_origin_is_left_out_and_nothing_is_held_without_others():
    world = planted(8, {"llm:gpt-4/j": 1.0, **PEOPLE}, n=200)
    known = measured(measure(world), "self_preference", "llm:gpt-4/j")
    two = world["samples"].head(30).with_columns(generator=pl.lit("Qwen3-8B"))
    mixed = t.check("samples", pl.concat([world["samples"], two]), where="test")
    fewer = measured(measure({**world, "samples": mixed}), "self_preference", "llm:gpt-4/j")
    assert 0 < fewer["n"] < known["n"]
    alone = world["votes"].filter(pl.col("annotator") == "llm:gpt-4/j")
    found = measured(measure({**world, "votes": alone}), "self_preference", "llm:gpt-4/j")
    assert "quality is not held constant" in found["note"]
    # Others who say nothing where it matters hold nothing either.
    gpt = world["samples"].filter(pl.col("generator") == "gpt-4o")["completion_id"].implode()
    is_own = pl.col("completion_a").is_in(gpt) | pl.col("completion_b").is_in(gpt)
    said = world["votes"].filter((pl.col("annotator") == "llm:gpt-4/j") | ~is_own)
    assert said["annotator"].n_unique() > 1
    found = measured(measure({**world, "votes": said}), "self_preference", "llm:gpt-4/j")
    assert "quality is not held constant" in found["note"]


def test_pandalm_does_not_favour_llama_beyond_what_people_see_in_it():
    """PandaLM-7B is a tuned LLaMA; three people and GPT-3.5 judged the same comparisons."""
    raw = pl.read_parquet(Path(__file__).parents[2] / "data" / "sources" / "pandalm.parquet")
    names = [f"{text} of {at}" for at in range(raw.height) for text in "ab"]
    world = {
        "completions": pl.DataFrame(
            {
                "completion_id": names,
                "completion": [
                    [{"role": "assistant", "content": text}]
                    for two in raw.select("completion_a", "completion_b").rows()
                    for text in two
                ],
            }
        ),
        "samples": pl.DataFrame(
            {
                "completion_id": names,
                "generator": [
                    g for two in raw.select("generator_a", "generator_b").rows() for g in two
                ],
            }
        ),
    }
    worth = {"0": 0.5, "1": 1.0, "2": 0.0, "garbage": None}
    said = raw.with_row_index("at").select(
        "prompt",
        "generator_a",
        "generator_b",
        pl.format("a of {}", "at").alias("completion_a"),
        pl.format("b of {}", "at").alias("completion_b"),
        *(pl.col(c).cast(pl.String).replace_strict(worth, return_dtype=pl.Float64).alias(who)
          for who, c in JUDGED.items()),
    )  # fmt: skip
    votes = said.unpivot(
        list(JUDGED), index=["prompt", "completion_a", "completion_b"],
        variable_name="annotator", value_name="preference",
    ).with_columns(
        criterion=pl.lit("quality"), draw=pl.lit(0), a_first=pl.lit(None, pl.Boolean),
        prompt_id="prompt",
    )  # fmt: skip
    measures = measure({**world, "votes": votes})
    a, b = (pl.col(side).str.contains("llama") for side in ("generator_a", "generator_b"))
    one = said.filter(a != b).drop_nulls("llm:pandalm-7b")
    sign = one.select(a.cast(float) * 2 - 1).to_series()
    own = (one["llm:pandalm-7b"] - 0.5) * sign
    others = (
        one.select(pl.mean_horizontal(set(JUDGED) - {"llm:pandalm-7b"}) - 0.5).to_series() * sign
    )
    found = measured(measures, "own_win_rate_difference", "llm:pandalm-7b")
    assert found["value"] == pytest.approx(2 * own.mean())
    assert found["n"] == len(own) > 200
    assert found["low"] > 0  # what a cheap measure says
    above = measured(measures, "own_win_rate_above_others", "llm:pandalm-7b")
    assert above["value"] == pytest.approx((own - others).mean())
    assert above["high"] < 0
    assert measured(measures, "self_preference", "llm:pandalm-7b")["high"] < 0.2
    assert measured(measures, "self_preference", "llm:gpt-3.5")["value"] is None
