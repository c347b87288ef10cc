"""What an export has beside its Arrow folder: files that a trainer reads, and how."""

import json
from pathlib import Path

import polars as pl
import pytest
from datasets import load_dataset, load_from_disk

import prefdata

RECIPE = """
name = "saved"
seed = 3
splits.test = 0.25
sources.votes = "votes.jsonl"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_rest"

[[stages]]
use = "order.curriculum"

[[exports]]
use = "export.llamafactory"

[[exports]]
use = "export.curriculum"

[[exports]]
use = "export.verl"

[[exports]]
use = "export.pairwise"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of 40 prompts with three completions each, the later the better."""
    folder = tmp_path_factory.mktemp("saved")
    votes = [
        {"prompt": f"question {p}", "completion_a": f"answer {i}", "completion_b": f"answer {j}",
         "annotator": "human:u", "preference": 0.0}
        for p in range(40) for i in range(3) for j in range(i + 1, 3)
    ]  # fmt: skip
    (folder / "votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    (folder / "recipe.toml").write_text(RECIPE)
    return Path(prefdata.build(folder / "recipe.toml", data=folder / "data").path)


def test_a_file_a_split_has_the_rows_of_the_folder(built: Path):
    whole = load_from_disk(built / "llamafactory")
    for split in ("train", "test"):
        rows = pl.read_ndjson(built / "llamafactory" / f"{split}.jsonl")
        assert rows.height == whole[split].num_rows > 0
        assert rows["pair_id"].to_list() == whole[split]["pair_id"]
        again = load_dataset("json", data_files=str(built / f"llamafactory/{split}.jsonl"))["train"]
        assert again[0]["messages"] == whole[split][0]["messages"]
    info = json.loads((built / "llamafactory" / "dataset_info.json").read_text())
    assert all((built / "llamafactory" / each["file_name"]).is_file() for each in info.values())


def test_stages_are_splits_and_the_test_split_stays_whole(built: Path):
    whole = load_from_disk(built / "curriculum")
    assert set(whole) == {"stage_1", "stage_2", "test"}
    schedule = json.loads((built / "curriculum" / "schedule.json").read_text())
    assert [each["n"] for each in schedule] == [whole[each["split"]].num_rows for each in schedule]
    assert set(whole["stage_1"]["stage"]) == {1}
    prompts = [set(whole[name]["prompt_id"]) for name in ("stage_1", "stage_2", "test")]
    assert prompts[0] == prompts[1]
    assert not prompts[0] & prompts[2]


def test_parquet_for_those_who_read_it(built: Path):
    rows = pl.read_parquet(built / "verl" / "train.parquet")
    assert rows["reward_model"].struct.field("style").unique().to_list() == ["model"]


def test_every_file_is_in_the_manifest(built: Path):
    files = json.loads((built / "manifest.json").read_text())["files"]
    assert {"llamafactory/dataset_info.json", "curriculum/schedule.json"} <= files.keys()
    assert "pairwise/train.jsonl" not in files
