"""What is found does not depend on how many rows are read at once, and is not held in memory."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import sources, tables, version
from prefdata.check import Options, Whole, of_frames, run
from prefdata.check.data import SIDES, of_version
from prefdata.sources import Sources
from prefdata.tables import Votes
from tests.check.test_check import PLANTS, Rows, as_implicit, as_messages, clean


def spoilt(n: int = 120) -> Rows:
    """Rows with every fault that is planted in tests, and the same pairs turned and repeated."""
    rows = [
        row
        for seed, (_, put, _) in enumerate(PLANTS.values())
        if seed != 6  # scores that are texts would make those of all rows texts
        for row in put(clean(n, seed=seed))
    ]
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows[3:9]]
    # as many with either opening, so that the first in order is named
    again = [{**row, "rejected": "Zade kilo mu nepa rishe sovi so."} for row in rows[:90]]
    return [*rows, *turned, *again, *rows[20:25]]


def unpaired(rows: Rows) -> Rows:
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in rows
        for side in ("chosen", "rejected")
    ]


def leaking(rows: Rows) -> dict[str, pl.DataFrame]:
    """Three splits, of which the later ones have prompts and groups of the earlier ones."""
    for at, row in enumerate(rows):
        row["group"] = None if at % 3 else f"g{at // 2 % 700}"
    test = [{**row, "prompt": f" {row['prompt'].upper()}"} for row in rows[40:60]]
    long = " ".join(word for row in rows[:5] for word in row["prompt"].split())
    near = [{**row, "prompt": f"{long} {at}?"} for at, row in enumerate(clean(9, seed=77))]
    parts = {"train": [*rows, {**rows[0], "prompt": f"{long}?"}], "test": test, "late": near + test}
    return {name: pl.DataFrame(part, infer_schema_length=None) for name, part in parts.items()}


SHAPES: dict[str, Any] = {
    "texts": lambda: leaking(spoilt()),
    "messages": lambda: {
        "train": pl.DataFrame(as_messages(spoilt()), infer_schema_length=None)
    },
    "implicit": lambda: {"train": pl.DataFrame(as_implicit(spoilt()), infer_schema_length=None)},
    "unpaired": lambda: {"train": pl.DataFrame(unpaired(spoilt()), infer_schema_length=None)},
}  # fmt: skip


def report(whole: Whole, part: int, options: Options) -> dict[str, Any]:
    return run(replace(whole, part=part), options).to_json()


@pytest.mark.parametrize("shape", SHAPES)
def test_findings_are_the_same_however_many_rows_are_read_at_once(shape: str, tmp_path: Path):
    bench = [{"question": row["prompt"], "answer": row["chosen"]} for row in spoilt()[100:140]]
    bench.append({"question": "What is 2 + 2?", "answer": "4"})
    (tmp_path / "bench.jsonl").write_text("\n".join(map(json.dumps, bench)))
    options = Options(against=[str(tmp_path / "bench.jsonl")])
    whole = of_frames("x", SHAPES[shape]())
    at_once = report(whole, 10**6, options)
    found = {each["check"]: each for each in at_once["findings"]}
    needed = {"malformed", "duplicates", "refusals", "boilerplate", "truncation", "contamination"}
    if shape != "unpaired":
        needed |= {"identical", "near_identical", "ties", "orientation", "contradictions"}
    if shape == "texts":
        needed.add("leakage")
        assert found["leakage"]["figures"]["near"] > 0
    assert {name for name in needed if found[name]["n"] > 0} == needed
    for part in (37, 1000) if shape == "texts" else (97,):
        assert report(whole, part, options) == at_once


def written(folder: Path) -> version.Version:
    """A version of pairs with all faults that may stand in one, some across prompts, with splits by
    groups of prompts, votes against their pairs and completions that were cut off."""
    rows = pl.concat(leaking(spoilt()).values(), how="diagonal_relaxed")
    rows.select("prompt", "chosen", "rejected", "group").write_ndjson(folder / "pairs.jsonl")
    of = Sources.model_validate({"pairs": "pairs.jsonl"})
    made = sources.read(of, folder).tables
    pairs, _ = sources.as_pairs(Votes(made["votes"]))
    first, last = pairs.head(30), pairs.tail(30)
    across = first.with_columns(
        rejected_id=last["rejected_id"],
        prompt_id=pl.lit(None, pl.String),
        margin=pl.lit(0.0),
    )
    across = across.with_columns(tables.pair_ids(across["chosen_id"], across["rejected_id"]))
    cut = made["completions"].filter(pl.col("completion_id") < "3")
    cut = cut.select("completion_id", "prompt_id", generator=pl.lit("w"), draw=0)
    samples = cut.with_columns(finish_reason=pl.lit("length"))
    made |= {
        "votes": made["votes"].with_columns(preference=1 - pl.col("preference")),
        "pairs": tables.union("pairs", pairs, tables.check("pairs", across, where="t"), where="t"),
        "samples": tables.check("samples", samples, where="t"),
    }
    made = {name: frame for name, frame in made.items() if frame.height}
    how: dict[str, Any] = {"exports": {}, "recipe_text": "", "resolved": {}}
    version.write(folder, "parted", tables=made, splits={"test": 0.3}, **how)
    return version.find(folder, "parted")


def test_findings_in_a_version_are_the_same_however_many_ranges_of_prompts_it_is_read_in(
    tmp_path: Path,
):
    whole = written(tmp_path)
    at_once = run(of_version(whole)).to_json()
    found = {each["check"]: each for each in at_once["findings"]}
    needed = {"boilerplate", "leakage", "near_identical", "orientation", "refusals", "ties"}
    needed |= {"truncation", "leftovers"}
    assert {name for name in needed if found[name]["n"] > 0} == needed
    assert set(at_once["splits"]) == {"train", "test"}
    size = sum(whole.unpacked(name) for name in whole.manifest["tables"])
    parted = of_version(whole, size // 12)
    assert parted.kept is not None
    folder = Path(parted.kept.name)
    assert len(list(folder.glob("*.parquet"))) > 12
    assert run(parted).to_json() == at_once
    del parted
    assert not folder.exists(), "what is set down goes with whoever wanted it"


def test_rows_that_are_looked_up_do_not_hold_the_texts_beside_them():
    texts = [f"{at} {'word ' * 200}" for at in range(4000)]
    said = {side: [[{"role": "assistant", "content": text}] for text in texts] for side in SIDES}
    rows = pl.DataFrame({"prompt": said["chosen"], **said})
    found = replace(of_frames("t", {"train": rows}), part=1000).at([5, 1007, 3999])
    assert found["row"].to_list() == [5, 1007, 3999]
    content = found["chosen"].explode().struct.field("content")
    held = content.to_arrow(compat_level=pl.CompatLevel.newest()).buffers()
    assert sum(each.size for each in held if each is not None) < 20 * len(texts[0])
