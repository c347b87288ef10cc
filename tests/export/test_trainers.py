"""What trainers themselves make of our files: prompt, chosen and rejected as their own data code
hands them to a model, text for text, with no column mapped by hand.

Each trainer has an environment of its own with what its data code imports, without engines: `make
test-trainers` makes them all (2 GB each) and runs this. PREFDATA_OPENRLHF, PREFDATA_LLAMAFACTORY,
PREFDATA_AXOLOTL, PREFDATA_NEMO_RL, PREFDATA_VERL and PREFDATA_TRL name other interpreters. With TRL
training is tried too: see `test_trl.py`.
"""

import json
import os
import subprocess
from pathlib import Path

import polars as pl
import pytest

import prefdata
from tests.export.trainers import QUIET, interpreter

pytestmark = [pytest.mark.slow, pytest.mark.long]
SCRIPT = Path(__file__).with_name("with_trainers.py")
RECIPE = """
name = "{name}"
seed = 5
splits.test = 0.3
sources.votes = "{name}.jsonl"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"
"""
EXPORTS = {
    "chat": [
        'use = "export.openrlhf"', 'use = "export.axolotl"', 'use = "export.llamafactory"',
        'name = "llamafactory-kto"\nuse = "export.llamafactory"\nof = "completions"',
        'name = "nemo-rl"\nuse = "export.nemo_rl"',
        'name = "nemo-rl-lists"\nuse = "export.nemo_rl"\nof = "lists"', 'use = "export.verl"',
        'use = "export.pairwise"',
        'name = "fields"\nuse = "export.pairwise"\ntool_calls = "fields"',
    ],
    "plain": ['use = "export.verl"\nof = "pairs"'],
}  # fmt: skip
CALL = 'I look.\n<tool_call>\n{"name": "find", "arguments": {"of": "Zürich"}}\n</tool_call>'
FIND = {"type": "function", "function": {"name": "find", "description": "Größe {x}"}}
# Prompts, and what is said to them: texts that a template, a format or a shell could break.
ASKED = [
    "What is {brace} and {{more}}?", "Two\nlines\n\nand a gap", "Größe, 漢字, 🙂 and \u200b?",
    'He said "no" \\n \\\\', "<b>html</b> & $shell %s %(x)s", "   room around   ",
    *(f"Is {number} even?" for number in range(14)),
]  # fmt: skip
SAID = [
    ("Yes.\n\n- one\n- two", "No {idea}"), ("漢字 🙂", "Grüße"), (CALL, "I guess."),
    ("<|not a token|>", "{% raw %}"), ("A long answer. " * 20, "short"),
    ("ends in room  \n", "\n\n  begins in room"),
]  # fmt: skip
EARLIER = [
    [], [("system", "Be kind.\nAlways.")],
    [("user", "Hello"), ("assistant", "Hi there")],
    [("system", "Use tools."), ("user", "Weather?"), ("assistant", CALL)],
]  # fmt: skip


def votes(*, plain: bool) -> list[dict]:
    rows = []
    for at, asked in enumerate(ASKED):
        earlier = [] if plain else EARLIER[at % len(EARLIER)]
        role = "tool" if earlier[-1:] == [("assistant", CALL)] else "user"
        turns = [{"role": who, "content": text} for who, text in [*earlier, (role, asked)]]
        good, bad = SAID[at % len(SAID)]
        tools = [] if plain or at % 3 else [FIND]
        rows.append({"prompt": turns, "tools": tools, "completion_a": good, "completion_b": bad,
                     "annotator": "human:u", "preference": 1.0})  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trainers")
    made = {}
    for name, exports in EXPORTS.items():
        lines = [json.dumps(vote) + "\n" for vote in votes(plain=name == "plain")]
        (folder / f"{name}.jsonl").write_text("".join(lines))
        recipe = RECIPE.format(name=name) + "".join(f"\n[[exports]]\n{each}\n" for each in exports)
        (folder / f"{name}.toml").write_text(recipe)
        made[name] = Path(prefdata.build(folder / f"{name}.toml", data=folder / "data").path)
    return made


def understood(trainer: str, versions: dict[str, Path], work: Path) -> dict:
    command = [interpreter(trainer), SCRIPT, trainer, versions["chat"], versions["plain"], work]
    ran = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True,
        env={**os.environ, **QUIET, "HF_HOME": str(work / "hf")},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout.strip().splitlines()[-1])


def chatml(turns, *, asks: bool = False) -> str:
    text = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
    return text + "<|im_start|>assistant\n" if asks else text


def trimmed(turns) -> list[dict]:
    return [{**turn, "content": turn["content"].strip()} for turn in turns]


def expected(version: Path, split: str, told=list) -> list[dict]:
    """Prompt, chosen and rejected as ChatML, by the version's own tables."""
    table = {
        name: pl.read_parquet(version / f"{name}.parquet")
        for name in ("prompts", "completions", "pairs")
    }
    asked = dict(table["prompts"].select("prompt_id", "prompt").rows())
    said = dict(table["completions"].select("completion_id", "completion").rows())
    pairs = table["pairs"].filter(split=split).sort("pair_id")
    rows = []
    for pair in pairs.rows(named=True):
        prompt = told(asked[pair["prompt_id"]])
        sides = {
            side: chatml(prompt + told(said[pair[f"{side}_id"]])) for side in ("chosen", "rejected")
        }
        rows.append({"prompt": chatml(prompt, asks=True), **sides, "margin": pair["margin"]})
    return rows


