"""The two ends, of who reads no context and who does, are tested where contexts are made:
tests/generate/test_contextual.py."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.measure.context_sensitivity import context_sensitivity
from prefdata.tables import Completions, Prompts, Votes

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
