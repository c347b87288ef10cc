from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError, TableError
from prefdata.loop import follow, run_stage, shards
from prefdata.planning.plan import PlannedStage
from prefdata.stage import Asks, Model, contract, requests
from prefdata.tables import (
    Completions,
    Dropped,
    Pairs,
    Prompts,
    Requests,
    Responses,
    Samples,
    Scores,
    Strengths,
    Tables,
)


def planned(function: Any, name: str = "", **options: Any) -> PlannedStage:
    use = f"tests:{function.__name__}"
    return PlannedStage(
        name or use,
        use,
        function,
        contract(function),
        options,
        options,
        f"recipe r, stage 1 ({use})",
    )


def world(n: int) -> Tables:
    """`n` prompts with two completions each, and a pair of them."""
    said = [[{"role": "user", "content": f"question {i}"}] for i in range(n)]
    prompts = pl.DataFrame(
        {"prompt": said, "source": "test"}, schema_overrides={"prompt": t.MESSAGES}
    )
    prompts = prompts.with_columns(t.prompt_ids(said))
    answers = [[{"role": "assistant", "content": text}] for text in ("yes", "no")]
    completions = pl.concat(
        prompts.select("prompt_id").with_columns(
            pl.Series("completion", [answer] * n, t.MESSAGES),
            t.completion_ids(prompts["prompt_id"], [answer] * n),
        )
        for answer in answers
    )
    ids = completions.group_by("prompt_id").agg("completion_id").sort("prompt_id")
    one, other = ids["completion_id"].list.get(0), ids["completion_id"].list.get(1)
    pairs = pl.DataFrame(
        {
            "pair_id": t.pair_ids(one, other),
            "prompt_id": ids["prompt_id"],
            "chosen_id": one,
            "rejected_id": other,
            "soft_label": 0.8,
            "n_votes": 1,
        }
    )
    frames = {"prompts": prompts, "completions": completions, "pairs": pairs}
    return {name: t.check(name, frame, where="world") for name, frame in frames.items()}


def nobody(asked: Requests) -> Responses:
    raise AssertionError("no stage here asks")


def say(prompts: Prompts, *, text: str) -> tuple[Completions, Samples]:
    answer = [[{"role": "assistant", "content": text}]] * prompts.height
    made = prompts.select("prompt_id").with_columns(
        pl.Series("completion", answer, t.MESSAGES), t.completion_ids(prompts["prompt_id"], answer)
    )
    drawn = made.select("completion_id", "prompt_id", generator=pl.lit("me"), draw=pl.lit(0))
    return Completions(made), Samples(drawn)


def first_half(pairs: Pairs) -> Pairs:
    return Pairs(pairs.filter(pl.col("pair_id") < "8"))


def drop_prompts(prompts: Prompts) -> Prompts:
    return Prompts(prompts.filter(pl.col("prompt_id") < "8"))


def with_reasons(pairs: Pairs) -> tuple[Pairs, Dropped]:
    gone = pairs.select(
        key="pair_id", table=pl.lit("pairs"), stage=pl.lit(""), reason=pl.lit("because")
    )
    return Pairs(pairs.clear()), Dropped(gone)


def rate(pairs: Pairs, scores: Scores | None = None) -> Scores:
    seen = 0 if scores is None else scores.height
    row = {"subject": "pair", "score": f"seen {seen}", "value": 1.0}
    return Scores(
        pairs.select(pl.col("pair_id").alias("subject_id")).with_columns(
            **{key: pl.lit(value) for key, value in row.items()}
        )
    )


def wrong(pairs: Pairs) -> Pairs:
    return "pairs"  # pyright: ignore


def estimate(completions: Completions) -> Strengths:
    return Strengths(
        completions.select(
            "completion_id", "prompt_id", estimator=pl.lit("estimate"), strength=pl.lit(0.0)
        )
    )


