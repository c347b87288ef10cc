"""Recipes rationales and icai to their end with a real model of 135M parameters, on a few pairs.

It writes and votes badly; what is tested is that its replies, whatever they are, end as rows that
hold what they promise, and that nothing is asked twice.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from datasets import load_from_disk

import prefdata
from prefdata import tables
from prefdata.dataset import Built
from prefdata.errors import ModelError
from prefdata.explain._wording import fault
from prefdata.version import find

pytestmark = [pytest.mark.slow, pytest.mark.long]


def built(recipe: str, data: Path, changes: Sequence[str]) -> Built:
    pytest.importorskip("xllamacpp", reason="the embedded model needs prefdata[embedded]")
    try:
        made = prefdata.build(recipe, data=data, changes=changes)
    except ModelError as error:
        pytest.skip(str(error))
    assert made.requests["failed"] == 0
    for name in made.tables:
        tables.check(name, prefdata.load(made.name, name, data=data), where=recipe)
    again = prefdata.build(recipe, data=data, changes=changes)
    assert (again.id, again.is_new, again.requests["asked"]) == (made.id, False, 0)
    return made


def test_reasons_end_as_rationales_or_with_why_they_are_none(tmp_path: Path):
    changes = ["sources.pairs.only=id IN ('hhh_207', 'hhh_214')"]
    made = built("rationales", tmp_path, changes)
    found = find(tmp_path, made.name)
    kept = found.table("rationales")
    assert made.tables["pairs"] == 2
    assert kept.height + made.dropped["explain.rationale"] == 4  # general and specific
    assert not [text for text in kept["rationale"] if fault(text)]
    measures = found.table("measures")
    shares = measures.filter(pl.col("measure") == "kept_rationales")["value"]
    assert shares.sum() * 2 == pytest.approx(kept.height)
    rows = load_from_disk(f"{made.path}/rationale_augmented")
    assert sum(split.num_rows for split in rows.values()) == kept.height
    assert "## Rationales" in (Path(made.path) / "README.md").read_text()


def test_principles_end_as_a_constitution_or_with_why_they_are_none(tmp_path: Path):
    changes = [
        *("sources.pairs.limit=4", "stages.0.clusters=2", "stages.0.draws=2"),
        "stages.0.held_out=0.25",
    ]
    made = built("icai", tmp_path, changes)
    found = find(tmp_path, made.name)
    measures = dict(
        found.table("measures")
        .filter(pl.col("subject") == "icai")
        .select("measure", "value")
        .rows()
    )
    kept, voted = measures["principles_kept"], measures["principles_voted"]
    assert found.table("principles").height == kept
    assert made.dropped.get("explain.icai", 0) == voted - kept
    votes = found.table("votes").filter(pl.col("annotator").str.starts_with("principle:"))
    assert votes["annotator"].n_unique() == voted
    alone = found.table("votes").filter(pl.col("annotator").str.ends_with("-without"))
    assert alone.height == 8
