import json
import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.generate.contextual import contextual
from prefdata.judge import load
from prefdata.measure.context_sensitivity import context_sensitivity
from prefdata.sources import as_pairs
from prefdata.stage import Model
from prefdata.tables import Completions, Pairs, Prompts, Votes
from prefdata.version import assign_splits
from tests.annotate.replying import MODEL, Reply, first, run, shown, world

JUDGE = load("in-context")
CHECKER = Model("checker", label="c", identity="c@1")


def texts(request: dict[str, Any]) -> list[str]:
    return re.findall(r"```\n(.*?)\n```", first(request), re.DOTALL)


def finds(request: dict[str, Any]) -> dict[str, str]:
    """A criterion names the number of its reply, a scenario that of its criterion, in words."""
    _, one, other = (re.findall(r"\d+", text) for text in texts(request))
    if "First reply" in first(request):
        return {"first": f"It has number {one[0]}.", "second": f"It has number {other[0]}."}
    return {"first": f"A friend of {one[0]}.", "second": f"A friend of {other[0]}."}


def follows(request: dict[str, Any]) -> dict[str, str]:
    """Prefers the reply with the number that the prompt's context names."""
    context = texts(request)[0]
    number = re.findall(r"(?:number|friend of) (\d+)", context)[0]
    replies = shown(request)
    return {"verdict": next(a for a, text in replies.items() if text.split()[1] == number)}


def asks_contexts(request: dict[str, Any]) -> bool:
    return "first" in json.loads(request["options"])["schema"]["properties"]


def reply(found: Any = finds, said: Any = follows) -> Reply:
    return lambda request: json.dumps((found if asks_contexts(request) else said)(request))


def made(
    n_prompts: int = 3, n: int = 2, answer: Reply | None = None, **options: Any
) -> tuple[Prompts, Completions, Votes, pl.DataFrame]:
    given = {"model": MODEL, "judge": JUDGE, "checker": CHECKER, **options}
    return run(contextual(*world(n_prompts, n), **given), answer or reply())


def labels(votes: Votes) -> pl.DataFrame:
    return votes.filter(pl.col("annotator") == "llm:m/contextual")


def number_of(completions: Completions) -> dict[str, str]:
    """What each completion says, which is what its context names."""
    text = pl.col("completion").list[0].struct["content"].str.extract(r"answer (\d+)")
    return dict(completions.select("completion_id", text).rows())


def test_each_of_two_is_preferred_once_under_each_kind():
    prompts, completions, votes, dropped = made(4)
    assert dropped.is_empty()
    assert (prompts.height, completions.height) == (4 + 4 * 4, 8 + 4 * 8)
    said = number_of(completions)
    contexts = dict(
        prompts.filter(pl.col("tags").is_not_null())
        .select("prompt_id", pl.col("prompt").list[0].struct["content"])
        .rows()
    )
    told = labels(votes)
    assert told.height == 16
    for prompt_id, a, b, p in told.select(
        "prompt_id", "completion_a", "completion_b", "preference"
    ).rows():
        assert re.findall(r"\d+", contexts[prompt_id]) == [said[a if p == 1.0 else b]]
    # The judge confirms each in both orders.
    judged = votes.filter(pl.col("annotator") == "llm:c/in-context")
    both = judged.join(told, on=["completion_a", "completion_b"], suffix="_meant")
    assert (both.height, judged.height) == (32, 32)
    assert (both["preference"] == both["preference_meant"]).all()
    kinds = prompts["tags"].explode().drop_nulls().value_counts()
    assert dict(kinds.rows()) == {"context:criterion": 8, "context:scenario": 8}
    assert (told["request_id"].n_unique(), told["request_id"].null_count()) == (8, 0)


@pytest.mark.parametrize("taste", [-1, 1, 0], ids=["low", "high", "none"])
def test_who_reads_no_context_is_right_in_half_of_it_and_who_does_always(taste: int):
    """Labels of one side of each two only would let a taste for it look right."""
    prompts, completions, votes, _ = made(9)
    likes = {id: taste * int(number) for id, number in number_of(completions).items()}
    rows = labels(votes)
    two = rows.select("completion_a", "completion_b").rows()
    blind = [(1 + np.sign(likes[a] - likes[b])) / 2 for a, b in two]
    mine = rows.with_columns(
        annotator=pl.lit("llm:blind"),
        preference=pl.Series(blind),
        request_id=pl.lit(None, pl.String),
    )
    votes = tables.union("votes", votes, mine, where="test")
    found = context_sensitivity(
        Votes(votes), completions, prompts, annotator="llm:m/contextual"
    )  # fmt: skip
    value = {(m, s): v for m, s, v in found.select("measure", "subject", "value").rows()}
    assert value["context_accuracy", "llm:blind"] == 0.5
    assert value["context_sensitivity", "llm:blind"] == 0.0
    assert value["context_accuracy", "llm:c/in-context"] == 1.0
    assert value["context_sensitivity", "llm:c/in-context"] == 1.0


