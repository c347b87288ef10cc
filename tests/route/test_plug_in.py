"""A performance of the user's own in the place of the proxy, by a recipe, from plan to version."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import prefdata
from prefdata import cli
from prefdata.errors import RecipeError
from prefdata.route._proxy import plugged_in
from prefdata.stage import PlugIn
from tests.conftest import make_world
from tests.route.planted import named

RECIPE = """
name = "plugged"
sources.prompts = "prompts.jsonl"
sources.votes = "votes.jsonl"

[[stages]]
use = "route.performance_predictor"
budget = { rows = 4, audit = 0.0 }
evaluate = "mine:evaluate"
predictors = ["ridge"]
n_mixes = 12
"""
# One that has never heard of prefdata: it likes wrong labels, and writes down what it was given.
MINE = """
import json
from pathlib import Path

def evaluate(mix, held_out):
    with Path(__file__).with_name("heard.jsonl").open("a") as file:
        file.write(json.dumps([mix.to_dicts(), held_out.to_dicts()]) + "\\n")
    right = [row["chosen"][0]["content"].startswith("good") for row in mix.to_dicts()]
    return 1 - sum(right) / len(right)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pairs; a model is always wrong on odd prompts, and a person answered thirty."""
    prompts, votes = [], []
    for at in range(40):
        prompt, two = f"question {at}", [f"good {at}", f"bad {at}"]
        prompts.append({"prompt": prompt, "tags": ["odd" if at % 2 else "even"]})
        row = {"prompt": prompt, "completion_a": two[0], "completion_b": two[1]}
        votes.append({**row, "annotator": "llm:one", "preference": float(not at % 2)})
        votes += [{**row, "annotator": "human:u", "preference": 1.0}] if at < 30 else []
    for name, rows in (("prompts", prompts), ("votes", votes)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def heard(folder: Path) -> list[Any]:
    there = folder / "heard.jsonl"
    return [json.loads(line) for line in there.read_text().splitlines()] if there.exists() else []


def test_a_plan_asks_it_nothing_and_a_build_asks_it_about_each_mix(folder: Path):
    arguments = ["plan", str(folder / "recipe.toml"), "--data", str(folder / "data")]
    planned = CliRunner().invoke(cli.app, arguments)
    assert planned.exit_code == 0, planned.output
    assert heard(folder) == []

    built = prefdata.build(folder / "recipe.toml", data=folder / "data")
    calls = heard(folder)
    assert len(calls) == 12
    for mix, held_out in calls:
        assert set(mix[0]) == {"pair_id", "prompt", "chosen", "rejected"}
        assert all(row["chosen"][0]["content"].startswith("good") for row in held_out)
        inside, aside = ({row["pair_id"] for row in rows} for rows in (mix, held_out))
        assert not inside & aside
        assert len(inside | aside) == 30
    models, people = calls[0][0], calls[1][0]
    assert all(row["chosen"][0]["content"].startswith("good") for row in people)
    assert 0 < sum(row["chosen"][0]["content"].startswith("bad") for row in models) < len(models)

    told = named(prefdata.load("plugged", "measures", data=folder / "data"))
    assert told["mix_performance people"] == 0
    assert told["tag_gain tags:odd"] < 0, "it likes what is wrong, and people are right"
    assert '"mine:evaluate"' in Path(built.path, "recipe.toml").read_text()


def test_the_same_mixes_come_again_so_that_it_may_keep_what_it_found(folder: Path):
    for _ in range(2):
        prefdata.build(folder / "recipe.toml", data=folder / "data", fresh=True)
    calls = heard(folder)
    assert calls[:12] == calls[12:]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mine:evalute", "'mine:evalute' cannot be imported: .*no attribute 'evalute'"),
        ("mini:evaluate", "'mini:evaluate' cannot be imported: No module named 'mini'"),
        ("evaluate", "'evaluate' cannot be imported"),
        ("mine:json", "'mine:json' is no function but module"),
    ],
)
def test_what_is_no_function_is_refused_by_the_plan(folder: Path, name: str, why: str):
    with pytest.raises(RecipeError, match=why):
        prefdata.build(
            folder / "recipe.toml", data=folder / "data",
            changes=[f"stages.route.performance_predictor.evaluate={name}"],
        )  # fmt: skip


@pytest.mark.parametrize("said", [None, "good", float("nan"), True])
def test_what_is_no_performance_is_said_to_be_none(said: Any):
    world = make_world(4)
    evaluate = plugged_in(
        PlugIn("mine:evaluate", lambda mix, held_out: said), world["prompts"], world["completions"]
    )
    with pytest.raises(RecipeError, match="mine:evaluate, given a mix of 0 pairs and 0 held out"):
        evaluate(_no_pairs(), _no_pairs())


def test_what_fails_is_named_with_its_reason():
    world = make_world(4)

    def evaluate(mix: pl.DataFrame, held_out: pl.DataFrame) -> float:
        raise OSError("no GPU")

    with pytest.raises(RecipeError, match="failed: OSError: no GPU"):
        plugged_in(PlugIn("mine:evaluate", evaluate), world["prompts"], world["completions"])(
            _no_pairs(), _no_pairs()
        )


def _no_pairs() -> Any:
    from prefdata import tables

    return tables.empty("pairs")