def echo(prompts: Prompts, *, model: Model) -> Asks[Completions]:
    asked = requests(model, "text", prompts["prompt"])
    told = yield asked
    texts = asked.select("request_id").join(
        told, on="request_id", how="left", maintain_order="left"
    )
    said = [[{"role": "assistant", "content": text}] for text in texts["text"]]
    return Completions(
        prompts.select("prompt_id").with_columns(
            pl.Series("completion", said, t.MESSAGES), t.completion_ids(prompts["prompt_id"], said)
        )
    )


def test_rule_one_a_table_that_was_not_read_is_added_to():
    tables = world(3)
    stages = [planned(say, text="perhaps"), planned(say, text="perhaps"), planned(say, text="yes")]
    after = follow(stages, tables, ask=nobody)
    assert after["completions"].height == 9, "an equal row again changes nothing"
    assert after["samples"].height == 6
    assert "dropped" not in after


def test_rule_one_refuses_one_key_with_two_contents():
    def other_source(pairs: Pairs) -> Prompts:
        return Prompts(world(1)["prompts"].with_columns(source=pl.lit("other")))

    with pytest.raises(TableError, match=r"other_source\): table prompts.*appears once"):
        follow([planned(other_source)], world(1), ask=nobody)


def test_rule_two_records_what_is_gone_and_counts_add_up():
    tables = world(40)
    after = follow([planned(first_half, name="keep")], tables, ask=nobody)
    dropped = after["dropped"]
    assert 0 < after["pairs"].height < 40
    assert after["pairs"].height + dropped.height == tables["pairs"].height
    assert set(dropped["key"]) == set(tables["pairs"]["pair_id"]) - set(after["pairs"]["pair_id"])
    assert dropped.select("table", "stage").unique().rows() == [("pairs", "keep")]


def test_an_estimate_that_forgets_what_it_was_given_is_named():
    """Scores of other stages would be gone, and with them the evidence for every label."""
    once = follow([planned(rate)], world(2), ask=nobody)
    forgetful = replace(planned(rate), use="estimate.rate", name="estimate.rate")
    with pytest.raises(TableError, match=r"\(tests:rate\) returned scores without 2 rows"):
        follow([forgetful], once, ask=nobody)


def test_what_depends_on_a_dropped_row_goes_with_it():
    tables = world(40)
    after = follow([planned(drop_prompts)], tables, ask=nobody)
    kept = set(after["prompts"]["prompt_id"])
    for name in ("completions", "pairs"):
        assert set(after[name]["prompt_id"]) == kept
        gone = after["dropped"].filter(pl.col("table") == name)
        assert after[name].height + gone.height == tables[name].height
        assert gone["reason"].unique().to_list() == ["its prompt_id was dropped"]


def test_a_stage_may_say_why_it_dropped_a_row():
    after = follow([planned(with_reasons, name="why")], world(3), ask=nobody)
    assert after["dropped"].select("stage", "reason").rows() == [("why", "because")] * 3


def test_a_filter_may_say_why_and_what_depends_on_its_rows_is_recorded_too():
    def choose(pairs: Pairs) -> tuple[Pairs, Dropped]:
        gone = pairs.filter(pl.col("pair_id") >= "8")
        said = gone.select(
            pl.lit("pairs").alias("table"),
            pl.col("pair_id").alias("key"),
            pl.lit("x").alias("stage"),
            pl.when(pl.col("pair_id") >= "c").then(pl.lit("too late")).alias("reason"),
        )
        return first_half(pairs), Dropped(said.drop_nulls())

    tables = world(60)
    reasoned = tables["pairs"].select(
        "pair_id", kind=pl.lit("gist"), annotator=pl.lit("rule:a"), rationale=pl.lit("so")
    )
    tables["rationales"] = t.check("rationales", reasoned, where="test")
    after = follow([planned(choose, name="choose")], tables, ask=nobody)
    gone = tables["pairs"].filter(pl.col("pair_id") >= "8")
    for name in ("pairs", "rationales"):
        told = after["dropped"].filter(pl.col("table") == name)
        assert told.height == gone.height
        assert after[name].height == 60 - gone.height
    told = after["dropped"].filter(pl.col("table") == "pairs")
    late = told.filter(pl.col("key") >= "c")["reason"].unique().to_list()
    early = told.filter(pl.col("key") < "c")["reason"].unique().to_list()
    assert (late, early) == (["too late"], ["choose"])


