import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.export.pairwise import in_parts, pairwise
from prefdata.stage import drive_parts


def exported(made, **options):
    scores = options.pop("scores", None)
    return pairwise(made["prompts"], made["completions"], made["pairs"], scores, **options)


def test_every_row_leads_back_to_its_texts(world):
    made = world()
    rows = exported(made)
    prompts = dict(made["prompts"].select("prompt_id", "prompt").iter_rows())
    said = dict(made["completions"].select("completion_id", "completion").iter_rows())
    assert set(rows["pair_id"]) == set(made["pairs"]["pair_id"])
    for row in rows.iter_rows(named=True):
        assert row["prompt"] == prompts[row["prompt_id"]]
        assert row["chosen"] == said[row["chosen_id"]]
        assert row["rejected"] == said[row["rejected_id"]]
        assert row["chosen"][0]["content"] > row["rejected"][0]["content"]  # as planted


def test_the_columns_are_those_of_trl(world):
    rows = exported(world())
    assert rows.columns[:3] == ["prompt", "chosen", "rejected"]
    assert all(rows.schema[column] == tables.MESSAGES for column in rows.columns[:3])


def test_row_order_of_the_tables_does_not_matter(world, shuffled):
    made = world()
    other = {name: shuffled(table, 3) for name, table in made.items()}
    assert exported(made).equals(exported(other))


def test_standard_format_is_the_text_of_the_message(world):
    made = world()
    plain, whole = exported(made, format="standard"), exported(made)
    for column in ("prompt", "chosen", "rejected"):
        assert plain[column].to_list() == [each[0]["content"] for each in whole[column]]


def test_standard_format_refuses_several_turns(world):
    made = world(2)
    system = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    asked = pl.Series([system] * 2, dtype=tables.MESSAGES)
    made["prompts"] = made["prompts"].with_columns(prompt=asked)
    with pytest.raises(TableError, match=r"prompt of several messages.*conversational"):
        exported(made, format="standard")


def test_implicit_prompt_stands_before_both_sides(world):
    made = world()
    explicit, implicit = exported(made), exported(made, explicit_prompt=False)
    assert "prompt" not in implicit.columns
    for side in ("chosen", "rejected"):
        both = zip(explicit["prompt"].to_list(), explicit[side].to_list(), strict=True)
        assert implicit[side].to_list() == [asked + said for asked, said in both]


def test_a_pair_of_answers_to_different_prompts_needs_implicit_prompts(world):
    made = world(2, 1)
    one, other = made["completions"]["completion_id"]
    joint = pl.DataFrame({"chosen_id": [one], "rejected_id": [other], "n_votes": 1})
    joint = joint.with_columns(tables.pair_ids([one], [other]), soft_label=pl.lit(1.0))
    made["pairs"] = tables.check("pairs", joint, where="test")
    with pytest.raises(TableError, match="explicit_prompt = false"):
        exported(made)
    row = exported(made, explicit_prompt=False).row(0, named=True)
    assert {row["chosen"][0]["content"], row["rejected"][0]["content"]} == {
        "question 0",
        "question 1",
    }


def test_implicit_prompts_have_no_standard_format(world):
    with pytest.raises(RecipeError, match="explicit_prompt"):
        exported(world(), format="standard", explicit_prompt=False)
    with pytest.raises(RecipeError, match="no fields"):
        exported(world(), format="standard", tool_calls="fields")


def scores_of(pairs, name="ches", model=None, value=0.5):
    frame = pl.DataFrame({"subject_id": pairs, "subject": "pair", "score": name})
    frame = frame.with_columns(model=pl.lit(model, pl.String), value=pl.lit(value, pl.Float64))
    return tables.check("scores", frame, where="test")


def test_a_score_becomes_a_column_where_there_is_one(world):
    made = world()
    scored = made["pairs"]["pair_id"].sort()[:4]
    rows = exported(made, scores=scores_of(scored, value=0.25), columns=["ches"])
    known = dict(rows.select("pair_id", "ches").iter_rows())
    assert known == {
        pair: 0.25 if pair in scored.to_list() else None for pair in made["pairs"]["pair_id"]
    }