def same(found: list[dict], wanted: list[dict], *columns: str) -> None:
    """The line break after the last message is learnt by some and not by others."""
    assert len(found) == len(wanted) > 1
    for one, other in zip(found, wanted, strict=True):
        for column in columns:
            left, right = one[column], other[column]
            if column != "prompt":
                left, right = left.removesuffix("\n"), right.removesuffix("\n")
            assert left == right


def test_openrlhf_reads_our_flags_and_rows(versions, tmp_path):
    found = understood("openrlhf", versions, tmp_path)
    train, test = (expected(versions["chat"], split) for split in ("train", "test"))
    same(found["dpo"], train, "prompt", "chosen", "rejected")
    same(found["test"], test, "prompt", "chosen", "rejected")
    same(found["reward"], train, "chosen", "rejected")
    assert [row["margin"] for row in found["reward"]] == pytest.approx(
        [row["margin"] for row in train]
    )


def test_llamafactory_reads_our_info_and_rows(versions, tmp_path):
    found = understood("llamafactory", versions, tmp_path)
    train, test = (expected(versions["chat"], split) for split in ("train", "test"))
    same(found["dpo"], train, "prompt", "chosen", "rejected")
    same(found["test"], test, "prompt", "chosen", "rejected")
    single = [(row["prompt"], row[side], side == "chosen") for row in train
              for side in ("chosen", "rejected")]  # fmt: skip
    told = [(row["prompt"], row["completion"], row["label"]) for row in found["kto"]]
    assert sorted(told) == sorted(single)


def test_axolotl_reads_our_config_and_rows(versions, tmp_path):
    found = understood("axolotl", versions, tmp_path)
    for name, split in (("dpo", "train"), ("test", "test")):
        wanted = expected(versions["chat"], split, trimmed)
        order = sorted(range(len(wanted)), key=lambda at: wanted[at]["prompt"])
        told = sorted(found[name], key=lambda row: row["prompt"])  # it shuffles
        same(told, [wanted[at] for at in order], "prompt", "chosen", "rejected")


def test_nemo_rl_reads_our_ranks(versions, tmp_path):
    found = understood("nemo_rl", versions, tmp_path)
    for name, split in (("dpo", "train"), ("test", "test")):
        same(found[name], expected(versions["chat"], split), "chosen", "rejected")
    assert all(row["roles"][-1] == "assistant" for row in found["dpo"])
    ranks = [[each["rank"] for each in row["completions"]] for row in found["lists"]]
    assert ranks == [[0, 1]] * len(found["dpo"])


def test_verl_reads_pairs_of_texts_and_prompts(versions, tmp_path):
    found = understood("verl", versions, tmp_path)
    pairs = pl.read_parquet(versions["plain"] / "verl" / "train.parquet")
    whole = [
        {side: prompt + text + "<|im_end|>"
         for side, text in (("chosen", chosen), ("rejected", rejected))}
        for prompt, chosen, rejected in pairs.select("prompt", "chosen", "rejected").rows()
    ]  # fmt: skip
    same(found["reward"], whole, "chosen", "rejected")
    words = {
        (vote["prompt"][0]["content"], vote["completion_a"], vote["completion_b"])
        for vote in votes(plain=True)
    }
    assert set(pairs.select("prompt", "chosen", "rejected").rows()) <= words
    known = pl.read_parquet(versions["chat"] / "prompts.parquet")["prompt"].to_list()
    prompts = found["prompts"]
    assert len(prompts) > 10
    assert all(row["raw_prompt"] in known for row in prompts)
    assert all(row["reward_model"]["style"] == "model" for row in prompts)
    assert len({row["index"] for row in prompts}) == len(prompts)


def test_trl_reads_calls_and_tools_as_text_and_as_fields(versions, tmp_path):
    found = understood("trl", versions, tmp_path)
    train = expected(versions["chat"], "train")
    same(found["text"], train, "prompt", "chosen", "rejected")
    assert len(found["fields"]) == len(train)
    offered = "<tools>\n" + json.dumps([FIND], ensure_ascii=False) + "\n</tools>"
    called = '<tool_call>\n{"name": "find", "arguments": {"of": "Zürich"}}\n</tool_call>'
    n_tools = n_calls = 0
    for fields, text in zip(found["fields"], train, strict=True):
        for side in ("prompt", "chosen", "rejected"):
            wanted = text[side].replace("\n" + called, '<call>find {"of": "Zürich"}</call>')
            n_calls += wanted != text[side]
            if offered in wanted:
                n_tools += 1
                alone = f"<|im_start|>system\n{offered}<|im_end|>\n"
                wanted = wanted.replace(alone, "").replace("\n" + offered, "")
                head, rest = fields[side].split("</tools>\n", 1)
                assert json.loads(head.removeprefix("<tools>")) == [FIND]
                assert rest.removesuffix("\n") == wanted.removesuffix("\n")
            else:
                assert fields[side].removesuffix("\n") == wanted.removesuffix("\n")
    assert n_tools > 5
    assert n_calls > 5
