"""The two ends, of who reads no context and who does, are tested where contexts are made:
tests/generate/test_contextual.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.measure.context_sensitivity import context_sensitivity
from prefdata.sources import Sources, as_pairs, read
from prefdata.tables import Completions, Prompts, Votes
from prefdata.version import assign_splits

GOLD = "rule:meant"
World = tuple[Votes, Completions, Prompts]


def world(n: int, reads: float, *, complete: bool = True, seed: int = 0) -> World:
    """n groups, two texts, a context for either; an annotator who reads one with a probability,
    and else likes the text that begins with x."""
    draw = np.random.default_rng(seed)
    prompts: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    for at in range(n):
        both = [[{"role": "assistant", "content": f"{c} {at}"}] for c in "xy"]
        for meant in (0, 1) if complete else (0,):
            asked = [{"role": "user", "content": f"{'xy'[meant]} is meant, {at}"}]
            (prompt_id,) = tables.prompt_ids([asked])
            prompts.append(
                {"prompt_id": prompt_id, "prompt": asked, "source": "t", "group": f"g{at}",
                 "tags": ["context:criterion"]}
            )  # fmt: skip
            ids = tables.completion_ids([prompt_id] * 2, both).to_list()
            rows += [
                {"completion_id": i, "prompt_id": prompt_id, "completion": turns}
                for i, turns in zip(ids, both, strict=True)
            ]
            liked = meant if draw.random() < reads else 0
            for who, side in ((GOLD, meant), ("human:u", liked)):
                a, b = sorted(ids)
                votes.append(
                    {"completion_a": a, "completion_b": b, "prompt_id": prompt_id, "annotator": who,
                     "criterion": "c", "draw": 0, "preference": float(ids[side] == a)}
                )  # fmt: skip
    made = (tables.typed(k, pl.DataFrame(v)) for k, v in
            ((Votes, votes), (Completions, rows), (Prompts, prompts)))  # fmt: skip
    return tuple(made)  # pyright: ignore[reportReturnType]


def values(given: World, **options: Any) -> dict[str, tuple[float, float, float, int]]:
    found = context_sensitivity(*given, annotator=GOLD, **options)
    assert set(found["subject"]) == {"human:u"}
    return {row[0]: row[1:] for row in found.select("measure", "value", "low", "high", "n").rows()}


@pytest.mark.parametrize("reads", [0.0, 0.3, 0.7, 1.0])
def test_the_planted_share_that_reads_the_context_is_in_the_interval(reads: float):
    """Of two contexts that of x is met in any case, that of y where it is read."""
    found = values(world(300, reads))
    value, low, high, n = found["context_sensitivity"]
    assert n == 300
    assert low <= reads <= high
    assert found["context_accuracy"][0] == pytest.approx((1 + value) / 2)
    assert found["context_accuracy"][3] == 600


def test_without_siblings_a_taste_looks_right_and_its_sensitivity_is_unknown():
    found = values(world(20, 0.0, complete=False))
    assert found["context_accuracy"][0] == 1.0
    assert found["context_sensitivity"][0] is None
    assert found["context_sensitivity"][3] == 0


def test_order_of_rows_and_names_of_groups_change_nothing(shuffled: Any):
    given = world(40, 0.5)
    votes, completions, prompts = (shuffled(frame, 5) for frame in given)
    renamed = prompts.with_columns(group=pl.lit("z") + pl.col("group"))
    assert values((votes, completions, renamed)) == values(given)


def test_prompts_without_a_context_say_nothing():
    votes, completions, prompts = world(5, 1.0)
    bare = Prompts(prompts.with_columns(tags=pl.lit(None, pl.List(pl.String))))
    assert values((votes, completions, bare))["context_accuracy"][3] == 0


def test_who_did_not_vote_is_named_and_ends_no_build():
    given = world(2, 1.0)
    for annotator, judges, missing in (
        ("rule:ment", None, "rule:ment"), (GOLD, ["human:v"], "human:v"),
    ):  # fmt: skip
        found = context_sensitivity(*given, annotator=annotator, judges=judges)
        tables.check("measures", found, where="test")
        assert found["value"].null_count() == found.height > 0
        assert found["note"].str.contains(f"no votes of {missing!r}; did you mean").all()


def rpr(folder: Path, n: int) -> World:
    """Rows with the columns of microsoft/rpr, each read four times: what x asks for prefers a, what
    y asks for prefers b."""
    rows = [
        {"id": at, "prompt": f"question {at}", "response_a": f"{'x' * (at % 3)} a {at}",
         "response_b": f"b {at}", "criteria_x": f"is like {at} a", "criteria_y": f"is like {at} b",
         "scenario_x": f"a friend of {at} a", "scenario_y": f"a friend of {at} b"}
        for at in range(n)
    ]  # fmt: skip
    path = folder / "rpr.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [
        {
            "path": path.name,
            "annotator": GOLD,
            "columns": {
                "prompt": "asked", "completion_a": "response_a", "completion_b": "response_b",
                "preference": "meant", "group": "id", "tags": "kind",
            },
            "derive": {
                "asked": f"prompt || '. It is for who asks: ' || {column}_{side}",
                "meant": "1.0" if side == "x" else "0.0",
                "kind": f"'context:{kind}'",
            },
        }
        for column, kind in (("criteria", "criterion"), ("scenario", "scenario"))
        for side in "xy"
    ]  # fmt: skip
    found = read(Sources.model_validate({"votes": sources}), folder, strict=True).tables
    return (Votes(found["votes"]), Completions(found["completions"]), Prompts(found["prompts"]))


def test_the_rows_of_rpr_are_told_by_half_without_their_context_and_wholly_with_it(tmp_path: Path):
    """Read for x only, whoever likes a would be right in all of them."""
    votes, completions, prompts = rpr(tmp_path, 30)
    assert votes.height == 4 * 30
    text = dict(completions.select("completion_id", tables.text_of("completion")).rows())
    asked = dict(prompts.select("prompt_id", tables.text_of("prompt")).rows())

    def judge(name: str, worth: Any) -> pl.DataFrame:
        likes = [
            (1 + np.sign(worth(asked[p], text[a]) - worth(asked[p], text[b]))) / 2
            for p, a, b in votes.select("prompt_id", "completion_a", "completion_b").rows()
        ]
        return votes.with_columns(annotator=pl.lit(name), preference=pl.Series(likes))

    judges = {
        "llm:long": lambda asked, said: len(said),
        "llm:alphabet": lambda asked, said: said < "b",
        "llm:hash": lambda asked, said: int(tables.digest(said), 16) % 97,
        "llm:oracle": lambda asked, said: said.split()[-2:] == asked.split()[-1:-3:-1],
    }
    everyone = tables.union("votes", votes, *(judge(*each) for each in judges.items()), where="t")
    found = context_sensitivity(Votes(everyone), completions, prompts, annotator=GOLD)
    told = {
        (m, s): (v, n) for m, s, v, n in found.select("measure", "subject", "value", "n").rows()
    }
    for name in judges:
        right = 1.0 if name == "llm:oracle" else 0.5
        assert told["context_accuracy", name] == (right, 120)
        assert told["context_sensitivity", name] == (2 * right - 1, 30)
    frames = {"prompts": prompts, "completions": completions, "pairs": as_pairs(votes)[0]}
    split = assign_splits(frames, {"test": 0.3}, 1)["pairs"].join(prompts, on="prompt_id")
    assert split["split"].n_unique() == 2
    assert split.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
