"""The bundled recipe ches-filter, on planted pairs: what is alike goes, what is not stays."""

import json
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.dataset import Built
from prefdata.version import find

N_ALIKE, N_APART = 30, 50
SCRIPTED = ["models.target.client=scripted", "models.target.model=planted"]


def words(draw: Random, n: int) -> list[str]:
    return ["".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(n)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Path]:
    """Sides that share all but one of twelve words, sides that share none, and a doubled text."""
    folder, draw = tmp_path_factory.mktemp("pairs"), Random(0)
    rows = []
    for at in range(N_ALIKE + N_APART):
        chosen = words(draw, 12)
        kind = "alike" if at < N_ALIKE else "apart"
        rejected = [*chosen[:-1], *words(draw, 1)] if kind == "alike" else words(draw, 12)
        texts = {"chosen": " ".join(chosen), "rejected": " ".join(rejected)}
        rows.append({"prompt": f"question {at}", "category": kind, **texts})
    rows.append({"prompt": "again", "category": "same", "chosen": "a b", "rejected": "a  b"})
    long = " ".join(words(draw, 1100))
    rows.append(
        {"prompt": "cut", "category": "cut", "chosen": f"{long} x", "rejected": f"{long} y"}
    )
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    named = "sources.pairs.columns.tags=category"
    changes = [*SCRIPTED, named, f"sources.pairs.path={folder / 'pairs.jsonl'}"]
    return prefdata.build("ches-filter", data=folder / "data", changes=changes), folder


def tables_of(built: tuple[Built, Path]) -> dict[str, pl.DataFrame]:
    made, folder = built
    names = ("scores", "pairs", "dropped", "prompts")
    return {name: prefdata.load(made.name, name, data=folder / "data") for name in names}


def kinds(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """`pair_id, kind, value` of every scored pair."""
    scores = tables["scores"].filter(pl.col("score") == "ln_ches")
    return scores.select(pair_id="subject_id", value="value")


def test_the_lowest_twentieth_is_kept_and_all_of_it_is_of_sides_apart(built: Any):
    tables = tables_of(built)
    kept = tables["pairs"].join(tables["prompts"], on="prompt_id")
    assert kept.height == (N_ALIKE + N_APART) // 20
    assert kept["tags"].explode().unique().to_list() == ["apart"]
    values = kinds(tables).sort("value", "pair_id")
    assert values.height == N_ALIKE + N_APART
    assert set(values["pair_id"].head(kept.height)) == set(kept["pair_id"])
    # The sides of a planted pair alike have the highest scores, every one of them.
    alike = values.tail(N_ALIKE)["value"].min()
    assert alike > values.head(N_APART)["value"].max() + 0.3


def test_what_was_dropped_says_why(built: Any):
    tables = tables_of(built)
    why = dict(tables["dropped"].filter(pl.col("table") == "pairs")["reason"].value_counts().rows())
    assert why["both sides say the same"] == 1
    assert why["both sides are the same within 1024 tokens"] == 1
    assert why["select.lowest_score"] == N_ALIKE + N_APART - 4


def test_the_export_carries_the_scores_and_the_page_shows_them(built: Any):
    made, folder = built
    rows = prefdata.load(made.name, "pairwise", data=folder / "data")["train"]
    assert len(rows) == made.tables["pairs"]
    named = {"ches", "ln_ches", "difficulty", "ref_chosen_logps", "ref_rejected_logps"}
    assert named <= set(rows.column_names)
    assert all(value is not None for name in named for value in rows[name])
    page = (Path(made.path) / "report.html").read_text()
    assert "<code>ln_ches</code>" in page
    assert f"{made.tables['pairs']} rows in this version, {N_ALIKE + N_APART - 4} dropped" in page
    measures = find(folder / "data", made.name).table("measures")["measure"].unique().to_list()
    assert {"ranking_accuracy", "length_correlation"} <= set(measures)


def test_the_bundled_pairs_are_filtered_the_same_way(tmp_path: Path):
    made = prefdata.build("ches-filter", data=tmp_path, changes=SCRIPTED)
    assert made.requests["failed"] == 0
    again = prefdata.build("ches-filter", data=tmp_path, changes=SCRIPTED, n_shards=3)
    assert (again.id, again.is_new, again.requests["asked"]) == (made.id, False, 0)
