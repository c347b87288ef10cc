"""Every layout holds a conversation whole, or refuses it by its own name: nothing is lost."""

import json

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.recipe import find_stage
from prefdata.stage import contract

CALL = '<tool_call>\n{"name": "find", "arguments": {}}\n</tool_call>'
PROMPTS = {
    "system": ["system", "user"],
    "turns": ["user", "assistant", "user"],
    "tools": ["system", "user", "assistant", "tool"],
    "several tools": ["user", "assistant", "tool", "tool"],
}
COMPLETIONS = {"one": ["assistant"], "several": ["assistant", "tool", "assistant"]}
LAYOUTS = [
    *("pairwise", "binary", "listwise", "joint", "openrlhf", "axolotl", "llamafactory", "nemo_rl"),
    *("verl", "attributes", "conditional_sft", "crlft", "curriculum", "lipo", "pro", "sppo"),
    *("reward_augmented", "triple", "win_matrix"),
]
HOLDS_ONE_MESSAGE = {"openrlhf", "axolotl", "llamafactory"}
OPTIONS = {"verl": {"of": "pairs"}}


def conversation(roles, mark):
    return [
        {
            "role": role,
            "content": f"{mark}-{at}-{role} {CALL if role == 'assistant' else ''}".strip(),
        }
        for at, role in enumerate(roles)
    ]


@pytest.fixture
def made(world):
    def make(asked, said):
        whole = world(2, 3)
        n = whole["prompts"].height
        prompts = [conversation(asked, f"asked{at}") for at in range(n)]
        answers = [conversation(said, f"said{at}") for at in range(whole["completions"].height)]
        column = pl.Series(prompts, dtype=tables.MESSAGES)
        whole["prompts"] = whole["prompts"].with_columns(prompt=column)
        column = pl.Series(answers, dtype=tables.MESSAGES)
        whole["completions"] = whole["completions"].with_columns(completion=column)
        whole["strengths"] = whole["strengths"].with_columns(strength=pl.col("strength") / 2 + 0.5)
        rating = whole["strengths"].select(
            "completion_id", "prompt_id", annotator=pl.lit("human:u"), criterion=pl.lit("good"),
            draw=0, rating="strength",
        )  # fmt: skip
        whole["ratings"] = tables.check("ratings", rating, where="test")
        of_pairs = whole["pairs"]["pair_id"]
        scores = {
            "subject_id": pl.concat([of_pairs, of_pairs]), "subject": "pair",
            "score": ["stage"] * len(of_pairs) + ["preference"] * len(of_pairs),
            "value": [1.0] * len(of_pairs) * 2,
        }  # fmt: skip
        whole["scores"] = tables.check("scores", pl.DataFrame(scores), where="test")
        return whole

    return make


@pytest.mark.parametrize("said", COMPLETIONS)
@pytest.mark.parametrize("asked", PROMPTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_conversation_is_whole_or_refused(made, layout, asked, said):
    frames = made(PROMPTS[asked], COMPLETIONS[said])
    function = find_stage(f"export.{layout}")
    given = [frames.get(name) for name in contract(function).sees]
    options = OPTIONS.get(layout, {})
    several = layout in HOLDS_ONE_MESSAGE and said == "several"
    if layout == "verl" or several or (layout == "llamafactory" and asked == "several tools"):
        with pytest.raises(TableError, match=rf"^export\.{layout}: "):
            function(*given, **options)
        return
    rows = function(*given, **options)
    assert rows.height > 0
    for row in rows.rows(named=True):
        text = json.dumps(row, ensure_ascii=False)
        at = (
            frames["prompts"]["prompt_id"]
            .to_list()
            .index(row.get("prompt_id") or row["prompt_id_chosen"])
        )
        for turn in frames["prompts"]["prompt"][at]:
            assert json.dumps(turn["content"], ensure_ascii=False) in text
        n = len(COMPLETIONS[said])
        for mark in {part.split('"')[0].split("-")[0] for part in text.split('"said')[1:]}:
            assert text.count(f'"said{mark}-') % n == 0
