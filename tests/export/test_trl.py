"""TRL trains on what we write, with no column mapped by hand: preferences are learnt from our
files, and not from the same files with labels at random.

TRL has an environment of its own, which `make test-trainers` makes; PREFDATA_TRL names another. The
model is the first two layers of the small one, which makes a step of it cheap.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import prefdata
from tests.export.trainers import QUIET, interpreter
from tests.models.convert import converted

pytestmark = [pytest.mark.slow, pytest.mark.long]
SCRIPT = Path(__file__).with_name("with_trl.py")
FRUIT = """apple pear plum fig lime kiwi date peach grape melon mango olive lemon quince cherry
berry papaya guava orange banana tomato carrot radish turnip""".split()
RECIPE = """
name = "fruit"
seed = 3
splits.test = 0.3
sources.votes = "votes.jsonl"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"

[[exports]]
use = "export.pairwise"

[[exports]]
name = "implicit"
use = "export.pairwise"
explicit_prompt = false

[[exports]]
use = "export.binary"
"""
HALVED = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
AutoModelForCausalLM.from_pretrained(sys.argv[1], num_hidden_layers=2).save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, python = tmp_path_factory.mktemp("model"), interpreter("trl")
    known = os.environ.get("PREFDATA_TEST_MODEL")
    whole = Path(known) if known else converted(folder / "smollm2", python)
    subprocess.run([python, "-c", HALVED, str(whole), str(folder / "two")], check=True)
    return folder / "two"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fruit")
    votes = [
        {"prompt": f"Is {each} nice?", "completion_a": f"Yes, surely: {each} is nice.",
         "completion_b": f"No clue about {each}, ask me no more.", "annotator": "human:u",
         "preference": 1.0}
        for each in FRUIT
    ]  # fmt: skip
    (folder / "votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    (folder / "recipe.toml").write_text(RECIPE)
    return Path(prefdata.build(folder / "recipe.toml", data=folder / "data").path)


def run(*arguments: object) -> dict:
    command = [interpreter("trl"), str(SCRIPT), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET})
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("method", ["dpo", "kto", "reward"])
def test_held_out_margins_rise_from_our_labels_and_not_from_chance(
    model: Path, version: Path, method: str
):
    learnt, chance = (run(model, version, method, *more) for more in ((), ("shuffled",)))
    assert learnt["before"] == pytest.approx(chance["before"], abs=1e-3)
    rise, drift = (each["after"] - each["before"] for each in (learnt, chance))
    assert rise > 0
    assert rise > 3 * abs(drift)
    assert ("margin" in learnt["batch"]) == (method == "reward")


def test_trl_reads_both_prompts_alike_and_takes_our_reference(model: Path, version: Path):
    found = run(model, version, "read")
    assert found["same"]
    assert found["rows"] > 10
    assert found["logps"] == [[-1.5, -1.5], [-2.5, -2.5]]


def test_the_lines_of_the_readme_train(model: Path, version: Path, tmp_path: Path):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    [code] = [each for each in re.findall(r"```python\n(.*?)```", text, re.S) if "trl" in each]
    for theirs, ours in (
        ("data/versions/my-pairs/ID/pairwise", f"{version}/pairwise"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", str(model)),
        ('output_dir="dpo"', 'output_dir="dpo", use_cpu=True, bf16=False, report_to=[]'),
    ):
        assert theirs in code
        code = code.replace(theirs, ours)
    said = "print(len(trainer.state.log_history))"
    ran = subprocess.run(
        [interpreter("trl"), "-c", f"{code}\n{said}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **QUIET},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout.strip().splitlines()[-1]) > 0
