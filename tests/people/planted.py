"""A dataset by planted models, what people are asked about it, and people who answer as planted."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import prefdata
from prefdata.dataset import Built

RECIPE = """
name = "asked"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[models.judge]
client = "scripted"
accuracy = 0.7

[[stages]]
use = "generate.sample"
model = "writer"
n = 2

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"

[[stages]]
use = "annotate.people"

[[stages]]
use = "eight:queue"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"

[[exports]]
use = "export.pairwise"
"""
# A plug-in beside the recipe: a queue that depends on no router.
EIGHT = """
import polars as pl
from prefdata.tables import Assignments, Votes

SCOPE = "all"

def queue(votes: Votes) -> Assignments:
    two = ["completion_a", "completion_b"]
    people = votes.filter(pl.col("annotator").str.starts_with("human:"))
    left = votes.select(two).unique().join(people, on=two, how="anti").sort(two).head(8)
    priority = pl.int_range(pl.len(), 0, -1)
    return Assignments(left.with_columns(annotator=pl.lit("human"), priority=priority,
                                         reason=pl.lit("one of eight")))
"""
QUALITY = re.compile(r"quality=(\d+\.\d+)")
Row = dict[str, Any]


def build(folder: Path) -> Built:
    """The dataset, in `folder/data`; ten prompts, which a spreadsheet would calculate."""
    prompts = [{"prompt": f"=SUM({at}) is a question,\nof two lines"} for at in range(10)]
    text = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
    (folder / "prompts.jsonl").write_text(text)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "eight.py").write_text(EIGHT)
    return prefdata.build(folder / "recipe.toml", data=folder / "data")


def quality(text: str) -> float:
    return float(QUALITY.findall(text)[-1])


def better(row: Mapping[str, str]) -> str:
    """The right answer to a row, whichever side stands first."""
    return "first" if quality(row["first"]) > quality(row["second"]) else "second"


def rows_of(path: Path) -> list[Row]:
    """The rows of a file of tasks."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines()]


def write_rows(path: Path, rows: list[Row]) -> Path:
    """A file of rows, as a person's program saves it."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def filled(
    path: Path, who: str = "anna", answer: Callable[[Row], str] = better, **more: str
) -> Path:
    """The file of tasks, filled in by somebody."""
    rows = rows_of(path)
    for row in rows:
        row |= {"annotator": who, "helpfulness": answer(row), **more}
    return write_rows(path.with_name(f"{who}{path.suffix}"), rows)
