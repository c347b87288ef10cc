"""Mistakes in the options of stages are found before a source is read, with their place."""

import inspect
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import prefdata
from prefdata import sources
from prefdata import tables as t
from prefdata.dataset import estimate
from prefdata.errors import PrefdataError
from prefdata.loop import run_stage
from prefdata.planning.plan import PlannedStage, plan
from prefdata.recipe import Recipe, find_stage, stages
from prefdata.stage import contract

# Options that a stage cannot do without, by stage or for all.
JUDGES = {
    "checklist_votes": "checklist",
    "combined": "combined-10",
    "criteria_votes": "principles",
    "debate": "debate",
    "listwise": "best",
    "pointwise": "ultrafeedback",
    "tool": "tool-checked",
    "vibes": "principles",
}
NEEDED: dict[str, dict[str, Any]] = {
    "aggregate.ranked_pairing": {"baseline": "nobody"},
    "aggregate.social_choice": {"rule": "borda"},
    "aggregate.temperature_scaling": {"annotators": ["llm:a"], "against": ["human:b"]},
    "annotate.debate": {"models": ["m"]},
    "annotate.verifier": {"checks": {"max_words": 9}},
    "explain.vibes": {"one": "m", "other": "n"},
    "order.robust_weights": {"rate": 0.1},
    "order.soften": {"rate": 0.1},
    "order.weigh": {"by": "margin"},
    "pair.flip": {"share": 0.1},
    "select.label_error": {"share": 0.1},
    "select.lowest_score": {"score": "ln_ches", "keep": 0.5},
    "select.score_select": {"score": "distilled", "count": 1},
    "select.margin": {"min_margin": 0.1},
}
FOR_ALL: dict[str, Any] = {
    "annotator": "human:nobody",
    "budget": {"share": 0.5},
    "generator": "m",
    "judge": "helpfulness",
    "jury": "two.toml",
    "model": "m",
    "models": ["m", "n"],
    "negative": ["bad"],
    "policy": "m",
    "positive": ["good"],
    "reference": "n",
    "trusted": "human:nobody",
}
# Names that only rows can tell: no fault where there is no row. Stages want one, several or groups.
NAMES = {
    *("annotator", "annotators", "baseline", "columns", "criteria", "criterion", "generator"),
    *("gold", "groups", "judges", "margins", "trusted", "weights"),
}
SPELT: list[Any] = ["nobody", ["nobody"], {"nobody": 2.0}, {"one": ["nobody"]}, {"nobody": "one"}]
# What an option is for, where another one has to say so.
BESIDE = {("export.binary", "criterion"): {"by": "ratings"}}
SEAT = '[[members]]\njudge = "helpfulness"\nmodel = "{}"\n'
# A stage that makes every table, so that each other stage may follow.
MADE = ", ".join(f"tables.{name.title()}" for name in t.TABLES)
ALL = f"""
from prefdata import tables

def make(prompts: tables.Prompts) -> tuple[{MADE}]:
    return tuple(tables.empty(name) for name in {list(t.TABLES)})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rehearsed")
    (folder / "prompts.jsonl").write_text('{"prompt": "one"}\n')
    (folder / "two.toml").write_text('description = "two"\n' + SEAT.format("m") + SEAT.format("n"))
    (folder / "every_table.py").write_text(ALL)
    return folder


def options_of(use: str) -> dict[str, Any]:
    """The options without which a stage does not run."""
    judge = JUDGES.get(use.partition(".")[2], "helpfulness")
    needed = {
        name: judge if name == "judge" else FOR_ALL.get(name)
        for name, option in contract(find_stage(use)).options.items()
        if option.default is inspect.Parameter.empty
    }
    return {**needed, **NEEDED.get(use, {})}


def planned(folder: Path, use: str, options: dict[str, Any]) -> PlannedStage:
    entry = {"use": use, **options}
    is_export = use.startswith("export.")
    raw = {
        "name": "tried",
        "sources": {"prompts": "prompts.jsonl"},
        "models": {role: {"client": "scripted", "model": role} for role in "mn"},
        "stages": [{"use": "every_table:make"}, *([] if is_export else [entry])],
        "exports": [entry] if is_export else [],
    }
    found = plan(Recipe.parse(raw, folder=folder))
    return (*found.stages, *found.exports)[-1]


def on_nothing(stage: PlannedStage) -> None:
    def nobody(_: object) -> Any:
        raise AssertionError("a stage asks about rows only")

    given = {name: t.empty(name) for name in stage.contract.sees}
    for name, made in run_stage(stage, given, nobody).items():
        assert made.is_empty() or name == "measures", name  # which may say that nothing is known


@pytest.mark.parametrize("use", sorted(stages()))
def test_a_stage_makes_nothing_of_nothing_and_knows_no_names_then(folder: Path, use: str):
    needed = options_of(use)
    on_nothing(planned(folder, use, needed))
    options = contract(find_stage(use)).options
    for name in NAMES & {name for name, each in options.items() if each.annotation is not bool}:
        tried: list[PlannedStage] = []
        for spelt in SPELT:
            with suppress(PrefdataError):
                beside = BESIDE.get((use, name), {})
                tried.append(planned(folder, use, {**needed, **beside, name: spelt}))
        assert tried, name
        for stage in tried:
            on_nothing(stage)


VOTES = """
name = "people"
sources.votes = "votes.jsonl"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.adjacent"

