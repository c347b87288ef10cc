"""Sources side by side: planted differences come out, and size makes none."""

from random import Random
from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.measure.source_comparison import distinct_pairs, source_comparison
from tests.conftest import World, make_world, shuffle

WORDS = [f"{a}{b}" for a in "bcdfghklmnprstvwz" for b in ("ala", "ono", "iri", "eve", "uru")]


def planted(n: int = 300, small: int = 60) -> World:
    """A source of `n` prompts whose chosen sides are longer, and a small one of few words."""
    random = Random(0)
    made = make_world(n + small, 2)
    names = ["long"] * n + ["few"] * small
    prompts = made["prompts"].with_columns(source=pl.Series(names))
    source = dict(zip(prompts["prompt_id"], names, strict=True))
    chosen = set(made["pairs"]["chosen_id"])

    def text(prompt: str, id: str) -> str:
        words = WORDS if source[prompt] == "long" else WORDS[:6]
        longer = source[prompt] == "long" and id in chosen
        return " ".join(random.choices(words, k=random.randint(30, 40) if longer else 20))

    rows = made["completions"].select("prompt_id", "completion_id").rows()
    said = [[{"role": "assistant", "content": text(*row)}] for row in rows]
    completions = made["completions"].with_columns(tables.conversations("completion", said))
    of = pl.col("prompt_id").replace_strict(source)
    pairs = made["pairs"].with_columns(margin=pl.when(of == "long").then(2.0).otherwise(0.5))
    return {**made, "prompts": prompts, "completions": completions, "pairs": pairs}


def compared(made: World, **how: Any) -> dict[tuple[str, str], dict[str, Any]]:
    found = source_comparison(
        made["pairs"], made["prompts"], made["completions"], made["votes"], **how
    )
    tables.check("measures", found, where="test")
    return {(row["measure"], row["subject"]): row for row in found.to_dicts()}


def test_planted_differences_come_out_on_as_many_pairs_of_each():
    found = compared(planted())
    assert found["source_pairs", "long"]["value"] == 300
    assert {row["n"] for (name, _), row in found.items() if name != "source_pairs"} == {60}
    assert found["source_margin", "long"]["value"] == pytest.approx(2.0)
    assert found["source_margin", "few"]["value"] == pytest.approx(0.5)
    assert found["source_longer_chosen", "long"]["value"] == 1.0
    fair = found["source_longer_chosen", "few"]
    assert fair["low"] < 0.5 < fair["high"]
    assert found["source_distinct", "few"]["value"] < found["source_distinct", "long"]["value"]
    assert found["source_votes_against", "long"]["value"] == 0.0


def test_of_two_halves_of_one_source_the_larger_is_not_called_less_varied():
    """Distinct words fall with size: compared whole, the larger half looks poorer."""
    made = planted(400, 40)
    names = ["large"] * 360 + ["small"] * 40 + ["other"] * 40
    made["prompts"] = made["prompts"].with_columns(source=pl.Series(names))
    found = compared(made)
    large, small = (found["source_distinct", name]["value"] for name in ("large", "small"))
    assert abs(large - small) < 0.03
    texts = made["pairs"].join(made["prompts"], on="prompt_id").join(
        made["completions"].rename({"completion_id": "chosen_id"}), on="chosen_id"
    )  # fmt: skip
    whole = {
        name: distinct_pairs(rows.select(tables.text_of("completion")).to_series())
        for (name,), rows in texts.group_by("source")
    }
    assert (whole["small"] or 0) - (whole["large"] or 0) > 0.1


def test_votes_against_the_label_are_those_that_were_turned():
    made = planted()
    turned = made["votes"].with_row_index("at").with_columns(
        preference=pl.when(pl.col("at") % 4 == 0).then(1 - pl.col("preference"))
        .otherwise("preference")
    )  # fmt: skip
    found = compared({**made, "votes": turned.drop("at")}, size=60)
    row = found["source_votes_against", "long"]
    assert row["low"] < 0.25 < row["high"]


def test_overlap_is_of_the_smaller_source_and_a_mixture_has_no_pairs_of_its_own():
    made = planted(40, 10)
    names = ["a"] * 20 + ["a,mix"] * 20 + ["b,mix"] * 10
    made["prompts"] = made["prompts"].with_columns(source=pl.Series(names))
    found = compared(made)
    assert found["source_overlap", "a & mix"]["value"] == pytest.approx(20 / 30)
    assert found["source_overlap", "b & mix"]["value"] == 1.0
    assert ("source_pairs", "mix") not in found
    assert ("source_pairs", "a") in found


def test_a_source_that_is_too_small_says_so_and_the_order_of_rows_does_not_matter():
    made = planted()
    found = compared(made, size=100)
    assert found["source_pairs", "few"]["note"] == "fewer than the 100 that are compared"
    assert ("source_margin", "few") not in found
    turned = {name: shuffle(rows, 5) for name, rows in made.items()}
    assert compared(turned) == compared(made)


def test_two_words_in_a_row_are_counted_within_a_text():
    assert distinct_pairs(pl.Series(["a b a b", "b A"])) == pytest.approx(2 / 4)
    assert distinct_pairs(pl.Series(["a", ""])) is None
