import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.export.step_pairs import step_pairs
from tests.export.trees import planted_tree


def pairs_of(made, *pairs):
    [prompt] = made["prompts"]["prompt_id"]
    one, other = ([pair[at] for pair in pairs] for at in (0, 1))
    frame = pl.DataFrame(
        {"chosen_id": one, "rejected_id": other, "prompt_id": prompt, "n_votes": 0}
    )
    frame = frame.with_columns(tables.pair_ids(one, other), soft_label=pl.lit(1.0))
    return tables.check("pairs", frame, where="test")


def visited(ids, counts):
    frame = pl.DataFrame(
        {"subject_id": [ids[name] for name in counts], "value": list(counts.values())}
    )
    frame = frame.with_columns(
        subject=pl.lit("completion"), score=pl.lit("visits"), model=pl.lit(None, pl.String)
    )
    return tables.check("scores", frame.cast({"value": pl.Float64}), where="test")


def test_both_steps_follow_one_beginning():
    made, ids = planted_tree()
    pairs = pairs_of(made, (ids["a"], ids["b"]), (ids["aa"], ids["ab"]))
    rows = step_pairs(made["prompts"], made["completions"], made["samples"], pairs)
    by_depth = {row["depth"]: row for row in rows.rows(named=True)}
    assert [message["role"] for message in by_depth[0]["prefix"]] == ["user"]
    assert [message["role"] for message in by_depth[1]["prefix"]] == ["user", "assistant"]
    assert by_depth[1]["prefix"][1]["content"] == "2 + 2 = 4."
    assert (by_depth[1]["chosen_step"], by_depth[1]["rejected_step"]) == (
        "\n4 + 2 = 6.",
        "\n4 + 2 = 7.",
    )
    assert rows["label_smoothing"].null_count() == rows.height


@pytest.mark.parametrize(
    ("visits", "smoothing"), [((40, 10), 0.2), ((10, 10), 0.5), ((5, 20), 0.5), ((1, 0), 0.0)]
)
def test_smoothing_follows_the_visits_of_the_search(visits, smoothing):
    """The values of the formula in the paper's trainer, worked out by hand."""
    made, ids = planted_tree()
    pairs = pairs_of(made, (ids["a"], ids["b"]))
    scores = visited(ids, {"a": visits[0], "b": visits[1]})
    rows = step_pairs(made["prompts"], made["completions"], made["samples"], pairs, scores)
    assert rows["label_smoothing"].to_list() == pytest.approx([smoothing])


def test_a_score_is_taken_by_its_name_and_of_one_model():
    made, ids = planted_tree()
    given = (made["prompts"], made["completions"], made["samples"])
    pairs = pairs_of(made, (ids["a"], ids["b"]))
    scores = visited(ids, {"a": 40, "b": 10})
    assert step_pairs(*given, pairs, scores)["value_chosen"].to_list() == [None]
    named = scores.with_columns(score=pl.lit("times"))
    rows = step_pairs(*given, pairs, named, visits="times")
    assert rows.select("visits_chosen", "visits_rejected").row(0) == (40, 10)
    with pytest.raises(RecipeError, match="did you mean 'times'"):
        step_pairs(*given, pairs, named, visits="time")
    by_two = pl.concat([scores.with_columns(model=pl.lit(each)) for each in ("m", "n")])
    with pytest.raises(RecipeError, match="m, n; say whose, as in visits@m"):
        step_pairs(*given, pairs, by_two)
    rows = step_pairs(*given, pairs, by_two, visits="visits@n")
    assert rows["visits_chosen"].to_list() == [40]


def test_steps_after_different_beginnings_are_refused():
    made, ids = planted_tree()
    with pytest.raises(TableError, match="different beginnings"):
        step_pairs(
            made["prompts"], made["completions"], made["samples"],
            pairs_of(made, (ids["aa"], ids["ba"])),
        )  # fmt: skip
