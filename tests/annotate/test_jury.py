"""A jury's votes are those of its members, asked at once, each under its own name."""

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

import prefdata
from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.jury import jury as jury_stage
from prefdata.annotate.logits import logits
from prefdata.annotate.pairwise import pairwise
from prefdata.dataset import estimate
from prefdata.errors import RecipeError
from prefdata.judge import Jury, Member
from prefdata.judge import jury as juries
from prefdata.planning.plan import plan
from prefdata.recipe import Recipe
from prefdata.screen.plan import draw_plan, plan_json
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Prompts, Requests, Responses, Votes

World = dict[str, pl.DataFrame]
JUDGE = judges.load("helpfulness")
REASONED = JUDGE.model_copy(update={"reason": "first", "name": "reasoned"})
MODELS = [Model(name, name, f"{name}@1") for name in ("north", "south", "east")]
TRIO = Jury(
    "trio", tuple(Member(j, m) for j, m in zip((JUDGE, JUDGE, REASONED), MODELS, strict=True))
)


def says(row: dict[str, Any]) -> str | None:
    """A reply that depends on who is asked and on all that is shown; some are malformed."""
    shown = tables.digest(row["model"], row["messages"])
    verdict = ["A", "B", "tie", None][int(shown, 16) % 4]
    fields = json.loads(row["options"])["schema"]["properties"]
    reason = {"reason": shown} if "reason" in fields else {}
    return "hm" if verdict is None else json.dumps({**reason, "verdict": verdict})


def answering(rounds: list[Requests], *, dead: str = "") -> Callable[[Requests], Responses]:
    def ask(requests: Requests) -> Responses:
        rounds.append(requests)
        rows = [
            {
                "request_id": row["request_id"],
                "text": None if row["model"] == dead else says(row),
                "error": "connection lost" if row["model"] == dead else None,
                "tokens_in": 1,
                "tokens_out": 1,
            }
            for row in requests.to_dicts()
        ]
        frame = pl.DataFrame(rows, schema=tables.schema("responses").dtypes)
        return Responses(frame.sample(fraction=1.0, shuffle=True, seed=len(rounds)))

    return ask


def votes(world: World, rounds: list[Requests], *, dead: str = "", **options: Any) -> Votes:
    stage = jury_stage(
        Prompts(world["prompts"]), Completions(world["completions"]), jury=TRIO, **options
    )
    return tables.typed(Votes, drive(stage, answering(rounds, dead=dead)))


def of_member(world: World, member: Member, **options: Any) -> Votes:
    stage = pairwise(
        Prompts(world["prompts"]),
        Completions(world["completions"]),
        judge=member.judge,
        model=member.model,
        **options,
    )
    return tables.typed(Votes, drive(stage, answering([])))


@pytest.mark.parametrize(
    "options",
    [{}, {"draws": 2, "orders": "random", "seed": 5}, {"max_pairs": 2, "orders": "a_first"},
     {"reask": False}],
    ids=str,
)  # fmt: skip
def test_a_jurys_votes_are_those_that_each_member_gives_alone(
    world: Callable[..., World], options: dict[str, Any]
):
    tables_ = world(5, 4)
    together = votes(tables_, [], **options)
    alone = pl.concat([of_member(tables_, member, **options) for member in TRIO.members])
    assert together.equals(tables.typed(Votes, alone))
    assert sorted(together["annotator"].unique()) == sorted(m.annotator for m in TRIO.members)
    assert together["preference"].n_unique() == 4  # never averaged: 1, 0, a half, or unscored


def test_all_requests_of_all_members_are_under_way_at_once(world: Callable[..., World]):
    rounds: list[Requests] = []
    made = votes(world(5, 3), rounds)
    assert len(rounds) == 2  # all first replies, then all that had no verdict
    first = dict(rounds[0].group_by("model").len().iter_rows())
    assert first == {model.role: 5 * 3 * 2 for model in MODELS}
    assert set(rounds[1]["model"]) == {model.role for model in MODELS}
    assert made.height == 3 * 5 * 3 * 2


