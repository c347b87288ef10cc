"""Estimates of people make something of few votes, or nothing, and never what is no number."""

import json
import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.version import find

STAGES = ["em_groups", "ideal_point", "user_latent"]
PEOPLE = ["u", "v", "w"]


def build(folder: Path, stage: str, votes: list[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, votes)))
    recipe = {
        "name": "few",
        "sources": {"votes": "votes.jsonl"},
        "models": {"m": {"client": "scripted"}},
        "stages": [{"use": f"estimate.{stage}", "model": "m"}],
    }
    with warnings.catch_warnings(action="error"):
        built = prefdata.build(prefdata.Recipe.parse(recipe, folder=folder), data=folder / "data")
    version = find(folder / "data", f"few@{built.id}")
    return {name: version.table(name) for name in built.tables}


def vote(prompt: int, person: str, preference: float) -> dict[str, Any]:
    sides = {"completion_a": f"well said {prompt}", "completion_b": f"badly put {prompt}"}
    return {
        "prompt": f"p{prompt}",
        **sides,
        "annotator": f"human:{person}",
        "preference": preference,
    }


@pytest.mark.parametrize("stage", STAGES)
def test_of_one_vote_nothing_is_said(tmp_path: Path, stage: str):
    tables = build(tmp_path, stage, [vote(1, "u", 1.0)])
    assert tables["scores"].is_empty()
    assert tables["measures"].is_empty()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("agreed", [1.0, 0.5], ids=["one side", "ties"])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_few_votes_that_agree_give_numbers(tmp_path: Path, stage: str, agreed: float, n: int):
    votes = [vote(at, PEOPLE[at % len(PEOPLE)], agreed) for at in range(n)]
    tables = build(tmp_path, stage, votes)
    assert tables["scores"].height > 0
    for name in ("scores", "measures"):
        for column in tables[name].select(pl.col(pl.Float64)):
            assert column.drop_nulls().is_finite().all(), (name, column.name)
