"""What a recipe can get wrong is said before any request, with the place and the nearest name."""

import json
from pathlib import Path
from typing import Any

import pytest

from prefdata.errors import PrefdataError, RecipeError
from prefdata.planning.plan import plan
from prefdata.recipe import Recipe, bundled, find_stage, stages
from prefdata.version.stored import TAKEN

JUDGES = Path(__file__).parents[1] / "judges"
GOOD = """
name = "good"
seed = 3
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"
model = "planted"

[models.judge]
client = "scripted"
model = "planted"
accuracy = 0.8

[[stages]]
use = "generate.sample"
model = "writer"
n = 2

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"

[[stages]]
use = "aggregate.bradley_terry"
prior = 0.5

[[stages]]
use = "pair.best_vs_worst"

[[exports]]
use = "export.pairwise"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"question {i}"}) for i in range(5)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_good_recipe_resolves(folder: Path):
    planned = plan(Recipe.load(write(folder, GOOD)))
    uses = [stage.use for stage in planned.stages]
    assert uses == [
        "generate.sample",
        "annotate.pairwise",
        "aggregate.bradley_terry",
        "pair.best_vs_worst",
    ]
    assert planned.stages[0].options["n"] == 2
    assert planned.stages[2].options["prior"] == 0.5
    assert planned.stages[1].options["judge"].name == "helpfulness"
    assert list(planned.judges) == ["helpfulness"]
    assert json.loads(json.dumps(planned.resolved)) == planned.resolved


MISTAKES = [
    ('use = "generate.sample"', 'use = "generate.sampel"', ["stage 1 (", "generate.sample"]),
    ('use = "annotate.pairwise"', 'use = "anotate.pairwise"', ["stage 2 (", "annotate.pairwise"]),
    ("prior = 0.5", "prio = 0.5", ["stage 3 (", "'prio'", "did you mean 'prior'"]),
    ("prior = 0.5", 'prior = "strong"', ["stage 3 (", "prior", "'strong'"]),
    ("n = 2", "n = 2.5", ["stage 1 (", "n", "2.5"]),
    ("n = 2", 'n = "2"', ["stage 1 (", "n", "'2'"]),
    ('model = "judge"\n', 'model = "jugde"\n', ["stage 2 (", "model", "did you mean 'judge'"]),
    ('judge = "helpfulness"', 'judge = "helpfulnes"', ["stage 2 (", "judge", "'helpfulness'"]),
    ('judge = "helpfulness"\n', "", ["stage 2 (", "'judge' is missing"]),
    ("seed = 3", "sede = 3", ["'sede'", "did you mean 'seed'"]),
    ("seed = 3", 'seed = "three"', ["seed", "'three'"]),
    ('client = "scripted"\nmodel = "planted"\nacc', 'client = "scriptd"\nacc', ["client"]),
    ("accuracy = 0.8", "acuracy = 0.8", ["models.judge", "acuracy", "did you mean 'accuracy'"]),
    ('name = "good"', 'name = "../bad"', ["name"]),
    ('"export.pairwise"', '"export.parwise"', ["export 1 (", "export.pairwise"]),
    ('"export.pairwise"', '"pair.best_vs_worst"', ["pair.best_vs_worst", "not an export"]),
    ('"pair.best_vs_worst"', '"export.pairwise"', ["export.pairwise"]),
    ('[[stages]]\nuse = "aggregate.bradley_terry"\nprior = 0.5\n', "",
     ["pair.best_vs_worst", "strengths", "aggregate.bradley_terry"]),
    ('use = "pair.best_vs_worst"', 'use = "nowhere:x"', ["nowhere:x", "cannot be imported"]),
    ('use = "pair.best_vs_worst"', 'use = "os.path:join"', ["os.path:join"]),
    ('name = "good"', 'name = "good', ["recipe.toml", "TOML", "line 2"]),
    ('sources.prompts = "prompts', 'sources.promts = "prompts', ["promts", "prompts"]),
    ('sources.prompts = "prompts.jsonl"\n', "", ["sources"]),
    ('"prompts.jsonl"', '"promts.jsonl"', ["promts.jsonl", "did you mean 'prompts.jsonl'"]),
    ('"prompts.jsonl"', '{path = "prompts.jsonl", columns = {prompt = "promt"}}',
     ["columns.prompt", "'promt'", "did you mean 'prompt'"]),
    ('"prompts.jsonl"', '{path = "prompts.jsonl", colums = {}}', ["colums", "columns"]),
]  # fmt: skip


@pytest.mark.parametrize(("found", "mistake", "said"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_a_mistake_is_found_in_plan(folder: Path, found: str, mistake: str, said: list[str]):
    assert GOOD.count(found) >= 1
    wrong = GOOD.replace(found, mistake, 1)
    with pytest.raises(PrefdataError) as refused:
        plan(Recipe.load(write(folder, wrong)))
    for part in said:
        assert part in str(refused.value)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'quickstart'"):
        Recipe.load("quickstrat")


def test_bundled_recipes_resolve():
    for name in bundled():
        assert plan(Recipe.load(name)).recipe.name == name


def test_an_export_with_the_name_of_a_table_is_refused_and_none_has_one_of_itself(folder: Path):
    """The writing of a version refuses it too, but by then all was asked and paid."""
    named = GOOD.replace('use = "export.pairwise"', 'use = "export.pairwise"\nname = "votes"')
    with pytest.raises(RecipeError, match="name of a table or file of the version"):
        plan(Recipe.load(write(folder, named)))
    assert not TAKEN & {use.removeprefix("export.") for use in stages() if "export." in use}


def changed(folder: Path, *changes: str) -> Recipe:
    return Recipe.load(write(folder, GOOD), changes=changes)


def test_set_reaches_tables_models_and_stages(folder: Path):
    assert changed(folder, "seed=7").seed == 7
    assert changed(folder, "models.judge.accuracy=0.6").models["judge"].accuracy == 0.6
    for key in ("stages.0.n=9", "stages.generate.sample.n=9"):
        assert plan(changed(folder, key)).stages[0].options["n"] == 9
    assert changed(folder, "splits.test=0.2").splits == {"test": 0.2}
    assert changed(folder, "name=other").name == "other"
    assert changed(folder, 'description="a = b"').description == "a = b"


def test_a_path_in_a_change_starts_where_the_user_is(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A bundled recipe's own folder is no place for anybody's files."""
    here = folder / "here"
    here.mkdir()
    (here / "mine.jsonl").write_text('{"prompt": "one"}\n')
    (here / "own.toml").write_bytes((JUDGES / "helpfulness.toml").read_bytes())
    monkeypatch.chdir(here)
    for change in (
        "sources.prompts=mine.jsonl",
        "sources.prompts.path=mine.jsonl",
        'sources.prompts=["mine.jsonl"]',
        'sources={prompts={path="mine.jsonl"}}',
    ):
        # A table, since of a text no key can be changed.
        recipe = Recipe.load(
            write(
                folder, GOOD.replace('prompts = "prompts.jsonl"', 'prompts.path = "prompts.jsonl"')
            ),
            changes=[change],
        )
        assert [spec.path for spec in recipe.sources.specs] == [str(here / "mine.jsonl")]
    assert list(plan(changed(folder, "stages.annotate.pairwise.judge=own.toml")).judges) == ["own"]
    weights = changed(folder, "models.writer.model=./weights").models["writer"].model
    assert weights == str(here / "weights")
    assert changed(folder, "models.writer.model=org/name").models["writer"].model == "org/name"
    assert changed(folder, "description=notes.toml").description == "notes.toml"