def test_a_member_that_fails_leaves_its_votes_unscored_and_the_others_as_they_are(
    world: Callable[..., World],
):
    tables_ = world(5, 3)
    whole, without = votes(tables_, []), votes(tables_, [], dead="south")
    failed = pl.col("annotator") == TRIO.members[1].annotator
    assert without.filter(~failed).equals(whole.filter(~failed))
    lost = without.filter(failed)
    assert lost.height == 5 * 3 * 2
    assert lost["preference"].null_count() == lost.height
    assert lost["unscored"].unique().to_list() == ["error: connection lost"]


def test_votes_depend_on_neither_row_order_nor_shards_nor_the_order_of_members(
    world: Callable[..., World], shuffled: Callable[[pl.DataFrame, int], pl.DataFrame]
):
    tables_ = world(6, 3)
    whole = votes(tables_, [])
    assert votes({name: shuffled(t, 3) for name, t in tables_.items()}, []).equals(whole)
    ids = tables_["prompts"]["prompt_id"].to_list()
    here = [pl.col("prompt_id").is_in(part) for part in (ids[:1], ids[1:4], ids[4:])]
    names = ("prompts", "completions")
    parts = [votes({name: tables_[name].filter(part) for name in names}, []) for part in here]
    assert tables.typed(Votes, pl.concat(parts)).equals(whole)
    turned = Jury("turned", TRIO.members[::-1])
    stage = jury_stage(
        Prompts(tables_["prompts"]), Completions(tables_["completions"]), jury=turned
    )
    assert tables.typed(Votes, drive(stage, answering([]))).equals(whole)


def test_a_member_may_be_asked_for_its_leaning(world: Callable[..., World]):
    prompts, completions = (world(4, 3)[name] for name in ("prompts", "completions"))
    mixed = Jury("mixed", (TRIO.members[0], Member(JUDGE, MODELS[1], "logits")))
    wants: list[str] = []

    def ask(requests: Requests) -> Responses:
        wants.extend(requests["want"])
        lean = [{"token": "A", "logprob": math.log(0.7)}, {"token": "B", "logprob": math.log(0.3)}]
        rows = [
            {"request_id": row["request_id"], "tokens_in": 1, "tokens_out": 1}
            | ({"text": says(row)} if row["want"] == "text" else {"logprobs": lean})
            for row in requests.to_dicts()
        ]
        return Responses(pl.DataFrame(rows, schema=tables.schema("responses").dtypes))

    given = Prompts(prompts), Completions(completions)
    made = tables.typed(Votes, drive(jury_stage(*given, jury=mixed, reask=False), ask))
    alone = drive(logits(*given, judge=JUDGE, model=MODELS[1]), ask)
    leaning = made.filter(pl.col("annotator") == "llm:south/helpfulness:logits")
    assert leaning.equals(tables.typed(Votes, alone))
    assert leaning["preference"].round(9).unique().sort().to_list() == [0.3, 0.7]
    assert set(wants) == {"text", "choice"}


def test_a_member_that_never_answers_does_not_end_a_build(folder: Path):
    changes = ["models.poor.failure_rate=1.0"]
    made = prefdata.build(folder / "recipe.toml", data=folder / "data", changes=changes)
    assert made.unscored["annotate.jury"] == {"error: planted failure": N * 3 * 2}
    assert made.tables["votes"] == 3 * N * 3 * 2
    assert made.tables["pairs"] > 0


def test_a_jury_that_rates_is_refused(world: Callable[..., World]):
    rating = judges.load("helpfulness-rating")
    jury = Jury("raters", tuple(Member(rating, model) for model in MODELS))
    with pytest.raises(RecipeError, match="'raters' is a jury of pointwise judges"):
        next(
            jury_stage(Prompts(world()["prompts"]), Completions(world()["completions"]), jury=jury)
        )