def test_siblings_and_what_they_are_made_of_are_one_group():
    prompts, completions, votes, _ = made(30)
    named = prompts.with_columns(
        parent=pl.col("prompt").list.last().struct["content"]
    ).group_by("parent").agg(pl.col("group").n_unique(), rows=pl.len())  # fmt: skip
    assert named["group"].unique().to_list() == [1]
    assert named["rows"].unique().to_list() == [5]
    pairs, _ = as_pairs(Votes(labels(votes)))
    frames = {"prompts": prompts, "completions": completions, "pairs": pairs}
    split = assign_splits(frames, {"test": 0.3}, 1)["pairs"].join(prompts, on="prompt_id")
    assert split["split"].n_unique() == 2
    assert split.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1


def test_a_group_that_is_there_stays():
    prompts, completions = world(2, 2)
    prompts = Prompts(prompts.with_columns(group=pl.lit("all"), user=pl.lit("u")))
    found, *_ = run(
        contextual(prompts, completions, model=MODEL, judge=JUDGE), reply()
    )  # fmt: skip
    assert set(found["group"]) == {"all"}
    assert set(found["user"]) == {"u"}


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_judge_that_follows_the_place_confirms_nothing(letter: str):
    prompts, completions, votes, dropped = made(answer=reply(said=lambda _: {"verdict": letter}))
    assert (prompts.height, completions.height, votes.height) == (3, 6, 0)
    assert set(prompts["group"]) == {None}
    assert dropped.height == 6
    assert set(dropped["reason"]) == {"the judge confirms 2 of 4 labels, 0 without a verdict"}


def test_a_context_whose_sibling_fails_goes_with_it():
    """One side alone would have a label that a taste can guess."""

    def likes_one(request: dict[str, Any]) -> dict[str, str]:
        return {"verdict": next(a for a, text in shown(request).items() if "answer 1" in text)}

    prompts, _, votes, dropped = made(answer=reply(said=likes_one))
    assert (prompts.height, votes.height, dropped.height) == (3, 0, 6)


FAULTY: list[tuple[dict[str, str], str]] = [
    ({"first": "Be brief.", "second": "be  brief"}, "both contexts are the same"),
    ({"first": "Be brief.", "second": "As the first reply does."}, "where a reply stood"),
    ({"first": "Be brief.", "second": "Like reply B"}, "where a reply stood"),
    ({"first": "Be brief.", "second": " "}, "cannot be read"),
    ({"first": "Be brief."}, "cannot be read"),
]


@pytest.mark.parametrize(("said", "reason"), FAULTY)
def test_contexts_that_cannot_stand_are_dropped_with_the_reason(said: dict[str, str], reason: str):
    heard: list[str] = []

    def answer(request: dict[str, Any]) -> str:
        heard.append(first(request))
        return json.dumps(said)

    prompts, _, votes, dropped = made(answer=answer, reask=False)
    assert (prompts.height, votes.height, len(heard)) == (3, 0, 3)  # and no scenario is asked for
    assert dropped.height == 3
    assert all(reason in each for each in dropped["reason"])


def test_a_scenario_does_not_name_its_criterion():
    def names(request: dict[str, Any]) -> dict[str, str]:
        found = finds(request)
        if "First reply" in first(request):
            return found
        _, one, _ = texts(request)
        return {**found, "first": f"Somebody says: {one}"}

    prompts, _, _, dropped = made(answer=reply(found=names))
    assert set(dropped["reason"]) == {"the scenario names its criterion"}
    assert set(prompts["tags"].explode().drop_nulls()) == {"context:criterion"}


def test_the_order_in_which_replies_are_shown_tells_no_label():
    """With one side always first, a model that finds contexts for the first only would do."""
    heard: list[tuple[str, str]] = []

    def answer(request: dict[str, Any]) -> str:
        if asks_contexts(request) and "First reply" in first(request):
            heard.append(tuple(texts(request)[1:]))  # pyright: ignore[reportArgumentType]
        return reply()(request) or ""

    made(60, answer=answer)
    firsts = sum("answer 0" in one for one, _ in heard)
    assert 15 < firsts < 45
    letters = labels(made(60)[2])["preference"]
    assert letters.sum() == pytest.approx(len(letters) / 2, abs=40)


def test_names_order_and_shards_change_nothing(shuffled: Any):
    prompts, completions = world(6, 3)
    whole = run(contextual(prompts, completions, model=MODEL, judge=JUDGE, max_pairs=None), reply())
    mixed = run(
        contextual(
            Prompts(shuffled(prompts, 1)), Completions(shuffled(completions, 2)),
            model=MODEL, judge=JUDGE, max_pairs=None,
        ),
        reply(),
    )  # fmt: skip
    for one, other in zip(whole, mixed, strict=True):
        assert one.equals(other)
    parts = [
        run(
            contextual(
                Prompts(prompts[at : at + 2]),
                Completions(completions.join(prompts[at : at + 2], on="prompt_id", how="semi")),
                model=MODEL, judge=JUDGE, max_pairs=None,
            ),
            reply(),
        )
        for at in (0, 2, 4)
    ]  # fmt: skip
    for name, table, shards in zip(
        ("prompts", "completions", "votes"), whole, zip(*parts, strict=True), strict=False
    ):
        assert tables.union(name, *shards, where="test").equals(table)