def test_a_table_that_may_be_there_is_given_where_it_is():
    once = follow([planned(rate)], world(2), ask=nobody)
    assert once["scores"]["score"].unique().to_list() == ["seen 0"]
    twice = follow([planned(rate)], once, ask=nobody)
    assert twice["scores"]["score"].unique().to_list() == ["seen 2"]


def test_a_stage_that_returns_something_else_is_named():
    with pytest.raises(
        TableError,
        match=r"recipe r, stage 1 \(tests:wrong\) returned str; its signature promises pairs",
    ):
        run_stage(planned(wrong), world(1), nobody)


def test_an_error_of_a_stage_names_the_stage_and_keeps_its_kind():
    def refuse(pairs: Pairs) -> Pairs:
        raise RecipeError("no")

    with pytest.raises(RecipeError, match=r"^recipe r, stage 1 \(tests:refuse\): no$"):
        run_stage(planned(refuse), world(1), nobody)


def test_done_is_told_what_was_and_what_is():
    told: list[tuple[str, int, int]] = []
    follow(
        [planned(say, text="hm")],
        world(2),
        ask=nobody,
        done=lambda stage, before, after: told.append(
            (stage.use, before["completions"].height, after["completions"].height)
        ),
    )
    assert told == [("tests:say", 4, 6)]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_shards_part_every_table_by_prompt_and_lose_nothing(n: int):
    tables = world(50)
    parts = shards(tables, tables, n)
    assert len(parts) == n
    for name, frame in tables.items():
        whole = pl.concat([part[name] for part in parts])
        assert whole.height == frame.height
        homes = [set(part[name]["prompt_id"]) for part in parts]
        assert sum(map(len, homes)) == len(set.union(*homes)), "a prompt is in one part only"
    for part in parts:
        assert set(part["pairs"]["prompt_id"]) <= set(part["prompts"]["prompt_id"])


def test_scores_go_with_their_pair_and_an_annotators_go_everywhere():
    tables = world(30)
    mine = tables["pairs"].select(
        subject_id="pair_id", subject=pl.lit("pair"), score=pl.lit("x"), value=pl.lit(1.0)
    )
    general = pl.DataFrame(
        {"subject_id": ["human:u"], "subject": ["annotator"], "score": ["x"], "value": [0.5]}
    )
    scores = t.check("scores", pl.concat([mine, general]), where="test")
    parts = shards({"pairs": tables["pairs"], "scores": scores}, {**tables, "scores": scores}, 5)
    for part in parts:
        subjects = set(part["scores"]["subject_id"])
        assert subjects == {*part["pairs"]["pair_id"], "human:u"}


def test_rows_across_prompts_are_never_parted():
    tables = world(10)
    joint = {"pairs": tables["pairs"].with_columns(prompt_id=pl.lit(None, pl.String))}
    assert len(shards(joint, {**tables, **joint}, 4)) == 1


@pytest.mark.parametrize("n", [2, 5, 9])
def test_a_build_does_not_depend_on_the_number_of_shards(n: int):
    def echoed(asked: Requests) -> Responses:
        content = pl.col("messages").list.first().struct.field("content")
        answers = asked.select("request_id", text=content, tokens_in=1, tokens_out=1)
        return Responses(answers.sample(fraction=1, shuffle=True, seed=n))

    stages = [planned(echo, model=Model("m")), planned(estimate), planned(drop_prompts)]
    one = follow(stages, world(20), ask=echoed)
    many = follow(stages, world(20), ask=echoed, n_shards=n)
    assert one.keys() == many.keys()
    for name, frame in one.items():
        assert frame.equals(many[name]), name
