"""What a build refuses before anything is spent is what a plan and a deployment are told."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import prefdata
from prefdata.dataset import estimate
from prefdata.errors import BudgetError, ModelError, PrefdataError, PushError, RecipeError
from prefdata.models import packages
from prefdata.planning.plan import plan
from prefdata.planning.refusals import refusals, refuse
from prefdata.recipe import Recipe
from prefdata.screen.plan import plan_json

RECIPE = """
name = "refused"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"
[models.judge]
client = "{client}"
model = "m"

[[stages]]
use = "generate.sample"
model = "writer"
n = {n}

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"
"""


def written(folder: Path, *, client: str = "scripted", n: int = 2) -> Path:
    (folder / "prompts.jsonl").write_text('{"prompt": "Say something."}')
    (folder / "recipe.toml").write_text(RECIPE.format(client=client, n=n))
    return folder / "recipe.toml"


def refused(recipe: Path, **how: Any) -> list[PrefdataError]:
    return list(refusals(plan(Recipe.load(recipe)), **how))


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    find = importlib.util.find_spec

    def found(name: str) -> Any:
        return None if name in absent else find(name)

    monkeypatch.setattr(packages.importlib.util, "find_spec", found)


def test_a_recipe_that_can_be_built_is_refused_nothing(tmp_path: Path):
    recipe = written(tmp_path)
    assert not refused(recipe, budget=1.0)
    assert prefdata.build(recipe, data=tmp_path / "data", budget=1.0).tables["votes"] == 2


def test_options_are_tried(tmp_path: Path):
    recipe = written(tmp_path, n=0)
    (error,) = refused(recipe)
    with pytest.raises(RecipeError, match=r"generate\.sample") as raised:
        prefdata.build(recipe, data=tmp_path / "data")
    assert str(error) == str(raised.value)


def test_a_budget_needs_a_price_of_each_model_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    recipe = written(tmp_path, client="openai")
    assert not refused(recipe)
    (error,) = refused(recipe, budget=1.0)
    for way in (prefdata.build, estimate):
        with pytest.raises(BudgetError, match="'judge'") as raised:
            way(recipe, data=tmp_path / "data", budget=1.0)
        assert str(error) == str(raised.value)
    with recipe.open("r+") as file:
        said = file.read()
        file.seek(0)
        file.write(f"budget = 2\n{said}")
    assert [type(each) for each in refused(recipe)] == [BudgetError]


def test_a_budget_needs_a_bound_of_each_reply_before_any_model_is_asked(tmp_path: Path):
    recipe, data = written(tmp_path), tmp_path / "data"
    said = recipe.read_text()
    dear = said.replace('[models.writer]\nclient = "scripted"', "[models.writer]\n{}", 1)
    prices = 'client = "scripted"\nprice_in = 1.0\nprice_out = 1.0\n'
    recipe.write_text(dear.format(prices))
    for way in (prefdata.build, estimate):
        with pytest.raises(BudgetError, match=r"'writer' may be of any length.*max_tokens"):
            way(recipe, data=data, budget=1.0)
    assert not [*data.rglob("*.jsonl")], "nothing was asked"
    assert prefdata.build(recipe, data=data, max_requests=99).tables["votes"] == 2
    recipe.write_text(dear.format(f"{prices}max_tokens = 30"))
    assert prefdata.build(recipe, data=data, budget=1.0).tables["votes"] == 2


@pytest.mark.parametrize(
    ("client", "package"), [("vllm", "vllm"), ("local", "torch"), ("embedded", "xllamacpp")]
)
def test_what_a_client_needs_is_looked_for_before_anything_is_asked(
    client: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before the first stage, whose answers may be dear, and not when a later one asks it."""
    without(monkeypatch, package)
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"none")
    recipe = written(tmp_path, client=client)
    recipe.write_text(recipe.read_text().replace('model = "m"', 'model = "./weights.gguf"'))
    (error,) = refused(recipe)
    assert f"prefdata[{client}]" in str(error)
    with pytest.raises(ModelError, match=package) as raised:
        prefdata.build(recipe, data=tmp_path / "data")
    assert str(error) == str(raised.value)
    assert not [*(tmp_path / "data" / "ledger").rglob("*.jsonl")]
    assert not refused(recipe, away=(client,))
    assert plan_json(estimate(recipe, data=tmp_path / "data"))["lacking"] == [str(error)]


def test_a_push_needs_a_repository_and_what_looks_through_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    planned = plan(Recipe.load(written(tmp_path)))
    refuse(planned, push="org/name")
    with pytest.raises(PushError, match="names no repository"):
        refuse(planned, push="name")
    without(monkeypatch, "detect_secrets")
    with pytest.raises(PushError, match=r"detect_secrets.*prefdata\[hub\]"):
        refuse(planned, push="org/name")
