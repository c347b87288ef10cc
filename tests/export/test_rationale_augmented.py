import polars as pl

from prefdata import tables
from prefdata.export.rationale_augmented import rationale_augmented
from prefdata.tables import Rationales
from tests.explain.planted import world


def told(pairs: pl.DataFrame, text: str = "[CHOSEN] is right, [REJECTED] is not.") -> Rationales:
    frame = pairs.select("pair_id").with_columns(
        annotator=pl.lit("llm:m/rationale"), kind=pl.lit("specific"), rationale=pl.lit(text)
    )
    return tables.typed(Rationales, frame)


def test_tags_become_the_names_that_stand_in_the_question():
    prompts, completions, pairs = world(200, {})
    rows = rationale_augmented(prompts, completions, pairs, told(pairs))
    assert rows.height == 200
    text = {
        row[0]: row[1]
        for row in completions.select(
            "completion_id", pl.col("completion").list[0].struct["content"]
        ).rows()
    }
    for row in rows.to_dicts():
        a = row["prompt_rat"].partition("Reply A:\n```\n")[2].partition("\n```")[0]
        chosen = text[row["chosen_id"]]
        assert (a == chosen) == row["chosen_first"]
        better, other = ("A", "B") if row["chosen_first"] else ("B", "A")
        assert row["rationale"] == f"Reply {better} is right, Reply {other} is not."
        assert row["chosen"][0]["content"] == chosen
    assert 0.4 < rows["chosen_first"].mean() < 0.6


def test_pairs_without_a_rationale_have_no_row_and_order_changes_nothing():
    prompts, completions, pairs = world(10, {})
    rows = rationale_augmented(prompts, completions, pairs, told(pairs.head(4)))
    assert rows.height == 4
    mixed = rationale_augmented(
        prompts, completions, pairs, Rationales(told(pairs.head(4)).reverse())
    )
    assert rows.equals(mixed)


def test_plain_strings():
    prompts, completions, pairs = world(2, {})
    rows = rationale_augmented(prompts, completions, pairs, told(pairs), format="standard")
    assert rows.schema["prompt"] == rows.schema["chosen"] == pl.String
