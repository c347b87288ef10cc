"""The recipe `hybrid`: a jury, a queue for people, and what they answered in the next version."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import prefdata
from prefdata import cli
from prefdata.dataset import Built
from prefdata.tables import pair_ids
from tests.people.planted import filled, quality, rows_of

# Planted models in the place of the small one: the writers differ, the judge is often wrong.
PLANTED = [f"models.{role}.client=scripted" for role in ("cool", "warm", "judge")]
PLANTED += ["models.cool.quality=0.4", "models.warm.quality=0.6", "models.judge.accuracy=0.65"]


def build(folder: Path) -> Built:
    return prefdata.build("hybrid", data=folder / "data", changes=PLANTED)


def annotate(folder: Path, *arguments: str) -> dict[str, Any]:
    told = CliRunner().invoke(
        cli.app, ["annotate", *arguments, "--data", str(folder / "data"), "--json"]
    )
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def table(folder: Path, version: str, name: str) -> pl.DataFrame:
    return prefdata.load(version, name, data=folder / "data")


@pytest.mark.slow
def test_it_waits_for_nobody_and_takes_in_whoever_answered(tmp_path: Path):
    first = build(tmp_path)
    assert first.exports["pairwise"] > 10, "the dataset of the jury is there"
    queue = table(tmp_path, "hybrid", "assignments")
    assert queue.height == 8
    assert set(queue["annotator"]) == {"human"}
    votes = table(tmp_path, "hybrid", "votes")
    assert votes["annotator"].n_unique() == 3
    assert table(tmp_path, "hybrid", "annotations").is_empty()

    told = annotate(tmp_path, "export", "hybrid", "--tool", "jsonl", "--judge", "helpfulness")
    handed_out = Path(told["files"][0])
    assert len(rows_of(handed_out)) == 8
    annotate(tmp_path, "import", "hybrid", str(filled(handed_out)))

    second = build(tmp_path)
    assert second.id != first.id
    assert (second.requests["asked"], second.requests["cached"]) == (0, first.requests["asked"])
    after = table(tmp_path, "hybrid", "votes")
    people = after.filter(pl.col("annotator") == "human:anna")
    assert people.height == 8
    assert after.filter(pl.col("annotator") != "human:anna").equals(votes), "nothing else changed"

    sides = ["completion_a", "completion_b"]
    assert queue.join(people, on=sides, how="anti").is_empty()
    new = table(tmp_path, "hybrid", "assignments")
    assert new.join(people, on=sides, how="semi").is_empty(), "the queue goes on"
    assert new.height == 8

    before = _right(tmp_path, f"hybrid@{first.id}", people)
    assert _right(tmp_path, f"hybrid@{second.id}", people) > before, "people were right"
    third = build(tmp_path)
    assert (third.id, third.is_new) == (second.id, False)


def _right(folder: Path, version: str, asked: pl.DataFrame) -> float:
    """The mean P(the better one) by the version's model, over the pairs that people answered."""
    texts = {
        id: turns[0]["content"]
        for id, turns in table(folder, version, "completions")
        .select("completion_id", "completion").rows()
    }  # fmt: skip
    two = asked.select("completion_a", "completion_b")
    named = two.with_columns(pair_ids(two["completion_a"], two["completion_b"]))
    scores = table(folder, version, "scores").filter(pl.col("score") == "preference")
    known = named.join(scores, left_on="pair_id", right_on="subject_id")
    assert known.height == asked.height
    sure = [
        value if quality(texts[a]) > quality(texts[b]) else 1 - value
        for a, b, value in known.select("completion_a", "completion_b", "value").rows()
    ]
    return sum(sure) / len(sure)
