import json
import random

import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.checklist_votes import checklist_votes
from prefdata.annotate.pairwise import pairwise
from prefdata.errors import RecipeError
from prefdata.tables import Completions, Prompts, Ratings, Votes
from tests.annotate.replying import MODEL, first, run, shards, shown

JUDGE = judges.load("checklist")
OPTIONS = {"judge": JUDGE, "model": MODEL}
LONG, SHORT = "a long answer with very many words in it", "brief"


def world(n: int = 4) -> tuple[Prompts, Completions, Ratings]:
    """A long and a short completion of each prompt; of all but the last the user wants it brief."""
    prompt = [[{"role": "user", "content": f"question {at}"}] for at in range(n)]
    ids = tables.prompt_ids(prompt)
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": prompt, "source": "test"})
    owners = [id for id in ids for _ in range(2)]
    said = [[{"role": "assistant", "content": text}] for _ in ids for text in (LONG, SHORT)]
    completions = pl.DataFrame(
        {
            "completion_id": tables.completion_ids(owners, said),
            "prompt_id": owners,
            "completion": said,
        }
    )
    wants = completions.filter(pl.col("prompt_id") != ids[-1]).unique("prompt_id").select(
        "completion_id",
        "prompt_id",
        annotator=pl.lit("llm:m/feedback"),
        criterion=pl.lit("user_satisfaction"),
        draw=0,
        rating=0.0,
        rationale=pl.lit("- be brief\n- no padding"),
    )  # fmt: skip
    return (
        tables.typed(Prompts, prompts),
        tables.typed(Completions, completions),
        tables.typed(Ratings, wants),
    )


def vain(request: dict) -> str:
    """A judge that likes length unless it is told that somebody wants it brief."""
    said = shown(request)
    longest = max(said, key=lambda letter: len(said[letter]))
    shortest = min(said, key=lambda letter: len(said[letter]))
    return json.dumps({"verdict": shortest if "- be brief" in first(request) else longest})


def made(*given: pl.DataFrame, reply=vain, **options: object) -> Votes:
    return tables.typed(Votes, run(checklist_votes(*given, **{**OPTIONS, **options}), reply))


def preferred(votes: Votes, completions: Completions) -> set[str]:
    side = pl.when(pl.col("preference") == 1).then("completion_a").otherwise("completion_b")
    rows = votes.select(completion_id=side).join(completions, on="completion_id")
    return set(rows["completion"].list.last().struct["content"])


def test_a_checklist_turns_a_judge_that_likes_length():
    prompts, completions, ratings = world()
    plain = run(pairwise(prompts, completions, judge=judges.load("helpfulness"), model=MODEL), vain)
    assert preferred(plain, completions) == {LONG}
    votes = made(prompts, completions, ratings)
    assert preferred(votes, completions) == {SHORT}
    assert votes.height == 3 * 2, "both orders, and nothing for whom nobody wanted anything"


def test_statements_are_those_of_the_criterion_each_once():
    prompts, completions, ratings = world(2)
    twice = ratings.with_columns(draw=pl.lit(1, pl.Int64), rationale=pl.lit("- be brief\n- x"))
    unread = ratings.with_columns(
        draw=pl.lit(2, pl.Int64),
        rating=pl.lit(None, pl.Float64),
        unscored=pl.lit("no verdict"),
        rationale=pl.lit("- unread"),
    )
    other = ratings.with_columns(criterion=pl.lit("other"), rationale=pl.lit("- another"))
    seen: set[str] = set()

    def reply(request: dict) -> str:
        listed = first(request).partition("The user wants:\n")[2].partition("\nThe better")[0]
        seen.add(listed)
        return vain(request)

    every = tables.typed(Ratings, pl.concat([ratings, twice, unread, other]))
    made(prompts, completions, every, reply=reply)
    assert seen == {"- be brief\n- no padding\n- x"}


def test_blank_statements_are_none():
    prompts, completions, ratings = world()
    for blank in ("", " \n\n"):
        empty = Ratings(ratings.with_columns(rationale=pl.lit(blank)))
        assert made(prompts, completions, empty).is_empty()


def test_votes_depend_on_neither_row_order_nor_shards():
    given = world(7)

    def noisy(request: dict) -> str:
        rng = random.Random(first(request))
        return "hm" if rng.random() < 0.2 else json.dumps({"verdict": rng.choice("AB")})

    whole = made(*given, reply=noisy, draws=3)
    assert 0 < whole["unscored"].null_count() < whole.height
    assert made(*(table.reverse() for table in given), reply=noisy, draws=3).equals(whole)
    parts = [
        made(*(shards(table, given[0], 3, at) for table in given), reply=noisy, draws=3)
        for at in range(3)
    ]
    assert tables.typed(Votes, pl.concat(parts)).equals(whole)


def test_a_pointwise_judge_is_refused():
    with pytest.raises(RecipeError, match="pointwise judge"):
        made(*world(), judge=judges.load("ultrafeedback"))


def test_without_statements_nothing_is_asked():
    prompts, completions, ratings = world()
    assert made(prompts, completions, Ratings(ratings.head(0))).is_empty()
