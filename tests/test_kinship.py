"""A recipe whose judge is of the family of what it judges is refused, unless it says so."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from prefdata.errors import RecipeError
from prefdata.judge.family import first_named, with_families
from prefdata.planning.plan import plan
from prefdata.recipe import Recipe, bundled
from prefdata.tables import Samples

HEAD = """
name = "kin"
sources.prompts = "prompts.jsonl"
"""
SAMPLE = '[[stages]]\nuse = "generate.sample"\nmodel = "{}"\n'
JUDGE = '[[stages]]\nuse = "annotate.pairwise"\njudge = "helpfulness"\nmodel = "judge"\n'
GPT = 'client = "openai"\nmodel = "gpt-4.1-mini"'
GPT_OLD = 'client = "openai"\nmodel = "openai/gpt-3.5-turbo"'
QWEN = 'client = "openai"\nmodel = "Qwen/Qwen3-8B"'
OWN = 'client = "openai"\nmodel = "my-own-model"'
SCRIPTED = 'client = "scripted"'


def resolve(
    folder: Path, models: dict[str, str], *stages: str, files: dict[str, str] | None = None
) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": "why?"}\n')
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    named = "\n\n".join(f"[models.{role}]\n{text}" for role, text in models.items())
    (folder / "recipe.toml").write_text("\n\n".join((HEAD, named, *stages)))
    plan(Recipe.load(folder / "recipe.toml"))


def refused(folder: Path, models: dict[str, str], *stages: str, **more: dict[str, str]) -> str:
    with pytest.raises(RecipeError) as error:
        resolve(folder, models, *stages, **more)
    return str(error.value)


@pytest.mark.parametrize(
    ("writer", "judge"),
    [
        (QWEN, GPT),
        (GPT, QWEN),
        (OWN + '\nfamily = "mine"', GPT),
        (GPT + '\nfamily = "other"', GPT_OLD),
        (SCRIPTED, SCRIPTED),
        (SCRIPTED, OWN),
        (OWN, SCRIPTED),
        (SCRIPTED + '\nfamily = "a"', SCRIPTED + '\nfamily = "b"'),
    ],
)
def test_another_family_may_judge(tmp_path: Path, writer: str, judge: str):
    resolve(tmp_path, {"writer": writer, "judge": judge}, SAMPLE.format("writer"), JUDGE)


@pytest.mark.parametrize(
    ("writer", "judge", "said"),
    [
        (GPT_OLD, GPT, ["'judge' (gpt-4.1-mini)", "'writer' (openai/gpt-3.5-turbo)", "'gpt'"]),
        (OWN + '\nfamily = " Qwen "', QWEN, ["'judge' (Qwen/Qwen3-8B)", "my-own-model", "'qwen'"]),
        (SCRIPTED + '\nfamily = "x"', OWN + '\nfamily = "x"', ["both are of the family 'x'"]),
        (OWN, OWN, ["'judge' (my-own-model) would judge its own completions", "'writer'"]),
        (OWN, GPT, ["'writer' (my-own-model)", "not known", 'models.writer.family = "']),
        (GPT, OWN, ["'judge' (my-own-model)", "not known", 'models.judge.family = "']),
    ],
)
def test_its_own_family_may_not_unless_the_stage_allows_it(
    tmp_path: Path, writer: str, judge: str, said: list[str]
):
    models = {"writer": writer, "judge": judge}
    message = refused(tmp_path, models, SAMPLE.format("writer"), JUDGE)
    for part in ("recipe kin, stage 2 (annotate.pairwise)", "allow_self = true", *said):
        assert part in message
    resolve(tmp_path, models, SAMPLE.format("writer"), JUDGE + "allow_self = true")


def test_one_role_for_both_judges_its_own(tmp_path: Path):
    message = refused(tmp_path, {"judge": GPT}, SAMPLE.format("judge"), JUDGE)
    assert "would judge its own completions" in message


def test_every_complaint_is_said_at_once(tmp_path: Path):
    models = {"one": GPT_OLD, "two": OWN, "judge": GPT}
    stages = (SAMPLE.format("one"), SAMPLE.format("two"), JUDGE)
    lines = refused(tmp_path, models, *stages).splitlines()
    assert len(lines) == 2
    assert "stage 1 (generate.sample)" in lines[0]
    assert "models.two.family" in lines[1]


def test_what_is_written_after_it_was_judged_does_not_matter(tmp_path: Path):
    models = {"one": QWEN, "late": GPT_OLD, "judge": GPT}
    resolve(tmp_path, models, SAMPLE.format("one"), JUDGE, SAMPLE.format("late"))


def test_each_member_of_a_jury_is_held_to_it(tmp_path: Path):
    member = '[[members]]\njudge = "helpfulness"\nmodel = "{}"\n'
    jury = 'description = "two"\n' + member.format("kin") + member.format("judge")
    stage = '[[stages]]\nuse = "annotate.jury"\njury = "two.toml"\n'
    models = {"writer": QWEN, "judge": GPT, "kin": QWEN + "\ntemperature = 0.5"}
    made = (SAMPLE.format("writer"), stage)
    message = refused(tmp_path, models, *made, files={"two.toml": jury})
    assert "'kin' (Qwen/Qwen3-8B)" in message
    assert "'judge'" not in message
    resolve(tmp_path, models, *made[:1], stage + "allow_self = true", files={"two.toml": jury})


def test_completions_that_are_imported_may_be_judged_by_anyone(tmp_path: Path):
    row = '{"prompt": "why?", "completion": "so", "generator": "my-own-model"}\n'
    (tmp_path / "completions.jsonl").write_text(row)
    recipe = f'name = "kin"\nsources.completions = "completions.jsonl"\n[models.judge]\n{OWN}\n'
    (tmp_path / "recipe.toml").write_text(recipe + JUDGE)
    plan(Recipe.load(tmp_path / "recipe.toml"))


def test_a_model_that_reads_logs_wrote_nothing(tmp_path: Path):
    mining = '[[stages]]\nuse = "annotate.feedback_mining"\nmodel = "judge"\n'
    resolve(tmp_path, {"writer": QWEN, "judge": GPT}, SAMPLE.format("writer"), mining, JUDGE)


def test_a_plug_in_that_writes_completions_is_a_writer(tmp_path: Path):
    (tmp_path / "own_writing.py").write_text(
        "from prefdata.stage import Asks, Model\n"
        "from prefdata.tables import Completions, Prompts\n\n\n"
        "def write(prompts: Prompts, *, model: Model) -> Asks[Completions]:\n"
        '    raise AssertionError("not run")\n'
        "    yield\n"
    )
    plug_in = '[[stages]]\nuse = "own_writing:write"\nmodel = "writer"\n'
    message = refused(tmp_path, {"writer": GPT_OLD, "judge": GPT}, plug_in, JUDGE)
    assert "made by recipe kin, stage 1 (own_writing:write)" in message


def test_allow_self_without_a_judge_is_a_mistake(tmp_path: Path):
    writer = SAMPLE.format("writer") + "allow_self = true"
    assert "stage 1 (generate.sample): allow_self" in refused(
        tmp_path, {"writer": QWEN, "judge": GPT}, writer, JUDGE
    )
    export = '[[exports]]\nuse = "export.listwise"\nallow_self = true'
    models = {"writer": QWEN, "judge": GPT}
    message = refused(tmp_path, models, SAMPLE.format("writer"), JUDGE, export)
    assert re.search(r"exports\[0\].*allow_self|reads the table", message)


def test_it_changes_no_version(tmp_path: Path):
    models = {"writer": QWEN, "judge": GPT}
    resolve(tmp_path, models, SAMPLE.format("writer"), JUDGE)
    without = plan(Recipe.load(tmp_path / "recipe.toml")).resolved
    resolve(tmp_path, models, SAMPLE.format("writer"), JUDGE + "allow_self = true")
    assert plan(Recipe.load(tmp_path / "recipe.toml")).resolved == without


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_recipes_keep_it_or_say_so(name: str):
    plan(Recipe.load(name))


MEASURE = """
[[stages]]
use = "measure.self_preference"
{options}
"""


def families(folder: Path, options: str = "") -> dict[str, str]:
    """What `measure.self_preference` is told, of a recipe whose writer is of the family "mine"."""
    vote = {"prompt": "?", "annotator": "human:1", "preference": 1.0}
    vote |= {f"completion_{side}": side for side in "ab"}
    vote |= {f"generator_{side}": side for side in "ab"}
    (folder / "votes.jsonl").write_text(json.dumps(vote))
    own, tuned = OWN + '\nfamily = "Mine"', 'client = "openai"\nmodel = "my-own-model/tuned"'
    head = HEAD.replace("sources.prompts", "sources.votes").replace("prompts.jsonl", "votes.jsonl")
    models = f'[models.writer]\n{own}\n\n[models.judge]\n{tuned}\nfamily = "gpt"\n'
    models += f"\n[models.other]\n{QWEN}\n"
    (folder / "recipe.toml").write_text(head + models + MEASURE.format(options=options))
    (stage,) = plan(Recipe.load(folder / "recipe.toml")).stages
    return dict(stage.options["families"] or {})


def test_a_stated_family_reaches_the_measures(tmp_path: Path):
    told = families(tmp_path)
    votes = pl.DataFrame(
        {
            "annotator": ["llm:my-own-model/helpful", "llm:my-own-model/tuned/helpful", "llm:x/j"],
            "completion_a": ["a", "b", "c"],
            "completion_b": ["d", "d", "d"],
        }
    )
    samples = pl.DataFrame(
        {
            "completion_id": ["a", "b", "c", "d"],
            "generator": ["my-own-model", "my-own-model/tuned", "Qwen/Qwen3-8B", "gpt-4o"],
        }
    )
    found = with_families(votes, Samples(samples), told)
    assert found["family"].to_list() == ["mine", "gpt", None]
    assert found["family_a"].to_list() == ["mine", "gpt", "qwen"]
    assert set(found["family_b"]) == {"gpt"}, "what nobody states the name tells"


def test_what_the_stage_states_goes_before_what_the_models_state(tmp_path: Path):
    told = families(tmp_path, 'families = { "*tuned*" = "llama" }')
    assert first_named("llm:my-own-model/tuned/helpful", told) == "llama"
    assert first_named("llm:my-own-model/helpful", told) == "mine"
