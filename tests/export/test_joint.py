import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.export.conditional_sft import conditional_sft
from prefdata.export.joint import joint
from prefdata.export.llamafactory import llamafactory
from prefdata.export.openrlhf import openrlhf
from prefdata.export.pairwise import pairwise


@pytest.fixture
def crossed(world):
    """Four pairs, each of completions of two prompts."""
    made = world(4, 2)
    rows = made["completions"].sort("prompt_id", "completion_id")["completion_id"].to_list()
    one, other = rows[0::2], [*rows[3::2], rows[1]]
    frame = pl.DataFrame({"chosen_id": one, "rejected_id": other, "n_votes": 2})
    frame = frame.with_columns(tables.pair_ids(one, other), soft_label=pl.lit(0.9))
    return {**made, "pairs": tables.check("pairs", frame, where="test")}


def test_each_side_has_the_prompt_that_it_answers(crossed):
    rows = joint(crossed["prompts"], crossed["completions"], crossed["pairs"])
    prompts = dict(crossed["prompts"].select("prompt_id", "prompt").iter_rows())
    of = dict(crossed["completions"].select("completion_id", "prompt_id").iter_rows())
    said = dict(crossed["completions"].select("completion_id", "completion").iter_rows())
    assert rows.height == 4
    assert not rows["same_prompt"].any()
    for row in rows.rows(named=True):
        for side in ("chosen", "rejected"):
            assert row[f"prompt_{side}"] == prompts[of[row[f"{side}_id"]]]
            assert row[f"response_{side}"] == said[row[f"{side}_id"]]


def test_with_one_prompt_it_is_the_pair(world):
    made = world()
    rows = joint(made["prompts"], made["completions"], made["pairs"])
    plain = pairwise(made["prompts"], made["completions"], made["pairs"])
    assert rows["same_prompt"].all()
    assert rows["prompt_chosen"].to_list() == rows["prompt_rejected"].to_list()
    assert rows["response_chosen"].to_list() == plain["chosen"].to_list()


def test_a_trainer_of_one_prompt_is_refused_such_pairs(crossed):
    for export in (pairwise, openrlhf, llamafactory, conditional_sft):
        with pytest.raises(TableError, match="different prompts"):
            export(crossed["prompts"], crossed["completions"], crossed["pairs"])


def test_plain_text_has_a_line_a_message(crossed):
    rows = joint(crossed["prompts"], crossed["completions"], crossed["pairs"], format="standard")
    assert rows["prompt_chosen"].str.starts_with("question").all()
    assert rows["response_rejected"].str.starts_with("answer").all()