[[stages]]
use = "select.margin"
min_margin = 0.1

[[stages]]
use = "measure.group_welfare"

[[exports]]
use = "export.listwise"
"""
MISTAKES = {
    "stages.0.prior=-1.0": "stage 1 (aggregate.bradley_terry): prior is -1.0; give 0",
    "stages.0.prior=nan": "stage 1 (aggregate.bradley_terry): prior: Input should be a finite",
    "stages.0.max_iterations=0": "stage 1 (aggregate.bradley_terry): max_iterations: Input should",
    "stages.0.criteria=[]": "stage 1 (aggregate.bradley_terry): criteria = [] counts no row",
    "stages.2.min_margin=-0.1": "stage 3 (select.margin): min_margin is -0.1",
    "stages.3.of=rankings": "stage 4 (measure.group_welfare): of = 'rankings'; votes or ratings",
    "stages.3.of=ratings": "stage 4 (measure.group_welfare): of = ratings, but no ratings are",
    "stages.3.tie_band=2.0": "stage 4 (measure.group_welfare): tie_band = 2.0",
    "stages.3.seed=-1": "stage 4 (measure.group_welfare): seed: Input should be greater than",
    "exports.0.min_completions=0": "export 1 (export.listwise): min_completions = 0; at least 1",
}


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    row = {"prompt": "p", "completion_a": "x", "completion_b": "y", "annotator": "human:u"}
    (tmp_path / "votes.jsonl").write_text(json.dumps({**row, "preference": 1.0}))
    (tmp_path / "recipe.toml").write_text(VOTES)
    return tmp_path


@pytest.mark.parametrize("change", MISTAKES)
def test_without_a_model_too_options_are_tried_before_a_source_is_read(
    votes: Path, change: str, monkeypatch: pytest.MonkeyPatch
):
    def unread(*_: object, **__: object) -> Any:
        raise AssertionError("a source was read")

    monkeypatch.setattr(sources, "read", unread)
    for run in (prefdata.build, estimate):
        with pytest.raises(PrefdataError) as refused:
            run(votes / "recipe.toml", data=votes / "data", changes=[change])
        assert str(refused.value).startswith(f"recipe people, {MISTAKES[change]}")


def test_a_name_that_only_rows_can_tell_is_told_with_its_place_too(votes: Path):
    with pytest.raises(PrefdataError) as refused:
        prefdata.build(votes / "recipe.toml", data=votes / "data", changes=["stages.1.estimator=x"])
    said = "recipe people, stage 2 (pair.adjacent): no strengths of 'x'; there is: bradley_terry"
    assert str(refused.value) == said


def test_what_a_plug_in_does_not_foresee_on_no_rows_is_no_mistake(votes: Path):
    (votes / "own_stage.py").write_text(
        "from prefdata.tables import Votes\n\n\ndef first(votes: Votes) -> Votes:\n"
        "    return Votes(votes.filter(votes['criterion'] == votes['criterion'][0]))\n"
    )
    recipe = VOTES.replace("[[stages]]", '[[stages]]\nuse = "own_stage:first"\n\n[[stages]]', 1)
    (votes / "recipe.toml").write_text(recipe)
    assert prefdata.build(votes / "recipe.toml", data=votes / "data").tables["pairs"] == 1
