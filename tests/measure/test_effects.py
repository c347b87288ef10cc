"""The model of what moves votes: its maximum, its errors, and traits that few comparisons have."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from prefdata.measure import _effects_model as model
from prefdata.measure._effects import effects_of, with_others

Floats = NDArray[np.float64]
ODDS = 1.5


def expit(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def voted(
    seed: int, slope: float, *, n: int = 200, share: float = 1.0, gold: bool = False
) -> pl.DataFrame:
    """A judge's votes in both orders; `rare` differs in a share of comparisons, `length` in all."""
    draw = np.random.default_rng(seed)
    length, place = draw.normal(0, 0.6, n), 0.2
    theta = draw.normal(0, 1.1, n) + 0.5 * length
    rare = draw.normal(0, 1, n) * (draw.random(n) < share)
    others = draw.binomial(5, expit(ODDS * theta)).astype(float)
    verdict = np.sign(theta) * (draw.random(n) < 0.8)
    frames = []
    for shown in (1.0, -1.0):
        quality = 1.2 * verdict if gold else ODDS * theta
        p = expit(quality + slope * rare + 0.5 * length + place * shown)
        ties = draw.random(n) < 0.1
        frames.append(
            pl.DataFrame(
                {
                    "subject": "llm:j",
                    "completion_a": [f"{at:04}a" for at in range(n)],
                    "completion_b": [f"{at:04}b" for at in range(n)],
                    "criterion": "q",
                    "preference": np.where(ties & gold, 0.5, draw.random(n) < p),
                    "rare": rare,
                    "length": length,
                    "place": shown,
                    "k": others,
                    "n": 5.0,
                    "group": [f"{at // 2:04}" for at in range(n)],
                    "verdict": pl.Series(verdict if gold else [None] * n, dtype=pl.Float64),
                }
            )
        )
    return pl.concat(frames).sort("completion_a", "place")


def effect(rows: pl.DataFrame, trait: str = "rare") -> dict[str, Any]:
    made = effects_of(rows, {"rare": "rare", "length": "length"})
    return made.row(by_predicate=pl.col("measure") == trait, named=True)


@pytest.mark.parametrize("gold", [False, True])
def test_derivatives_are_those_of_finite_differences(gold: bool):
    rows = voted(5, 0.8, n=30, gold=gold)
    group = (rows["group"].rank("dense").cast(pl.Int64) - 1).to_numpy()
    seen = model.Seen(
        y=rows["preference"].to_numpy(), x=rows.select("rare", "length").to_numpy(),
        place=rows["place"].to_numpy(), k=rows["k"].to_numpy(), n=rows["n"].to_numpy(),
        group=group, first=(rows["place"] > 0).to_numpy(),
        verdict=rows["verdict"].to_numpy() if gold else None,
    )  # fmt: skip
    effects, spread = np.array([0.9, 0.2, -0.4, 0.7]), np.array([0.3, 0.5, -0.2])
    by = None if gold else spread

    def slope(function: Any, at: Floats) -> Floats:
        steps = 1e-5 * np.eye(len(at))
        return np.stack([(function(at + e) - function(at - e)) / 2e-5 for e in steps], -1)

    def second(at: Floats) -> Any:
        return model._second_step(seen, at, by)

    def first(at: Floats) -> Any:
        return model._first_step(seen, at)

    for step, at in ((second, effects), *(() if gold else ((first, spread),))):
        here = step(at)
        total = slope(lambda b, step=step: step(b).likelihood, at)
        assert here.score.sum(0) == pytest.approx(total, abs=1e-6)
        bends = slope(lambda b, step=step: step(b).score, at)
        groups = [-bends[group == each].sum(0) for each in range(group.max() + 1)]
        assert here.information(group, len(groups)) == pytest.approx(np.array(groups), abs=1e-6)
    if not gold:
        crossed = slope(lambda s: model._second_step(seen, effects, s).score.sum(0), spread)
        assert model._crossed(seen, effects, spread) == pytest.approx(crossed, abs=1e-6)


def test_with_gold_it_is_a_logistic_regression():
    rows = voted(0, 0.8, gold=True)
    x = rows.select("verdict", "place", "rare", "length").to_numpy()
    y = rows["preference"].to_numpy()
    # A tie is half a vote each way.
    model = LogisticRegression(C=1e6, fit_intercept=False, tol=1e-8, max_iter=1000)
    model.fit(np.r_[x, x], np.r_[np.ones(len(y)), np.zeros(len(y))], np.r_[y, 1 - y])
    assert effect(rows)["value"] == pytest.approx(model.coef_[0, 2], abs=2e-3)
    assert effect(rows, "length")["value"] == pytest.approx(model.coef_[0, 3], abs=2e-3)