@pytest.mark.parametrize("change", ["seed", "stages.9.n=1", "seed.x=1", "stages.n=1", "sed=1"])
def test_set_says_what_is_wrong(folder: Path, change: str):
    with pytest.raises(RecipeError):
        changed(folder, change)


def test_a_plug_in_may_lie_beside_the_recipe(folder: Path):
    (folder / "my_own_stage.py").write_text(
        "from prefdata.tables import Pairs\n"
        "def mine(pairs: Pairs, *, least: int = 1) -> Pairs:\n"
        '    """Mine."""\n'
        "    return pairs\n"
    )
    text = GOOD.replace(
        "[[exports]]", '[[stages]]\nuse = "my_own_stage:mine"\nleast = 2\n[[exports]]'
    )
    planned = plan(Recipe.load(write(folder, text)))
    assert planned.stages[-1].options == {"least": 2}


def resolved(folder: Path, text: str) -> Any:
    return plan(Recipe.load(write(folder, text))).resolved


@pytest.mark.parametrize(
    ("found", "other"),
    [
        ('model = "planted"', 'model = "planted"\nconcurrency = 3\ntimeout = 5.0\nprice_in = 1.0'),
        ('model = "planted"', 'model = "planted"\nbase_url = "http://127.0.0.1:1/v1"\nretries = 0'),
        ('name = "good"', 'name = "good"\ndescription = "another"  # and a comment'),
    ],
)
def test_what_cannot_change_an_answer_is_not_in_the_resolved_recipe(
    folder: Path, found: str, other: str
):
    assert resolved(folder, GOOD) == resolved(folder, GOOD.replace(found, other, 1))


@pytest.mark.parametrize(
    ("found", "other"),
    [("seed = 3", "seed = 4"), ("n = 2", "n = 3"), ("accuracy = 0.8", "accuracy = 0.7")],
)
def test_what_can_change_an_answer_is(folder: Path, found: str, other: str):
    assert resolved(folder, GOOD) != resolved(folder, GOOD.replace(found, other, 1))


def test_roles_that_share_a_served_model_are_told_apart(folder: Path):
    models = plan(Recipe.load(write(folder, GOOD))).models
    assert models["writer"].label == "planted@writer"
    assert models["judge"].label == "planted@judge"


def test_every_stage_is_listed_and_found():
    for use, line in stages().items():
        assert line, f"{use} has a docstring"
        assert find_stage(use).__name__ == use.partition(".")[2]
