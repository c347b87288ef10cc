"""Every measure of judges in one recipe: planted faults are found and stand on the card."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import prefdata
from prefdata.version import find

RECIPE = """
name = "judged"
sources.votes = "votes.jsonl"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "measure.agreement"
draws = 100

[[stages]]
use = "measure.position_bias"

[[stages]]
use = "measure.length_bias"

[[stages]]
use = "measure.style_bias"

[[stages]]
use = "measure.self_preference"

[[stages]]
use = "measure.transitivity"

[[stages]]
use = "measure.leaderboard"

[[stages]]
use = "measure.gold"
annotator = "human:1"

[[stages]]
use = "measure.calibration"
annotator = "human:1"
draws = 100
"""
WRITERS = ("gpt-4o", "claude-3-opus", "Llama-3-8B")
BIASED, FAIR = "llm:gpt-4/judge", "llm:Qwen3-8B/judge"
# What a completion gains with the biased judge: own family, shown first, log length, log items.
OWN, FIRST, LENGTH, ITEMS = 1.5, 0.6, 0.8, 0.9
JUDGE = {
    "position_bias",
    "length_bias",
    "style_bias_lists",
    "self_preference",
    "own_win_rate_difference",
    "own_win_rate_above_others",
    "first_shown_wins",
    "swap_consistency",
    "longer_preferred",
    "styled_preferred",
    "gold_accuracy",
}
OTHER = {
    "generator_strength",
    "win_rate",
    "length_controlled_win_rate",
    "style_controlled_win_rate",
}


def planted(n_prompts: int) -> list[dict[str, object]]:
    """Three writers answer each prompt, three people and two judges vote on every two."""
    draw = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for prompt in range(n_prompts):
        items = draw.integers(0, 6, 3)
        texts = [
            f"{prompt} {at}" + " word" * int(words) + "".join(f"\n- {k}" for k in range(items[at]))
            for at, words in enumerate(draw.integers(10, 80, 3))
        ]
        quality = draw.normal(0, 1, 3)
        liked = np.array([OWN, 0, 0]) + LENGTH * np.log([len(text) + 1 for text in texts])
        liked += ITEMS * np.log1p(items)
        for one, other in combinations(range(3), 2):
            for who in ("human:1", "human:2", "human:3", FAIR, BIASED):
                for is_first in (True, False) if who.startswith("llm") else (None,):
                    odds = 1.5 * (quality[one] - quality[other])
                    if who == BIASED:
                        odds += liked[one] - liked[other] + (FIRST if is_first else -FIRST)
                    row = {
                        "prompt": f"question {prompt}",
                        "annotator": who,
                        "a_first": is_first,
                        "preference": float(draw.random() < 1 / (1 + np.exp(-odds))),
                    }
                    for side, at in (("a", one), ("b", other)):
                        row |= {f"completion_{side}": texts[at], f"generator_{side}": WRITERS[at]}
                    rows.append(row)
    return rows


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, str]:
    folder: Path = tmp_path_factory.mktemp("judged")
    lines = [json.dumps(row) for row in planted(90)]
    (folder / "votes.jsonl").write_text("\n".join(lines))
    (folder / "recipe.toml").write_text(RECIPE)
    prefdata.build(folder / "recipe.toml", data=folder / "data")
    version = find(folder / "data", "judged")
    return version.table("measures"), (version.path / "README.md").read_text()


def of(measures: pl.DataFrame, judge: str) -> dict[str, dict[str, float]]:
    rows = measures.filter(pl.col("subject") == judge).to_dicts()
    return {row["measure"]: row for row in rows}


def test_what_was_planted_is_found_and_tells_the_biased_judge_from_the_fair(
    built: tuple[pl.DataFrame, str],
):
    measures, _ = built
    biased, fair = of(measures, BIASED), of(measures, FAIR)
    truths = {"self_preference": OWN, "length_bias": LENGTH, "style_bias_lists": ITEMS}
    for name, truth in truths.items():
        if name != "length_bias":
            assert biased[name]["low"] < truth < biased[name]["high"], name
        assert biased[name]["low"] > 0, name
    assert biased["position_bias"]["low"] > 0
    assert fair["position_bias"]["low"] < 0 < fair["position_bias"]["high"]
    # The biased one is among the fair one's others, so next to them it likes length and lists less.
    for name in ("length_bias", "style_bias_lists"):
        assert fair[name]["high"] < biased[name]["low"], name
    assert fair["self_preference"]["value"] is None
    assert biased["gold_accuracy"]["high"] < fair["gold_accuracy"]["value"]


def test_the_card_lists_every_measure_with_its_interval(built: tuple[pl.DataFrame, str]):
    measures, card = built
    said = set(measures["measure"])
    assert said >= JUDGE | OTHER
    shown = [line.split(" | ") for line in card.splitlines() if line.startswith("| ")]
    listed = {cells[0].removeprefix("| "): cells for cells in shown if len(cells) == 6}
    assert said <= listed.keys()
    for name in JUDGE | OTHER:
        assert " to " in listed[name][3], name
    people = measures.filter(pl.col("measure") == "self_preference", pl.col("value").is_null())
    assert set(people["subject"]) == {"human:1", "human:2", "human:3", FAIR}
    assert people["note"].is_not_null().all()