def test_only_pairs_are_asked_about_where_there_are_some_and_contexts_get_none():
    prompts, completions = world(3, 3)
    two = completions.filter(pl.col("prompt_id") == prompts["prompt_id"][0])["completion_id"]
    pairs = tables.typed(
        Pairs,
        pl.DataFrame(
            {
                "pair_id": tables.pair_ids([two[0]], [two[2]]),
                "prompt_id": [prompts["prompt_id"][0]],
                "chosen_id": [two[0]],
                "rejected_id": [two[2]],
                "soft_label": [1.0],
                "n_votes": [1],
            }
        ),
    )
    options: Any = {"model": MODEL, "judge": JUDGE, "kinds": ["scenario"]}
    once = run(contextual(prompts, completions, pairs, **options), reply())
    assert (once[0].height, once[1].height) == (5, 13)
    again = run(contextual(once[0], once[1], pairs, **options), reply())
    assert again[0].equals(once[0])
    assert again[1].equals(once[1])
    # Asked about all pairs, the prompts in context are left alone.
    more = run(contextual(once[0], once[1], max_pairs=None, **options), reply())
    assert more[0]["prompt"].list.len().max() == 2


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_context_can_stand_in_the_prompt_itself(place: str):
    prompts, *_ = made(2, place=place)
    new = prompts.filter(pl.col("tags").is_not_null())
    assert new.height == 8
    for turns in new["prompt"].to_list():
        parts = turns[-1]["content"].split("\n\n")
        assert (len(turns), len(parts)) == (1, 2)
        assert parts[0 if place == "after" else 1].startswith("question")


def test_wrong_options_are_refused():
    given = world(1, 2)
    with pytest.raises(RecipeError, match="pointwise"):
        run(contextual(*given, model=MODEL, judge=load("ultrafeedback")), reply())
    with pytest.raises(RecipeError, match="kinds"):
        run(contextual(*given, model=MODEL, judge=JUDGE, kinds=[]), reply())


def test_profiles_make_contexts_where_two_of_them_prefer_different_ones():
    profiles = ["A friend of 0.", "A friend of 1,  too.", "An old friend of 1.", "A friend of 0."]

    def only_judges(request: dict[str, Any]) -> str:
        assert not asks_contexts(request)
        return json.dumps(follows(request))

    prompts, completions, votes, dropped = made(
        12, answer=only_judges, kinds=["profile"], profiles=profiles
    )
    assert dropped.is_empty()
    said = number_of(completions)
    contexts = dict(
        prompts.filter(pl.col("tags").list.contains("context:profile"))
        .select("prompt_id", pl.col("prompt").list[0].struct["content"])
        .rows()
    )
    assert len(contexts) == 24
    told = labels(votes)
    for prompt_id, a, b, p in told.select(
        "prompt_id", "completion_a", "completion_b", "preference"
    ).rows():
        assert re.findall(r"friend of (\d)", contexts[prompt_id]) == [said[a if p == 1.0 else b]]
    # Two siblings, one for either completion, and every profile is met somewhere.
    assert prompts.group_by("group").len()["len"].unique().to_list() == [3]
    assert len(set(contexts.values())) == 3
    found = context_sensitivity(votes, completions, prompts, annotator="llm:m/contextual")
    assert found.filter(pl.col("measure") == "context_sensitivity")["value"].to_list() == [1.0]


@pytest.mark.parametrize("verdict", [None, "A", "tie"])
def test_profiles_that_all_prefer_one_or_that_go_by_place_make_none(verdict: str | None):
    def says(request: dict[str, Any]) -> dict[str, str]:
        return follows(request) if verdict is None else {"verdict": verdict}

    profiles = ["A friend of 0.", "Another friend of 0."]
    prompts, _, votes, dropped = made(
        3, answer=reply(said=says), kinds=["profile"], profiles=profiles
    )
    assert prompts.height == 3
    assert votes.is_empty()
    assert (
        dropped["reason"].to_list() == ["no two profiles prefer different ones, in both orders"] * 3
    )


@pytest.mark.parametrize("options", [{"kinds": ["profile"]}, {"profiles": ["a", "b"]},
                                     {"kinds": ["profile"], "profiles": ["a"]}])  # fmt: skip
def test_profiles_and_their_kind_go_together(options: dict[str, Any]):
    with pytest.raises(RecipeError, match="profiles"):
        made(2, **options)
