"""Calibration: planted probabilities, whose errors are known by integration."""

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.calibration import calibration
from prefdata.tables import Prompts, Scores, Votes

GOLD = "human:gold"


def votes_of(said, truth, names=None, annotator="llm:j"):
    """Votes of a judge with probabilities `said`, and gold's on the same comparisons."""
    names = [f"{at:06}" for at in range(len(said))] if names is None else names
    both = [(annotator, said), (GOLD, truth)]
    frames = [
        pl.DataFrame({"name": names, "preference": np.asarray(p, float)}).select(
            pl.format("a{}", "name").alias("completion_a"),
            pl.format("b{}", "name").alias("completion_b"),
            pl.lit(who).alias("annotator"),
            pl.lit("quality").alias("criterion"),
            pl.lit(0).alias("draw"),
            pl.lit(None, pl.Boolean).alias("a_first"),
            pl.format("p{}", "name").alias("prompt_id"),
            "preference",
        )
        for who, p in both
    ]
    return tables.typed(Votes, pl.concat(frames))


def planted(seed, n, slope=1.0, spread=1.5):
    """What is said and what is true, where the log-odds said are `slope` times the true ones."""
    draw = np.random.default_rng(seed)
    z = draw.normal(0, spread, n)
    return expit(slope * z), (draw.random(n) < expit(z)).astype(float)


def error_by_integration(slope, bins, spread=1.5):
    """The ECE of the planted probabilities without the noise of a sample."""
    z = np.linspace(-12, 12, 400_001)
    density = np.exp(-((z / spread) ** 2) / 2)
    density /= density.sum()
    said = expit(slope * z)
    at = np.minimum((said * bins).astype(int), bins - 1)
    return np.abs(np.bincount(at, density * (said - expit(z)))).sum()


def measured(made, measure, subject="llm:j"):
    found = made.filter((pl.col("measure") == measure) & (pl.col("subject") == subject))
    return found.row(0, named=True)


def test_calibrated_probabilities_have_no_error():
    made = calibration(votes_of(*planted(0, 20_000)), annotator=GOLD, draws=20)
    assert measured(made, "ece_10")["value"] < 0.01
    assert measured(made, "ace_10")["value"] < 0.02


@pytest.mark.parametrize("bins", [5, 10, 20])
def test_twice_the_log_odds_have_the_error_that_integration_gives(bins):
    votes = votes_of(*planted(1, 20_000, slope=2.0))
    made = calibration(votes, annotator=GOLD, bins=[bins], draws=20)
    found = measured(made, f"ece_{bins}")["value"]
    assert found == pytest.approx(error_by_integration(2.0, bins), abs=0.005)


def test_intervals_cover_the_error_over_seeds_0_to_199():
    said, truth, names = [], [], []
    worlds, n = 200, 200
    for seed in range(worlds):
        p, y = planted(seed, n, slope=2.0)
        said.append(p)
        truth.append(y)
        names.append([f"{seed:03}-{at:04}" for at in range(n)])
    votes = votes_of(np.concatenate(said), np.concatenate(truth), np.concatenate(names))
    own = pl.format("llm:j{}", pl.col("completion_a").str.slice(1, 3))
    votes = votes.with_columns(
        annotator=pl.when(pl.col("annotator") == GOLD).then("annotator").otherwise(own)
    )
    made = calibration(Votes(votes), annotator=GOLD, bins=[5], draws=200)
    truths = {"ece_5": error_by_integration(2.0, 5)}
    z = np.random.default_rng(999).normal(0, 1.5, 1_000_000)
    truths["brier"] = np.mean((expit(2 * z) - expit(z)) ** 2 + expit(z) * expit(-z))
    for name, value in truths.items():
        mine = made.filter(pl.col("measure") == name)
        assert mine.height == worlds
        assert 180 <= mine.filter(pl.lit(value).is_between("low", "high")).height <= 198


def test_a_constant_half_is_calibrated_and_worth_nothing():
    truth = np.random.default_rng(2).integers(0, 2, 500).astype(float)
    made = calibration(votes_of(np.full(500, 0.5), truth), annotator=GOLD)
    assert measured(made, "ece_10")["value"] == pytest.approx(0)
    assert measured(made, "brier")["value"] == pytest.approx(0.25)
    assert made.filter(pl.col("measure").str.starts_with("reliability"))["n"].to_list() == [1000]


def test_hard_votes_are_wrong_by_their_rate_of_errors():
    draw = np.random.default_rng(3)
    truth = draw.integers(0, 2, 1000).astype(float)
    said = np.where(draw.random(1000) < 0.8, truth, 1 - truth)
    made = calibration(votes_of(said, truth), annotator=GOLD)
    wrong = np.mean(said != truth)
    for name in ("ece_10", "ace_10", "mce_10", "brier"):
        assert measured(made, name)["value"] == pytest.approx(wrong)


