"""What the documents say is so: every path, link, command, option, stage and example in them."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import prefdata
from prefdata.cli import app
from prefdata.planning.plan import plan
from prefdata.recipe import VERBS, Recipe, stages

ROOT = Path(__file__).parents[1]
OURS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
DOCUMENTS = [*(ROOT / name for name in OURS), *sorted((ROOT / "docs").glob("*.md"))]
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
EVERY = [*DOCUMENTS, RESULTS]
MADE_BY_RUNS = {"data/ledger", "data/ledger/asking", "data/versions", "data/annotations"}
COMMANDS: Any = typer.main.get_command(app)
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def spans(text: str) -> list[str]:
    """What stands in backticks outside of blocks, also where a line breaks it."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose)]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `prefdata ...`, in blocks of shell and in backticks."""
    lines = [
        line for block in blocks(text, "sh") for line in block.replace("\\\n", "").splitlines()
    ]
    for line in (*lines, *spans(text)):
        words = shlex.split(re.split(r" [>|&]", line)[0], comments=True)
        if words[:1] == ["prefdata"]:
            yield words[1:]


def targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", makefile, re.M))


@pytest.mark.parametrize("path", EVERY, ids=[*IDS, "RESULTS.md"])
def test_every_path_and_link_is_there(path: Path):
    text = path.read_text()
    named = re.findall(r"`((?:prefdata|flows|judges|schemas|tests|data|docs)/[\w./-]*)`", text)
    assert [each for each in {*named} - MADE_BY_RUNS if not (ROOT / each).exists()] == []
    links = [each for each in re.findall(r"\]\(([^)]+)\)", text) if "://" not in each]
    assert [each for each in links if not (path.parent / each.partition("#")[0]).exists()] == []


def test_the_readme_links_every_page():
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages == set(re.findall(r"\((docs/[\w-]+\.md)\)", README))


def test_the_map_has_every_file():
    text = (ROOT / "docs" / "files.md").read_text()
    named = set(re.findall(r"prefdata/(\w+)", text)) | {*VERBS}
    there = {path.stem for path in (ROOT / "prefdata").glob("[a-z]*") if path.suffix in ("", ".py")}
    assert there <= named


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_command_and_option_is_one(path: Path):
    for words in commands(path.read_text()):
        said = f"prefdata {shlex.join(words)}"
        command, at = COMMANDS, list(words)
        while hasattr(command, "commands") and at and not at[0].startswith("-"):
            assert at[0] in command.commands, said
            command = command.commands[at.pop(0)]
        options = {
            flag: each for each in command.params for flag in each.opts + each.secondary_opts
        }
        for here, word in enumerate(at):
            if word.startswith("-"):
                assert word in options, said
                assert options[word].is_flag or at[here + 1 :], f"{said}: {word} takes a value"


@pytest.mark.parametrize("path", EVERY, ids=[*IDS, "RESULTS.md"])
def test_every_target_of_make_is_one(path: Path):
    known = targets((ROOT / "Makefile").read_text())
    text = path.read_text()
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    said = [line.split()[1] for line in (*lines, *spans(text)) if re.match(r"make [a-z]", line)]
    assert set(said) <= known


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_stage_is_one(path: Path):
    dotted = re.compile(rf"(?:{'|'.join(VERBS)})\.[a-z_]+")
    text = path.read_text()
    named = {each for each in spans(text) if dotted.fullmatch(each)}
    named |= set(re.findall(r'^use = "([a-z_]+\.[a-z_]+)"', text, re.M))
    assert named <= stages().keys()


def test_every_command_is_in_a_document():
    said = {words[0] for path in DOCUMENTS for words in commands(path.read_text()) if words}
    assert set(COMMANDS.commands) <= said


def readme_recipe(name: str) -> str:
    [found] = [each for each in blocks(README, "toml") if f'name = "{name}"' in each]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which somebody does what the README says, on twenty rows like its own."""
    monkeypatch.chdir(tmp_path)
    [row] = blocks(README, "json")
    pair = json.loads(row)
    prompt = json.loads(re.findall(r"`(\{\"prompt\".*?\})`", README)[0])
    for file, given in (("pairs.jsonl", pair), ("prompts.jsonl", prompt)):
        rows = [{**given, "prompt": f"{given['prompt']} {at}"} for at in range(20)]
        (tmp_path / file).write_text("".join(json.dumps(each) + "\n" for each in rows))
    for name in ("my-pairs", "helpful-mini"):
        (tmp_path / f"{name}.toml").write_text(readme_recipe(name))
    return tmp_path


def test_the_python_of_the_readme_runs(folder: Path):
    [code] = [each for each in blocks(README, "python") if "prefdata.build" in each]
    there: dict = {}
    exec(compile(code, "README.md", "exec"), there)
    assert there["pairs"]["train"].num_rows + there["pairs"]["test"].num_rows == 20
    assert there["votes"].height == 20
    assert {each.name for each in (folder / "data" / "versions").iterdir()} == {"my-pairs", "made"}


def test_the_recipe_over_prompts_of_the_readme_builds(folder: Path):
    """By planted models, in the place of a server and of a key."""
    recipe = Recipe.load("helpful-mini.toml")
    assert recipe.models["writer"].prices is not None
    assert recipe.models["judge"].prices is not None, "the --budget of the README would be refused"
    changes = [f"models.{role}.client=scripted" for role in recipe.models]
    built = prefdata.build("helpful-mini.toml", changes=changes, budget=5.0)
    assert built.exports["pairwise"] > 0
    assert built.partial is None


def test_the_reasoning_model_of_the_readme_is_not_sent_the_judges_own_bound(folder: Path):
    [other] = [each for each in blocks(README, "toml") if "max_completion_tokens" in each]
    raw = tomllib.loads(readme_recipe("helpful-mini"))
    raw["models"] |= tomllib.loads(other)["models"]
    planned = plan(Recipe.parse(raw, folder=folder))
    assert planned.models["judge"].options["max_completion_tokens"] == 4000
    assert "max_tokens" not in planned.models["judge"].options


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_block_of_python_and_toml_is_some(path: Path):
    for code in blocks(path.read_text(), "python"):
        compile(code, str(path), "exec")
    for text in blocks(path.read_text(), "toml"):
        tomllib.loads(text)