@pytest.mark.parametrize("gold", [False, True])
def test_the_error_is_that_of_leaving_out_each_group_and_fitting_again(gold: bool):
    rows = voted(1, 0.8, n=60, gold=gold)
    groups = rows["group"].unique(maintain_order=True)
    names, n = {"rare": "rare", "length": "length"}, len(groups)
    found = effects_of(rows, names)
    left = [effects_of(rows.filter(pl.col("group") != group), names)["value"] for group in groups]
    jackknife = np.sqrt((n - 1) / n * ((np.array(left) - found["value"].to_numpy()) ** 2).sum(0))
    assert found["stderr"].to_numpy() == pytest.approx(jackknife, rel=0.1)


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_intervals_cover_a_trait_that_few_comparisons_have(slope: float):
    """In 4 to 10 of 100 groups: whoever takes these for many is sure and wrong."""
    covered = []
    for seed in range(24):
        found = effect(voted(seed, slope, share=0.035))
        if found["low"] is not None:
            covered.append(found["low"] <= slope <= found["high"])
    assert len(covered) >= 22
    assert np.mean(covered) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_intervals_cover_over_two_hundred_worlds(slope: float, share: float):
    covered = {"rare": [0, 0], "length": [0, 0]}
    for seed in range(200):
        rows = voted(seed, slope, share=share)
        for trait, truth in (("rare", slope), ("length", 0.5)):
            found = effect(rows, trait)
            if found["low"] is not None:
                covered[trait][0] += found["low"] <= truth <= found["high"]
                covered[trait][1] += 1
    rate = {trait: inside / n for trait, (inside, n) in covered.items()}
    assert all(each >= 0.92 for each in rate.values()), rate
    assert rate["length"] <= 0.98
    assert share < 1 or rate["rare"] <= 0.98


def test_one_group_or_none_has_no_interval_and_says_so():
    rows = voted(2, 1.0, n=60)
    one = pl.when(pl.col("group") == "0003").then("rare").otherwise(0.0).alias("rare")
    found = effect(rows.with_columns(one))
    assert found["value"] is not None
    assert found["stderr"] is found["low"] is found["high"] is None
    assert "one prompt group" in found["note"]
    assert found["n"] == 4
    none = effect(rows.with_columns(rare=0.0))
    assert none["value"] is none["low"] is None
    assert none["note"] == "no comparison differs in it"
    assert effect(rows.with_columns(one), "length")["low"] is not None


def test_what_rests_on_few_others_is_noted_by_trait():
    rows = voted(3, 1.0, n=60, share=0.3)
    alone = pl.when(pl.col("rare") != 0).then(0.0)
    without = rows.with_columns(k=alone.otherwise("k"), n=alone.otherwise("n"))
    assert "no others" in effect(without)["note"]
    assert effect(without, "length")["note"] is None
    single = rows.with_columns(k=(pl.col("k") > 2).cast(float), n=1.0)
    assert "at most one other" in effect(single)["note"]


def test_who_always_follows_a_trait_is_only_known_to_be_large():
    rows = voted(4, 0.0, n=60)
    rows = rows.with_columns(pl.col("rare").sign(), preference=(pl.col("rare") > 0).cast(float))
    found = effect(rows)
    assert found["value"] > 3
    assert found["stderr"] is None
    assert "large" in found["note"]


def test_copies_are_one_other_and_no_other_to_each_other():
    """Nine who always say the same as one are no more evidence of quality than the one."""
    draw = np.random.default_rng(0)
    theta = draw.normal(0, 1.5, 60)
    said = {f"human:{k}": draw.random(60) < expit(theta) for k in range(3)}
    copies = {f"llm:copy{k}": said["human:0"] for k in range(9)}

    def with_them(people: dict[str, Any]) -> pl.DataFrame:
        frames = [
            pl.DataFrame({"preference": won.astype(float)}).with_columns(
                completion_a=pl.format("{}a", pl.int_range(60)),
                completion_b=pl.format("{}b", pl.int_range(60)),
                criterion=pl.lit("q"),
                annotator=pl.lit(name),
                draw=pl.lit(0),
                a_first=pl.lit(None, pl.Boolean),
            )
            for name, won in people.items()
        ]
        return with_others(pl.concat(frames), None)

    plain, copied = with_them(said), with_them({**said, **copies})
    kept = copied.filter(pl.col("annotator").is_in(list(said)))
    assert kept.select("annotator", "k", "n").equals(plain.select("annotator", "k", "n"))
    one = copied.filter(pl.col("annotator") == "llm:copy0").select("k", "n")
    assert one.equals(plain.filter(pl.col("annotator") == "human:0").select("k", "n"))