def test_both_directions_count_and_scikit_learn_sees_the_same_curve():
    said, truth = planted(4, 2000, slope=0.5)
    made = calibration(votes_of(said, truth), annotator=GOLD)
    both = np.concatenate([truth, 1 - truth]), np.concatenate([said, 1 - said])
    came, held = calibration_curve(*both, n_bins=10)
    curve = made.filter(pl.col("measure").str.starts_with("reliability_10")).sort("measure")
    assert np.allclose(curve["value"], came)
    noted = curve["note"].str.extract(r"mean probability ([\d.]+)").cast(pl.Float64)
    assert np.allclose(noted, held, atol=1e-4)
    share = curve["n"] / curve["n"].sum()
    assert measured(made, "ece_10")["value"] == pytest.approx((share * abs(came - held)).sum())
    assert measured(made, "ace_10")["value"] == pytest.approx(np.mean(abs(came - held)))
    assert measured(made, "mce_10")["value"] == pytest.approx(np.max(abs(came - held)))
    assert measured(made, "brier")["value"] == pytest.approx(brier_score_loss(truth, said))
    # In one direction only, outcomes that are always 1 make any doubt an error.
    right = calibration(votes_of(np.maximum(said, 1 - said), np.ones(2000)), annotator=GOLD)
    assert measured(right, "ece_10")["value"] > measured(made, "ece_10")["value"] + 0.05


def test_bins_of_equal_numbers():
    made = calibration(votes_of(*planted(5, 1000)), annotator=GOLD, bins=[5], edges="quantile")
    curve = made.filter(pl.col("measure").str.starts_with("reliability_5"))
    assert curve["n"].to_list() == [400] * 5


def test_scores_of_pairs_and_rewards_of_completions_are_the_same_probabilities():
    said, truth = planted(6, 400)
    votes = votes_of(said, truth)
    by_vote = calibration(votes, annotator=GOLD)
    one = votes.filter(pl.col("annotator") == GOLD).sort("completion_a")
    pair = tables.pair_ids(one["completion_a"], one["completion_b"])
    of_pairs = pl.DataFrame({"subject_id": pair, "subject": "pair", "value": said})
    of_pairs = of_pairs.with_columns(score=pl.lit("preference"), model=pl.lit("glad"))
    found = calibration(votes, tables.typed(Scores, of_pairs), annotator=GOLD)
    rewards = [
        pl.DataFrame({"subject_id": one[side], "subject": "completion", "value": value})
        for side, value in (("completion_a", logit(said) + 3.0), ("completion_b", said * 0 + 3.0))
    ]
    rewards = pl.concat(rewards).with_columns(score=pl.lit("reward"), model=pl.lit(None, pl.String))
    other = calibration(votes, tables.typed(Scores, rewards), annotator=GOLD, score="reward")
    for name in ("ece_10", "brier"):
        value = measured(by_vote, name)["value"]
        assert measured(found, name, "preference of glad")["value"] == pytest.approx(value)
        assert measured(other, name, "reward of no model")["value"] == pytest.approx(value)


def test_invariance_to_row_order_and_to_swapped_sides():
    votes = votes_of(*planted(7, 200))
    made = calibration(votes, annotator=GOLD, draws=50)
    again = Votes(votes.sample(fraction=1, shuffle=True, seed=0))
    assert calibration(again, annotator=GOLD, draws=50).equals(made)
    swapped = Votes(votes.with_columns(preference=1 - pl.col("preference")))
    turned = calibration(swapped, annotator=GOLD, draws=50)
    plain = pl.col("measure").str.contains("^(ece|ace|mce|brier)")
    assert np.allclose(turned.filter(plain)["value"], made.filter(plain)["value"])


def test_one_group_has_no_interval_and_ties_of_gold_no_say():
    said, truth = planted(8, 50)
    truth[:10] = 0.5
    votes = votes_of(said, truth)
    made = calibration(votes, annotator=GOLD)
    assert measured(made, "ece_10")["n"] == 40
    ids = votes["prompt_id"].unique()
    asked = [[{"role": "user", "content": each}] for each in ids]
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": asked, "source": "s", "group": "g"})
    single = calibration(votes, None, tables.typed(Prompts, prompts), annotator=GOLD)
    assert single["low"].is_null().all()
    assert measured(single, "ece_10")["value"] == measured(made, "ece_10")["value"]


def test_refusals_and_nothing():
    votes = votes_of(*planted(9, 20))
    with pytest.raises(RecipeError, match="at least 1"):
        calibration(votes, annotator=GOLD, bins=[0])
    assert calibration(Votes(tables.empty("votes")), annotator=GOLD).is_empty()
    tables.check("measures", calibration(votes, annotator=GOLD), where="here")


def test_gold_that_did_not_vote_is_named_and_ends_no_build():
    votes = votes_of(*planted(9, 20))
    found = tables.check("measures", calibration(votes, annotator="human:golf"), where="here")
    assert found["value"].null_count() == found.height > 0
    assert found["note"].str.contains("no votes of 'human:golf'; did you mean 'human:gold'").all()
    assert {"brier", "ece_10", "mce_10"} <= set(found["measure"])
    assert "human:golf" not in found["subject"]


def test_what_is_no_probability_is_refused():
    said, truth = planted(9, 20)
    votes = votes_of(said, truth)
    one = votes.filter(pl.col("annotator") == GOLD)
    pair = tables.pair_ids(one["completion_a"], one["completion_b"])
    margins = pl.DataFrame({"subject_id": pair, "subject": "pair", "score": "margin", "value": 1.5})
    scores = tables.typed(Scores, margins.with_columns(model=pl.lit("m")))
    with pytest.raises(RecipeError, match=r"'margin' of pairs is 1\.5 in a row"):
        calibration(votes, scores, annotator=GOLD, score="margin")
    with pytest.raises(RecipeError, match="no score 'margins'; did you mean 'margin'"):
        calibration(votes, scores, annotator=GOLD, score="margins")
    assert calibration(votes, scores, annotator=GOLD).equals(calibration(votes, annotator=GOLD))
    with pytest.raises(RecipeError, match="at most 1000"):
        calibration(votes, annotator=GOLD, bins=[10**6])
