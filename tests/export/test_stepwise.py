import polars as pl
import pytest

from prefdata.errors import TableError
from prefdata.export.stepwise import stepwise
from tests.export.trees import planted_tree, ratings_of


def rows_of(values=None, **options):
    made, ids = planted_tree()
    right = {"a": 1.0, "b": 0.0, "aa": 1.0, "ab": 0.0, "ba": 0.0, "bb": 1.0}
    rated = ratings_of(made, {ids[name]: value for name, value in (values or right).items()})
    rows = stepwise(made["prompts"], made["completions"], made["samples"], rated, **options)
    named = {id: name for name, id in ids.items()}
    return {named[row["completion_id"]]: row for row in rows.rows(named=True)}


def test_every_whole_solution_is_its_steps_and_whether_each_is_right():
    rows = rows_of()
    assert rows.keys() == {"aa", "ab", "ba", "bb"}
    assert rows["aa"]["completions"] == ["2 + 2 = 4.", "\n4 + 2 = 6."]
    assert [rows[name]["labels"] for name in ("aa", "ab", "ba", "bb")] == [
        [True, True], [True, False], [False, False], [False, True],
    ]  # fmt: skip
    assert rows["aa"]["prompt"] == "What is 2 + 2 + 2?"


def test_the_steps_put_together_are_the_solution():
    made, ids = planted_tree()
    texts = dict(
        made["completions"]
        .select("completion_id", pl.col("completion").list[0].struct["content"])
        .rows()
    )
    for name, row in rows_of().items():
        assert "".join(row["completions"]) == texts[ids[name]]


def test_a_step_that_nobody_rated_leaves_no_row():
    assert rows_of({"a": 1.0, "aa": 1.0, "ab": 0.0, "ba": 1.0, "bb": 0.0}).keys() == {"aa", "ab"}


def test_a_step_that_does_not_continue_its_parent_is_refused():
    made, ids = planted_tree()
    rated = ratings_of(made, {ids["a"]: 1.0})
    swapped = {ids["aa"]: ids["b"]}
    parents = pl.col("completion_id").replace_strict(swapped, default=pl.col("parent_id"))
    samples = made["samples"].with_columns(parent_id=parents)
    with pytest.raises(TableError, match="do not begin with the text of their parent"):
        stepwise(made["prompts"], made["completions"], samples, rated)
    circle = made["samples"].with_columns(parent_id=pl.col("completion_id"))
    with pytest.raises(TableError, match="round in a circle"):
        stepwise(made["prompts"], made["completions"], circle, rated)


def test_an_unknown_criterion_names_the_nearest():
    with pytest.raises(TableError, match="did you mean 'right'"):
        rows_of(criterion="rigth")