def test_reference_log_probabilities_have_the_names_that_a_trainer_reads(world):
    made = world()
    ids = made["pairs"]["pair_id"]
    wanted = ["ref_logp_chosen", "ref_logp_rejected@x", "ref_logp_chosen_per_token"]
    scores = pl.concat(
        scores_of(ids, wanted[at].partition("@")[0], model="x", value=-1.0 - at) for at in range(3)
    )
    rows = exported(made, scores=scores, columns=wanted)
    names = ["ref_chosen_logps", "ref_rejected_logps", "ref_logp_chosen_per_token"]
    assert rows.columns[-3:] == names
    assert [set(rows[name]) for name in names] == [{-1.0}, {-2.0}, {-3.0}]
    with pytest.raises(RecipeError, match="'ref_chosen_logps' of its own"):
        exported(made, scores=scores, columns=["ref_logp_chosen", "ref_logp_chosen@x"])


def test_a_misspelt_score_names_the_nearest(world):
    made = world()
    with pytest.raises(RecipeError, match="did you mean 'ches'"):
        exported(made, scores=scores_of(made["pairs"]["pair_id"]), columns=["chess"])
    with pytest.raises(RecipeError, match="no stage made scores"):
        exported(made, columns=["ches"])


def test_a_score_by_two_models_has_to_name_one(world):
    made = world()
    ids = made["pairs"]["pair_id"]
    scores = pl.concat([scores_of(ids, model=m, value=v) for m, v in (("x", 1), ("y", 2))])
    with pytest.raises(RecipeError, match="x, y; say whose, as in ches@x"):
        exported(made, scores=scores, columns=["ches"])
    with pytest.raises(RecipeError, match="by 'z'; there is: x, y"):
        exported(made, scores=scores, columns=["ches@z"])
    assert set(exported(made, scores=scores, columns=["ches@y"])["ches@y"]) == {2.0}


def test_a_shard_may_have_a_score_by_another_model_only(world):
    made = world()
    pairs = made["pairs"]
    scores = pl.concat(
        pl.DataFrame({"subject_id": some["pair_id"]}).select(
            "subject_id", subject=pl.lit("pair"), score=pl.lit("ches"), model=pl.lit(model),
            value=pl.lit(value),
        )
        for some, model, value in ((pairs[:4], "m", 1.5), (pairs, "other", 2.5))
    )  # fmt: skip
    scores = tables.check("scores", scores, where="test")
    texts, how = (made["prompts"], made["completions"]), {"columns": ["ches@m"]}
    at_once = pairwise(*texts, pairs, scores, **how)
    ids = [pl.col("subject_id").is_in(part["pair_id"].implode()) for part in (pairs[:4], pairs[4:])]
    parts = [(*texts, pairs[:4], scores.filter(ids[0])), (*texts, pairs[4:], scores.filter(ids[1]))]
    rows = pl.concat(drive_parts(in_parts(**how), lambda: parts))
    assert rows.sort("pair_id").equals(at_once.sort("pair_id"))
    assert rows["ches@m"].null_count() == pairs.height - 4


def test_a_column_cannot_replace_one_of_the_row(world):
    made = world()
    scores = scores_of(made["pairs"]["pair_id"], "chosen")
    with pytest.raises(RecipeError, match="of its own"):
        exported(made, scores=scores, columns=["chosen"])


def test_margin_is_absent_when_no_pair_has_one(world):
    made = world()
    made["pairs"] = made["pairs"].with_columns(margin=pl.lit(None, pl.Float64))
    assert "margin" not in exported(made).columns


def test_a_completion_that_is_not_there_is_an_error(world):
    made = world()
    made["completions"] = made["completions"].head(4)
    with pytest.raises(TableError, match="is not null"):
        exported(made)


def test_no_pairs_are_no_rows(world):
    made = world()
    made["pairs"] = made["pairs"].clear()
    rows = exported(made)
    assert rows.height == 0
    assert rows.columns[:3] == ["prompt", "chosen", "rejected"]
