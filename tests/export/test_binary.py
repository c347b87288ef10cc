import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.export.binary import binary


def exported(made, **options):
    frames = [made.get(name) for name in ("pairs", "strengths", "ratings")]
    return binary(made["prompts"], made["completions"], *frames, **options)


def labels(rows):
    """The labels by text, which has to say the same for every prompt."""
    said = {(row["completion"][0]["content"], row["label"]) for row in rows.iter_rows(named=True)}
    assert len(dict(said)) == len(said)
    return dict(said)


def test_the_columns_are_those_of_trl(world):
    rows = exported(world())
    assert rows.columns[:3] == ["prompt", "completion", "label"]
    assert rows.schema["label"] == pl.Boolean


def test_more_often_chosen_is_desirable_and_even_has_no_label(world):
    rows = exported(world(3, 3))  # answer 1 is chosen once and rejected once
    assert rows.height == 6
    assert labels(rows) == {"answer 2": True, "answer 0": False}


def test_drop_keeps_only_the_unanimous(world):
    made = world(1, 4)  # chosen 3, 2, 1 and 0 times of 3
    assert len(labels(exported(made))) == 4
    said = labels(exported(made, contradictions="drop"))
    assert said == {"answer 3": True, "answer 0": False}


@given(
    drawn=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30),
    drop=st.booleans(),
)
def test_labels_never_contradict_and_follow_the_greater_number(world, drawn, drop):
    made = world(1, 5)
    ids = made["completions"]["completion_id"].to_list()
    decided = list({tuple(sorted(two)): two for two in drawn if two[0] != two[1]}.values())
    columns = {
        "pair_id": [str(at) for at in range(len(decided))],
        "chosen_id": [ids[chosen] for chosen, _ in decided],
        "rejected_id": [ids[rejected] for _, rejected in decided],
    }
    pairs = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    pairs = pairs.with_columns(soft_label=pl.lit(1.0), n_votes=pl.lit(1, pl.Int64))
    made["pairs"] = tables.check("pairs", pairs, where="test")
    rows = exported(made, contradictions="drop" if drop else "majority")
    wins = {each: columns["chosen_id"].count(each) for each in ids}
    losses = {each: columns["rejected_id"].count(each) for each in ids}
    expected = {
        each: wins[each] > losses[each]
        for each in ids
        if wins[each] != losses[each] and not (drop and wins[each] and losses[each])
    }
    assert rows["completion_id"].is_unique().all()
    assert dict(rows.select("completion_id", "label").iter_rows()) == expected


def test_weight_is_the_mean_of_a_completions_pairs(world):
    made = world(1, 2)
    assert exported(made)["weight"].to_list() == [None, None]
    made["pairs"] = made["pairs"].with_columns(weight=pl.lit(0.25))
    assert exported(made)["weight"].to_list() == [0.25, 0.25]


def test_strengths_above_and_below_zero(world):
    said = labels(exported(world(2, 3), by="strengths"))
    assert said == {"answer 2": True, "answer 0": False}


def test_quantile_takes_as_many_from_both_ends(world):
    made = world(1, 10)
    ids = dict(made["strengths"].select("completion_id", "strength").iter_rows())
    rows = exported(made, by="strengths", quantile=0.3)
    said = {ids[each]: label for each, label in rows.select("completion_id", "label").iter_rows()}
    assert said == {at - 4.5: at >= 7 for at in (0, 1, 2, 7, 8, 9)}


def test_quantile_of_equal_values_labels_nothing(world):
    made = world(2, 3)
    made["strengths"] = made["strengths"].with_columns(strength=pl.lit(1.0))
    assert exported(made, by="strengths", quantile=0.5).height == 0


def rated(made, values, criterion="helpfulness", draw=0):
    frame = made["completions"].select(
        "completion_id",
        "prompt_id",
        annotator=pl.lit("human:u1"),
        criterion=pl.lit(criterion),
        draw=draw,
        rating=pl.Series(values, dtype=pl.Float64),
    )
    missing = pl.when(pl.col("rating").is_null()).then(pl.lit("no verdict"))
    return frame.with_columns(unscored=missing)


def checked(*frames):
    return tables.check("ratings", pl.concat(frames), where="test")


def test_thumbs_are_labels_and_unscored_has_none(world):
    made = world(1, 3)
    made["ratings"] = checked(rated(made, [1, 0, None]))
    up, down, _ = made["completions"]["completion_id"]
    rows = exported(made, by="ratings").select("completion_id", "label")
    assert dict(rows.iter_rows()) == {up: True, down: False}


def test_a_criterion_with_more_ratings_weighs_no_more(world):
    made = world(1, 1)
    good = [rated(made, [0.9], draw=draw) for draw in range(5)]
    made["ratings"] = checked(rated(made, [0.0], "honesty"), *good)
    assert exported(made, by="ratings")["label"].to_list() == [False]  # (0 + 0.9) / 2 < 0.5
    assert exported(made, by="ratings", criterion="helpfulness")["label"].to_list() == [True]
    with pytest.raises(TableError, match="did you mean 'honesty'"):
        exported(made, by="ratings", criterion="honest")


def test_options_that_do_not_go_together(world):
    with pytest.raises(RecipeError, match="threshold is for"):
        exported(world(), threshold=0.5)
    for wrong in (
        {"by": "strengths", "ties": "drop"},
        {"by": "strengths", "criterion": "helpfulness"},
        {"estimator": "bradley_terry"},
        {"format": "standard", "tool_calls": "fields"},
    ):
        with pytest.raises(RecipeError, match=r"for by = |plain strings have no fields"):
            exported(world(), **wrong)
    with pytest.raises(RecipeError, match="not both"):
        exported(world(), by="strengths", threshold=0.5, quantile=0.1)
    with pytest.raises(RecipeError, match=r"\(0, 0.5\]"):
        exported(world(), by="strengths", quantile=0.6)
    with pytest.raises(TableError, match="no stage made the table ratings"):
        exported(world(), by="ratings")


def test_row_order_of_the_tables_does_not_matter(world, shuffled):
    made = world()
    other = {name: shuffled(table, 5) for name, table in made.items()}
    for by in ("pairs", "strengths"):
        assert exported(made, by=by).equals(exported(other, by=by))


def test_standard_format_is_the_text_of_the_message(world):
    rows = exported(world(1, 2), format="standard")
    assert set(rows["completion"]) == {"answer 0", "answer 1"}
