"""From votes with planted flips to a version that knows them: one build of the whole chain.

Every prompt has two answers of one length, and the truly better one has mostly more long words.
Three people vote; each turns the truth round at a rate of their own. A fourth, gold, does not, and
votes on some prompts only.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

import prefdata
from prefdata import tables as t
from prefdata.version import Version, verify

RECIPE = """
name = "noisy"
seed = 1
sources.votes = "votes.jsonl"

[[stages]]
use = "aggregate.AGGREGATE"
criteria = ["overall"]

[[stages]]
use = "pair.all_pairs"

[[stages]]
use = "estimate.flip_rate"
gold = "human:gold"

[[stages]]
use = "estimate.label_error"

[[stages]]
use = "estimate.ensemble_strength"

[[stages]]
use = "select.label_error"
share = 0.1

[[stages]]
use = "pair.flip"
above = 0.5

[[stages]]
use = "order.robust_weights"
of = "gold: pairs"

[[stages]]
use = "order.adaptive_margin"
scale = 0.5

[[stages]]
use = "order.soften"
score = "label_error"

[[exports]]
use = "export.pairwise"
columns = ["label_error", "robust_weight", "robust_weight_flipped", "adaptive_margin"]
"""
N_PROMPTS = 400
FLIPS = {"ann": 0.2, "bob": 0.3, "cem": 0.35}
GOLD = 0.4  # the share of prompts with a gold vote


def write_votes(path: Path) -> set[str]:
    """Write the votes; the texts that are the better ones."""
    draw = np.random.default_rng(11)
    best: set[str] = set()
    with path.open("w") as file:
        for at in range(N_PROMPTS):
            gap = abs(draw.normal(0, 0.5))
            better, worse = (
                " ".join(np.where(draw.random(30) < share, "consider", "perhaps,"))
                for share in (0.5 + gap / 2, 0.5 - gap / 2)
            )
            best.add(better)
            wrong = {person: draw.random() < rate for person, rate in FLIPS.items()}
            if draw.random() < GOLD:
                wrong["gold"] = False
            for person, is_wrong in wrong.items():
                one, other = (better, worse) if draw.random() < 0.5 else (worse, better)
                vote = {
                    "prompt": f"question {at}",
                    "completion_a": one,
                    "completion_b": other,
                    "annotator": f"human:{person}",
                    "preference": float((one is better) != is_wrong),
                    "criterion": "gold" if person == "gold" else "overall",
                }
                file.write(json.dumps(vote) + "\n")
    return best


class Made(NamedTuple):
    """A version, and every pair that was ever made: of the first label, `was_wrong`; of what became
    of it, `was_dropped`, `was_flipped`, `is_wrong`; beside the scores."""

    version: Version
    pairs: pl.DataFrame


def told(version: Version, best: set[str]) -> pl.DataFrame:
    text = pl.col("completion").list.first().struct["content"]
    completions = version.table("completions").sort("completion_id")
    sides = completions.group_by("prompt_id", maintain_order=True).agg(
        a=pl.first("completion_id"), b=pl.last("completion_id"), text=text.first()
    )
    truth = sides.select(
        "a",
        t.pair_ids(sides["a"], sides["b"]),
        a_is_better=pl.col("text").is_in(best),
    )
    scores = version.table("scores").filter(subject="pair")
    scores = scores.pivot("score", index="subject_id", values="value")
    kept = version.table("pairs").select("pair_id", "chosen_id", "soft_label")
    pairs = truth.join(scores, left_on="pair_id", right_on="subject_id")
    pairs = pairs.join(kept, on="pair_id", how="left")
    return pairs.with_columns(
        was_wrong=(pl.col("preference") > 0.5) != pl.col("a_is_better"),
        is_wrong=(pl.col("chosen_id") == pl.col("a")) != pl.col("a_is_better"),
        was_dropped=pl.col("chosen_id").is_null(),
        was_flipped=pl.col("flipped").fill_null(0.0) == 1,
    )


@pytest.fixture(scope="module", params=["dawid_skene", "reliability"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("noisy")
    best = write_votes(folder / "votes.jsonl")
    (folder / "recipe.toml").write_text(RECIPE.replace("AGGREGATE", request.param))
    built = prefdata.build(folder / "recipe.toml", data=folder / "data")
    version = verify(built.path)
    return Made(version, told(version, best))


def share_wrong(pairs: pl.DataFrame, column: str = "was_wrong") -> float:
    return float(pairs[column].to_numpy().mean())


def test_what_was_dropped_and_turned_round_was_wrong(made: Made):
    """Chance is the share of all first labels that are wrong, about a fifth."""
    dropped, flipped = (made.pairs.filter(pl.col(c)) for c in ("was_dropped", "was_flipped"))
    chance = share_wrong(made.pairs)
    assert 0.1 < chance < 0.3
    assert dropped.height == N_PROMPTS // 10
    assert flipped.height > N_PROMPTS // 20
    assert share_wrong(dropped) > chance + 0.5
    assert share_wrong(flipped) > chance + 0.3
    left = made.pairs.filter(~pl.col("was_dropped"))
    assert share_wrong(left, "is_wrong") < chance / 2
    assert made.version.manifest["noise"]["flipped"] == flipped.height


def test_the_rates_of_the_manifest_hold_the_planted_ones(made: Made):
    rates = {each["subject"]: each for each in made.version.manifest["noise"]["flip_rate"]}
    truth = dict.fromkeys(("gold: pairs", "label_error"), share_wrong(made.pairs))
    truth["repeats: human:*"] = float(np.mean(list(FLIPS.values())))
    assert rates.keys() == truth.keys()
    for subject, planted in truth.items():
        assert rates[subject]["low"] <= planted <= rates[subject]["high"], subject
        assert abs(rates[subject]["value"] - planted) < 0.05, subject


def test_labels_are_as_soft_as_their_doubt(made: Made):
    """A kept label has the aggregate's probability, smoothed by the pair's own P(flipped)."""
    kept = made.pairs.filter(~pl.col("was_dropped"), ~pl.col("was_flipped"))
    stated = (kept["preference"] - 0.5).abs().to_numpy() + 0.5
    doubt = kept["label_error"].to_numpy()
    expected = (1 - doubt) * stated + doubt * (1 - stated)
    assert kept["soft_label"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert (made.pairs.drop_nulls("chosen_id")["label_error"] <= 0.5).all()


def test_the_softer_labels_are_the_wronger_ones(made: Made):
    left = made.pairs.drop_nulls("chosen_id").sort("soft_label", "pair_id")
    n = left.height // 3
    assert share_wrong(left.head(n), "is_wrong") > 2 * share_wrong(left.tail(n), "is_wrong")


def test_weights_are_those_of_the_measured_rate(made: Made):
    """With (1 - e) a + e b = 1 and e a + (1 - e) b = 0 flipped labels cost nothing on average."""
    noise = made.version.manifest["noise"]
    e = next(r["value"] for r in noise["flip_rate"] if r["subject"] == "gold: pairs")
    rows = prefdata.load(made.version.ref, "pairwise", data=made.version.path.parents[2])["train"]
    own, other = (np.array(rows[name]) for name in ("robust_weight", "robust_weight_flipped"))
    assert len(own) == made.version.table("pairs").height
    assert (1 - e) * own + e * other == pytest.approx(1, abs=1e-6)
    assert e * own + (1 - e) * other == pytest.approx(0, abs=1e-6)


def test_margins_are_low_where_labels_are_wrong(made: Made):
    left = made.pairs.drop_nulls("chosen_id")
    scaled = left["ensemble_margin"].to_numpy() / 2
    assert left["adaptive_margin"].to_numpy() == pytest.approx(scaled, abs=1e-6)
    by_truth = left.group_by("is_wrong").agg(pl.mean("adaptive_margin")).sort("is_wrong")
    right, wrong = by_truth["adaptive_margin"]
    assert right > wrong + 0.2


def test_the_card_states_the_noise_and_what_followed(made: Made):
    text = (made.version.path / "README.md").read_text()
    noise = made.version.manifest["noise"]
    for each in noise["flip_rate"]:
        assert f"{each['subject']}: {each['value']:.1%} (95 % interval {each['low']:.1%}" in text
    softened = next(d for d in noise["label_smoothing"] if d["subject"] == "order.soften")
    kept = made.pairs.drop_nulls("chosen_id")
    assert softened["value"] == pytest.approx(kept["label_error"].mean(), abs=1e-6)
    assert f"`soft_label` is smoothed by {softened['value']:.1%}, by score label_error" in text
    assert f"{noise['flipped']} pairs had the label turned round" in text
