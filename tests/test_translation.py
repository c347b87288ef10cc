"""What is added to all rewards of a prompt changes nothing that a trainer reads.

Preferences are relative: a reward r(x, y) + c(x) is the same reward (Wu et al. 2023, Pairwise
Proximal Policy Optimization). Whatever is exported must not see c, nor which side is called a.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import prefdata
from prefdata import tables as t
from prefdata.tables import Requests, Responses

RECIPE = """
name = "relative"
seed = 1
sources.completions = "completions.jsonl"

[models.rm]
client = "scripted"
model = "rm"

[[stages]]
use = "annotate.reward_model"
models = ["rm"]

[[stages]]
use = "aggregate.AGGREGATE"

[[stages]]
use = "pair.PAIR"

[[stages]]
use = "order.robust_weights"
rate = 0.1

[[stages]]
use = "order.soften"
rate = 0.1

[[exports]]
use = "export.pairwise"
columns = ["robust_weight", "robust_weight_flipped"]

[[exports]]
use = "export.binary"

[[exports]]
use = "export.listwise"
"""
PROMPTS, COMPLETIONS = 8, 4


def rewarded(offset: Callable[[int], float], sign: float = 1.0) -> Any:
    """A reward model: the number in the text, and what is added for the prompt's number."""

    def ask(requests: Requests) -> Responses:
        rows = requests.select("request_id", "messages", "completion").rows()
        values = []
        for _, messages, completion in rows:
            prompt = int(re.findall(r"\d+", messages[0]["content"])[0])
            said = int(re.findall(r"-?\d+", completion[0]["content"])[0])
            values.append(sign * said / 8 + offset(prompt))
        frame = requests.select("request_id").with_columns(number=pl.Series(values))
        return t.typed(Responses, frame.with_columns(tokens_in=0, tokens_out=0))

    return ask


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., dict[str, pl.DataFrame]]:
    """What a recipe exports, by view, with a reward model of this offset."""
    rows = [
        {"prompt": f"question {p}", "completion": f"worth {(5 * p + 7 * c * c) % 23 - 9}, take {c}"}
        for p in range(PROMPTS)
        for c in range(COMPLETIONS)
    ]
    (tmp_path / "completions.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def made(ask: Any, aggregate: str, pair: str) -> dict[str, pl.DataFrame]:
        text = RECIPE.replace("AGGREGATE", aggregate).replace("PAIR", pair)
        (tmp_path / "recipe.toml").write_text(text)
        built = prefdata.build(tmp_path / "recipe.toml", data=tmp_path / "data", ask=ask)
        found = prefdata.version.find(tmp_path / "data", f"relative@{built.id}")
        return {view: found.rows(view) for view in ("pairwise", "binary", "listwise")}

    return made


def offset(prompt: int) -> float:
    return 17.25 * prompt - 64.0  # exact in binary, so that differences are too


@pytest.mark.parametrize(
    ("aggregate", "pair"),
    [
        ("bradley_terry", "best_vs_worst"),
        ("majority_vote", "all_pairs"),
        ("rank_centrality", "adjacent"),
        ("zermelo_soft_labels", "all_pairs"),
        ("davidson", "best_vs_worst"),
    ],
)
def test_what_is_added_for_a_prompt_is_seen_nowhere(exported: Any, aggregate: str, pair: str):
    plain = exported(rewarded(lambda _: 0.0), aggregate, pair)
    moved = exported(rewarded(offset), aggregate, pair)
    assert plain["pairwise"].height > 5
    for view, rows in plain.items():
        assert rows.equals(moved[view]), view


def test_turning_rewards_around_turns_the_sides_and_nothing_else(exported: Any):
    up, down = (exported(rewarded(offset, s), "bradley_terry", "all_pairs") for s in (1.0, -1.0))
    both = up["pairwise"].join(down["pairwise"], on="pair_id", suffix="_down")
    assert both.height == up["pairwise"].height == down["pairwise"].height
    assert (both["chosen_id"] == both["rejected_id_down"]).all()
    assert (both["rejected_id"] == both["chosen_id_down"]).all()
    for name in ("margin", "soft_label", "robust_weight", "robust_weight_flipped"):
        assert np.allclose(both[name], both[f"{name}_down"], atol=1e-6)


def test_an_absolute_grade_does_see_it(exported: Any):
    """So equal exports above are no matter of course: a rating is not relative."""
    plain, moved = (
        exported(rewarded(by), "mean_rating", "best_vs_worst") for by in (lambda _: 0.0, offset)
    )
    assert not plain["pairwise"].equals(moved["pairwise"])
