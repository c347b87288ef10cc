"""Near-duplicates are those that comparing all with all finds, in one part or in many."""

from itertools import combinations
from random import Random
from typing import Any

import polars as pl
import pytest
from scipy.cluster.hierarchy import DisjointSet

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.select._near import plain, runs
from prefdata.select.near_duplicate import in_parts, near_duplicate
from prefdata.stage import drive_parts
from prefdata.tables import completion_ids, pair_ids, prompt_ids
from tests.check.test_check import sentence

Row = tuple[str, str, str]


def tables_of(rows: list[Row]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Pairs, completions and prompts of rows of prompt, chosen and rejected."""
    asked = [[{"role": "user", "content": prompt}] for prompt, _, _ in rows]
    said = [[[{"role": "assistant", "content": row[k]}] for row in rows] for k in (1, 2)]
    own = prompt_ids(asked)
    ids = [completion_ids(own.to_list(), each) for each in said]
    messages = tables.MESSAGES
    prompts = pl.DataFrame({"prompt_id": own, "prompt": pl.Series(asked, dtype=messages)})
    completions = pl.concat(
        pl.DataFrame(
            {
                "completion_id": ids[k],
                "prompt_id": own,
                "completion": pl.Series(said[k], dtype=messages),
            }
        )
        for k in (0, 1)
    )
    pairs = pl.DataFrame(
        {
            "pair_id": pair_ids(ids[0], ids[1], None),
            "prompt_id": own,
            "chosen_id": ids[0],
            "rejected_id": ids[1],
        }
    ).with_columns(
        soft_label=pl.lit(1.0), n_votes=pl.lit(1, pl.Int64), margin=pl.lit(None, pl.Float64)
    )
    with_source = prompts.unique("prompt_id").with_columns(source=pl.lit("made up"))
    return (
        tables.check("pairs", pairs.unique("pair_id"), where="t"),
        tables.check("completions", completions.unique("completion_id"), where="t"),
        tables.check("prompts", with_source, where="t"),
    )  # fmt: skip


def changed(random: Random, text: str, share: float) -> str:
    words = text.split()
    for at in random.sample(range(len(words)), int(share * len(words))):
        words[at] = "changed"
    return " ".join(words)


def made_up(n: int = 60) -> list[Row]:
    """Rows, and copies of half of them: of a chain of changes each, of a pair turned round ..."""
    random = Random(5)
    rows = [(sentence(random, 20), sentence(random, 30), sentence(random, 40)) for _ in range(n)]
    for at in range(0, n, 2):
        prompt, one, other = rows[at]
        for share in (0.0, 0.02, 0.1, 0.3):
            one, prompt = changed(random, one, share), changed(random, prompt, share / 2)
            rows.append((prompt, one, f"{other} {at}" if share == 0.02 else other))
        rows.append((f"  {prompt.upper()}", other, one))
    return rows


def oracle(made: tuple[pl.DataFrame, ...], least: float) -> set[str]:
    """The ids that are kept, by comparing the sets of all runs of all pairs."""
    pairs, completions, prompts = made
    text = {
        row[0]: plain(pl.Series([row[1][0]["content"]]))[0]
        for table in (
            completions.select("completion_id", "completion"),
            prompts.select("prompt_id", "prompt"),
        )
        for row in table.iter_rows()
    }
    sets = {
        row["pair_id"]: (
            runs(text[row["prompt_id"]]),
            runs(text[row["chosen_id"]]) | runs(text[row["rejected_id"]]),
        )
        for row in pairs.iter_rows(named=True)
    }
    joined = DisjointSet(sets)
    for one, other in combinations(sets, 2):
        both = zip(sets[one], sets[other], strict=True)
        if all(len(a & b) / len(a | b) >= least for a, b in both):
            joined.merge(one, other)
    return {min(subset) for subset in joined.subsets()}


@pytest.mark.parametrize("least", [0.7, 0.8, 0.9, 1.0])
def test_what_is_kept_is_what_comparing_all_with_all_keeps(least: float):
    made = tables_of(made_up())
    kept, dropped = near_duplicate(*made, similarity=least)  # pyright: ignore
    wanted = oracle(made, least)
    assert 60 <= len(wanted) < made[0].height - 10
    assert set(kept["pair_id"]) == wanted
    assert kept.height + dropped.height == made[0].height
    assert kept.equals(made[0].filter(pl.col("pair_id").is_in(list(wanted))))


@pytest.mark.parametrize("n", [2, 7])
def test_parts_and_their_order_change_nothing(n: int, shuffled: Any, monkeypatch: Any):
    monkeypatch.setattr("prefdata.select.near_duplicate.AT_ONCE", 40)  # links are many parts too
    made = tables_of(made_up())
    part = made[0]["prompt_id"].str.slice(0, 8).str.to_integer(base=16) % n
    mixed = [shuffled(made[0].filter(part == at), at) for at in reversed(range(n))]
    several = list(drive_parts(in_parts(), lambda: [(each, *made[1:]) for each in mixed]))
    kept, dropped = near_duplicate(*made)  # pyright: ignore
    for at, whole in enumerate((kept, dropped)):
        key = whole.columns[:2]
        assert pl.concat(each[at] for each in several).sort(key).equals(whole.sort(key))


def test_the_same_answers_to_other_questions_are_no_duplicates():
    random = Random(1)
    rows = [(sentence(random, 12), "Yes, certainly.", "No, not at all.") for _ in range(20)]
    made = tables_of(rows)
    kept, _ = near_duplicate(*made)  # pyright: ignore
    assert kept.height == 20
    nothing, gone = near_duplicate(*(each.clear() for each in made))  # pyright: ignore
    assert nothing.is_empty()
    assert gone.is_empty()


def test_a_similarity_that_is_none_is_refused():
    for similarity in (0.3, 1.1):
        with pytest.raises(RecipeError, match="similarity"):
            near_duplicate(*tables_of(made_up(2)), similarity=similarity)  # pyright: ignore