RECIPE = """
name = "judged"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"
model = "writer"
spread = 0.3

[models.good]
client = "scripted"
model = "good"
accuracy = 0.9
price_in = 1.0
price_out = 2.0

[models.fair]
client = "scripted"
model = "fair"
accuracy = 0.75
price_in = 0.1
price_out = 0.2

[models.poor]
client = "scripted"
model = "poor"
accuracy = 0.6
failure_rate = 0.2

[[stages]]
use = "generate.sample"
model = "writer"
n = 3

[[stages]]
use = "annotate.jury"
jury = "juries/planted.toml"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"

[[exports]]
use = "export.pairwise"
"""
PLANTED = """
description = "three with planted errors"
""" + "".join(
    f'[[members]]\njudge = "helpfulness"\nmodel = "{role}"\n' for role in ("good", "fair", "poor")
)
N = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"question {at}"}) for at in range(N)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "juries").mkdir()
    (tmp_path / "juries" / "planted.toml").write_text(PLANTED)
    return tmp_path


def test_from_prompts_through_a_jury_to_pairs(folder: Path):
    made = prefdata.build(folder / "recipe.toml", data=folder / "data")
    quality = pl.col("completion").list.last().struct["content"].str.extract(r"quality=([\d.]+)")
    known = prefdata.load(made.name, "completions", data=folder / "data").select(
        "completion_id", q=quality.cast(pl.Float64)
    )
    votes = prefdata.load(made.name, "votes", data=folder / "data")
    truth = votes.join(known, left_on="completion_a", right_on="completion_id").join(
        known, left_on="completion_b", right_on="completion_id", suffix="_b"
    )
    right = truth.filter(pl.col("preference") != 0.5).group_by("annotator").agg(
        share=((pl.col("preference") == 1) == (pl.col("q") > pl.col("q_b"))).mean(), n=pl.len()
    )  # fmt: skip
    shares = {row["annotator"]: row["share"] for row in right.to_dicts()}
    planted = {"good": 0.9, "fair": 0.75, "poor": 0.6}
    assert set(shares) == {f"llm:{name}/helpfulness" for name in planted}
    n = N * 3 * 2
    for name, accuracy in planted.items():
        error = (accuracy * (1 - accuracy) / (n * 0.7)) ** 0.5
        assert shares[f"llm:{name}/helpfulness"] == pytest.approx(accuracy, abs=4 * error)
    failed = votes.filter(pl.col("unscored").is_not_null())
    assert failed["annotator"].unique().to_list() == ["llm:poor/helpfulness"]
    assert failed["unscored"].unique().to_list() == ["error: planted failure"]
    planned = plan(Recipe.load(folder / "recipe.toml"))
    kept = juries.load("juries/planted.toml", planned.models, Path(made.path))
    assert kept == planned.stages[1].options["jury"], "a version holds the jury that voted"
    pairs = prefdata.load(made.name, "pairs", data=folder / "data")
    assert pairs.height + made.dropped.get("pair.best_vs_worst", 0) == N
    sides = pairs.join(known, left_on="chosen_id", right_on="completion_id").join(
        known, left_on="rejected_id", right_on="completion_id", suffix="_rejected"
    )
    assert (sides["q"] > sides["q_rejected"]).mean() > 0.9
    again = prefdata.build(folder / "recipe.toml", data=folder / "data", n_shards=3)
    assert (again.id, again.is_new) == (made.id, False)


