import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.export.listwise import listwise


def exported(made, **options):
    return listwise(made["prompts"], made["completions"], made["strengths"], **options)


def with_strengths(made, values):
    strengths = made["strengths"].with_columns(strength=pl.Series(values, dtype=pl.Float64))
    return {**made, "strengths": strengths}


def test_best_first_with_ids_that_lead_back(world):
    made = world(4, 3)
    said = dict(made["completions"].select("completion_id", "completion").iter_rows())
    rows = exported(made)
    assert rows.height == 4
    for row in rows.iter_rows(named=True):
        texts = [each[0]["content"] for each in row["completions"]]
        assert texts == ["answer 2", "answer 1", "answer 0"]
        assert row["scores"] == [1.0, 0.0, -1.0]
        assert row["ranks"] == [1, 2, 3]
        assert row["completions"] == [said[each] for each in row["completion_ids"]]


@given(values=st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0]), min_size=5, max_size=5))
def test_ranks_are_scipys_competition_ranks(world, values):
    row = exported(with_strengths(world(1, 5), values)).row(0, named=True)
    assert row["scores"] == sorted(values, reverse=True)
    assert row["ranks"] == sorted(rankdata([-v for v in values], method="min").tolist())


def test_noise_below_the_ninth_digit_is_a_tie(world):
    made = with_strengths(world(1, 3), [1.0, 1.0 + 1e-13, 0.0])
    assert exported(made)["ranks"].to_list() == [[1, 1, 3]]


def test_row_order_of_the_tables_does_not_matter(world, shuffled):
    made = world()
    other = {name: shuffled(table, 5) for name, table in made.items()}
    assert exported(made).equals(exported(other))


def test_prompts_in_shards_give_the_same_rows(world):
    made = world()
    shards = []
    for prompt in made["prompts"]["prompt_id"]:
        shard = {name: table.filter(pl.col("prompt_id") == prompt) for name, table in made.items()}
        shards.append(exported(shard))
    assert pl.concat(shards).sort("prompt_id").equals(exported(made))


def test_a_prompt_with_one_completion_is_no_list(world):
    made = world(3, 1)
    assert exported(made).height == 0
    assert exported(made, min_completions=1).height == 3


def test_several_estimators_need_a_name(world):
    made = world()
    rated = made["strengths"].with_columns(
        estimator=pl.lit("mean_rating"), strength=-pl.col("strength")
    )
    made["strengths"] = pl.concat([made["strengths"], rated])
    with pytest.raises(RecipeError, match="bradley_terry, mean_rating"):
        exported(made)
    with pytest.raises(RecipeError, match="did you mean 'mean_rating'"):
        exported(made, estimator="mean_ratings")
    best = exported(made, estimator="mean_rating")["completions"].list.first()
    assert {each[0]["content"] for each in best} == {"answer 0"}


def test_standard_format_is_the_text_of_the_message(world):
    plain = exported(world(), format="standard")
    assert plain.schema["completions"] == pl.List(pl.String)
    assert plain["completions"][0].to_list() == ["answer 2", "answer 1", "answer 0"]


def test_standard_format_refuses_several_turns(world):
    made = world(1, 2)
    two = [{"role": "assistant", "content": "a"}] * 2
    said = pl.Series([two] * 2, dtype=tables.MESSAGES)
    made["completions"] = made["completions"].with_columns(completion=said)
    with pytest.raises(TableError, match="completions of several messages"):
        exported(made, format="standard")


def test_strengths_of_an_absent_completion_are_an_error(world):
    made = world()
    made["completions"] = made["completions"].head(4)
    with pytest.raises(TableError, match="completions that are not there"):
        exported(made)
