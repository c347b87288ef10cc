"""Pairs in tokens: both sides behind one prompt, each token with its own log-probability."""

from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.export.token_level import token_level


def likelihoods(made: Any, model: str = "reference", top: bool = False) -> pl.DataFrame:
    rows = [
        {
            "completion_id": i,
            "model": model,
            "prompt_id": p,
            "prompt_token_ids": [int(p[:4], 16), 1],
            "token_ids": [2, 3, len(model) + at],
            "logps": [-0.5, -1.0, -float(at)],
            "topk_ids": [[2], [9], [9]] if top else None,
            "topk_logps": [[-0.5], [-0.1], [-0.1]] if top else None,
            "tail_logps": [-0.9, None, -2.0] if top else None,
        }
        for at, (i, p) in enumerate(
            made["completions"].select("completion_id", "prompt_id").sort("completion_id").rows()
        )
    ]
    frame = pl.DataFrame(rows, schema_overrides=tables.schema("likelihoods").dtypes)
    return tables.check("likelihoods", frame, where="test")


def test_a_row_has_both_sides_behind_one_prompt(world: Any):
    made = world(4, 3)
    known = likelihoods(made, top=True)
    rows = token_level(made["pairs"], known)
    assert set(rows["pair_id"]) == set(made["pairs"]["pair_id"])
    by_id = {row["completion_id"]: row for row in known.iter_rows(named=True)}
    for row in rows.iter_rows(named=True):
        for side in ("chosen", "rejected"):
            own = by_id[row[f"{side}_id"]]
            assert row["prompt_ids"] == own["prompt_token_ids"]
            assert row[f"{side}_ids"] == own["token_ids"]
            assert row[f"ref_{side}_token_logps"] == own["logps"]
            assert row[f"ref_{side}_topk_ids"] == own["topk_ids"]
            assert row[f"ref_{side}_tail_logps"] == own["tail_logps"]


def test_pairs_that_are_not_known_have_no_row_and_no_column_is_empty(world: Any):
    made = world(4, 2)
    known = likelihoods(made).filter(pl.col("completion_id") != made["pairs"]["chosen_id"][0])
    rows = token_level(made["pairs"], known)
    assert set(rows["pair_id"]) == set(made["pairs"]["pair_id"][1:])
    assert not [name for name in rows.columns if "top" in name or "tail" in name]


def test_of_several_models_one_has_to_be_named(world: Any):
    made = world(2, 2)
    both = pl.concat([likelihoods(made), likelihoods(made, "other")])
    with pytest.raises(RecipeError, match="by other, reference; say whose"):
        token_level(made["pairs"], both)
    with pytest.raises(RecipeError, match="which is 'refrence'"):
        token_level(made["pairs"], both, model="refrence")
    rows = token_level(made["pairs"], both, model="other")
    assert rows.equals(token_level(made["pairs"], likelihoods(made, "other")))


def test_sides_behind_different_prompts_are_refused(world: Any):
    made = world(2, 1)
    one, other = made["completions"]["completion_id"]
    joint = pl.DataFrame({"chosen_id": [one], "rejected_id": [other], "n_votes": 1})
    joint = joint.with_columns(tables.pair_ids([one], [other]), soft_label=pl.lit(1.0))
    with pytest.raises(TableError, match="different tokens before them"):
        token_level(tables.check("pairs", joint, where="test"), likelihoods(made))
