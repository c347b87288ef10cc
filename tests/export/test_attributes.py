import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.export.attributes import attributes


def rated(made, table):
    """Ratings: {(completion number, annotator): {criterion: rating on 0..4}}."""
    ids = made["completions"].sort("completion_id").select("completion_id", "prompt_id").rows()
    rows = [
        {"completion_id": ids[at][0], "prompt_id": ids[at][1], "annotator": f"human:{who}",
         "criterion": criterion, "draw": 0, "rating": value / 4}
        for (at, who), values in table.items() for criterion, value in values.items()
    ]  # fmt: skip
    return tables.check("ratings", pl.DataFrame(rows), where="test"), [id for id, _ in ids]


def test_a_column_an_attribute_on_its_scale(world):
    made = world(2, 2)
    ratings, ids = rated(
        made,
        {
            (0, "x"): {"helpfulness": 4, "verbosity": 1},
            (0, "y"): {"helpfulness": 3, "verbosity": 2},
            (1, "x"): {"helpfulness": 0},
        },
    )
    rows = attributes(made["prompts"], made["completions"], ratings)
    by_id = {row["completion_id"]: row for row in rows.rows(named=True)}
    assert by_id.keys() == set(ids[:2])
    assert by_id[ids[0]]["helpfulness"] == 3.5
    assert by_id[ids[0]]["attributes"] == "helpfulness:4,verbosity:2"  # halves go upwards
    assert by_id[ids[1]]["verbosity"] is None  # nobody said so: no zero
    assert by_id[ids[1]]["attributes"] == "helpfulness:0"


def test_goodness_is_the_weighted_sum_and_may_take_away(world):
    made = world(2, 2)
    ratings, ids = rated(
        made, {(0, "x"): {"helpfulness": 4, "verbosity": 3}, (1, "x"): {"helpfulness": 2}}
    )
    rows = attributes(
        made["prompts"], made["completions"], ratings,
        weights={"helpfulness": 0.65, "verbosity": -0.4},
    )  # fmt: skip
    found = dict(rows.select("completion_id", "goodness").rows())
    assert found[ids[0]] == pytest.approx(0.65 * 4 - 0.4 * 3)
    assert found[ids[1]] is None
    with pytest.raises(TableError, match="did you mean 'verbosity'"):
        attributes(made["prompts"], made["completions"], ratings, criteria=["verbosty"])