def test_the_members_of_a_jury_are_in_the_plan_and_what_they_are_decides_the_version(folder: Path):
    planned = plan(Recipe.load(folder / "recipe.toml"))
    stage = planned.stages[1]
    assert [model.role for model in stage.models] == ["good", "fair", "poor"]
    assert list(planned.judges) == ["helpfulness"]
    resolved = planned.resolved
    assert json.loads(json.dumps(resolved)) == resolved
    (folder / "juries" / "planted.toml").rename(folder / "juries" / "renamed.toml")
    text = RECIPE.replace("planted.toml", "renamed.toml")
    (folder / "recipe.toml").write_text(text)
    assert plan(Recipe.load(folder / "recipe.toml")).resolved == resolved
    (folder / "juries" / "renamed.toml").write_text(PLANTED.rpartition("[[members]]")[0])
    assert plan(Recipe.load(folder / "recipe.toml")).resolved != resolved


def test_two_juries_do_not_share_a_name(folder: Path):
    (folder / "other").mkdir()
    (folder / "other" / "planted.toml").write_text(PLANTED.replace('"fair"', '"writer"'))
    second = '[[stages]]\nuse = "annotate.jury"\njury = "{}/planted.toml"\nseed = 5\n'
    text = RECIPE.replace("[[exports]]", second + "\n[[exports]]")
    (folder / "recipe.toml").write_text(text.format("juries"))
    plan(Recipe.load(folder / "recipe.toml"))
    (folder / "recipe.toml").write_text(text.format("other"))
    with pytest.raises(RecipeError, match="two juries are called 'planted'"):
        plan(Recipe.load(folder / "recipe.toml"))


def test_a_plan_says_what_each_member_will_ask_and_cost(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    estimated = estimate(folder / "recipe.toml", data=folder / "data")
    said = plan_json(estimated)
    stage = said["stages"][1]
    members = {each["model"]: each for each in stage["by_model"]}
    assert list(members) == ["good", "fair", "poor"]
    n = N * 3 * 2
    assert [each["requests"] for each in members.values()] == [n, n, n]
    assert all(each["judges"] == ["helpfulness"] for each in members.values())
    for figure in ("requests", "answered", "tokens_in", "tokens_out", "cost"):
        assert sum(each[figure] for each in members.values()) == pytest.approx(stage[figure], abs=3)
    assert members["good"]["cost"] == pytest.approx(10 * members["fair"]["cost"])
    assert members["poor"]["cost"] == 0
    draw_plan(said, Console(width=120))
    drawn = capsys.readouterr().out
    assert all(f"{role}, helpfulness" in drawn for role in members)
    made = prefdata.build(folder / "recipe.toml", data=folder / "data")
    assert made.requests["asked"] == N * 3 + 3 * n
    after = plan_json(estimate(folder / "recipe.toml", data=folder / "data"))["stages"][1]
    assert [(each["requests"], each["answered"]) for each in after["by_model"]] == [(n, n)] * 3


@pytest.mark.parametrize(
    ("file", "found", "mistake", "said"),
    [
        ("juries/planted.toml", '"fair"', '"far"', ["planted.toml: members.1.model", "'fair'"]),
        ("juries/planted.toml", "judge =", "juge =", ["planted.toml: members.0.juge", "'judge'"]),
        ("recipe.toml", "planted.toml", "plnted.toml", ["plnted.toml", "no such jury file"]),
        ("recipe.toml", '"juries/planted.toml"', '"trio"', ["juries/trio.toml", "'judge_1'"]),
        ("recipe.toml", '"juries/planted.toml"', "7", ["jury", "'7'"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_in_a_jury_is_found_before_anything_is_asked(
    folder: Path, file: str, found: str, mistake: str, said: list[str]
):
    text = (folder / file).read_text()
    assert found in text
    (folder / file).write_text(text.replace(found, mistake, 1))
    with pytest.raises(RecipeError) as refused:
        plan(Recipe.load(folder / "recipe.toml"))
    for part in ("stage 2 (annotate.jury): jury", *said):
        assert part in str(refused.value)
    named = tomllib.loads((folder / "recipe.toml").read_text())["stages"][1]["jury"]
    assert not str(refused.value).endswith(f"found {named!r}"), "the file's name is not the fault"
