import math

import polars as pl
import pytest

from prefdata import tables as t
from prefdata.annotate.reward_model import reward_model
from prefdata.errors import RecipeError
from prefdata.models.scripted import ScriptedClient
from prefdata.models.spec import ModelSpec
from prefdata.stage import Model
from prefdata.tables import Completions, Prompts, Ratings, Scores, Votes
from tests.annotate.planted import answered, said, text_of, world

ONE, OTHER = Model("one", "one", "one@1"), Model("other", "other", "other@1")
TEXTS = {"p": ["a", "bb", "cccc"], "q": ["a", "dd"]}


def ran(reply, models=(ONE,), texts=TEXTS, **options):
    prompts, completions = world(texts)
    stage = reward_model(prompts, completions, models=models, **options)
    (scores, votes, ratings), asked = answered(stage, reply)
    made = t.typed(Scores, scores), t.typed(Votes, votes), t.typed(Ratings, ratings)
    return *made, asked, text_of(completions)


def length(row):
    return {"number": float(len(said(row)))}


def test_the_reward_is_kept_as_it_was_given():
    scores, _, ratings, asked, texts = ran(lambda row: {"number": -7.5 * len(said(row))})
    assert set(asked["want"]) == {"reward"}
    given = {row["subject_id"]: row["value"] for row in scores.to_dicts()}
    assert given == {key: -7.5 * len(text) for key, text in texts.items()}
    assert set(scores["request_id"]) == set(asked["request_id"])
    assert sorted(map(float, ratings["raw"])) == sorted(given.values())


def test_votes_are_bradley_terry_of_the_differences_within_a_prompt():
    _, votes, _, _, texts = ran(length, temperature=2.0)
    assert votes.height == 3 + 1
    assert votes["a_first"].null_count() == 4
    for row in votes.to_dicts():
        lead = len(texts[row["completion_a"]]) - len(texts[row["completion_b"]])
        assert row["preference"] == pytest.approx(1 / (1 + math.exp(-lead / 2)))


def test_what_a_model_adds_to_all_answers_of_a_prompt_changes_no_vote():
    _, plain, _, _, _ = ran(length)
    by_prompt = {"p": 100.0, "q": -40.0}
    _, moved, _, _, _ = ran(
        lambda row: {"number": len(said(row)) + by_prompt[row["messages"][0]["content"]]}
    )
    assert moved["preference"].to_list() == pytest.approx(plain["preference"].to_list())


def test_hard_votes_know_ties():
    _, votes, _, _, texts = ran(length, temperature=None)
    expected = [
        1.0 if len(texts[a]) > len(texts[b]) else 0.0
        for a, b in votes.select("completion_a", "completion_b").rows()
    ]
    assert votes["preference"].to_list() == expected
    _, even, _, _, _ = ran(lambda _: {"number": 3.0}, temperature=None)
    assert set(even["preference"]) == {0.5}


def test_ratings_keep_the_order_and_are_in_0_to_1():
    scores, _, ratings, _, _ = ran(length, centre=2.0, width=1.0)
    both = ratings.join(scores, left_on="completion_id", right_on="subject_id").sort("value")
    assert both["rating"].is_sorted()
    at_centre = both.filter(pl.col("value") == 2.0)["rating"]
    assert at_centre.to_list() == [0.5] * 2
    assert both["rating"].is_between(0, 1).all()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"error": "timed out"}, "error: timed out"),
        ({}, "error: the model gave no number"),
    ],
)
def test_what_failed_is_unscored_with_the_reason_and_no_score(reply, reason):
    def broken(row):
        return reply if said(row) == "bb" else length(row)

    scores, votes, ratings, _, _ = ran(broken)
    assert scores.height == 4
    assert ratings.filter(pl.col("rating").is_null())["unscored"].to_list() == [reason]
    assert votes.filter(pl.col("preference").is_null())["unscored"].to_list() == [reason] * 2


def test_models_are_annotators_of_their_own_and_their_spread_is_seen():
    def reply(row):
        return {"number": len(said(row)) * (1.0 if row["model"] == "one" else -0.5)}

    scores, votes, _, _, _ = ran(reply, models=(ONE, OTHER))
    assert set(votes["annotator"]) == {"reward:one", "reward:other"}
    spread = scores.group_by("subject_id").agg(pl.col("value").std(ddof=0))
    assert (spread["value"] > 0).all()


def test_an_ensemble_of_one_model_is_refused():
    prompts, completions = world(TEXTS)
    again = Model("again", "again", ONE.identity)
    for models, complaint in (((), "empty"), ((ONE, ONE), "name"), ((ONE, again), "weights")):
        with pytest.raises(RecipeError, match=complaint):
            next(reward_model(prompts, completions, models=models))
    for bad in (0.0, -1.0, math.inf):
        with pytest.raises(RecipeError, match="above 0"):
            next(reward_model(prompts, completions, models=[ONE], temperature=bad))


def test_order_of_rows_and_shards_do_not_matter():
    prompts, completions = world(TEXTS)

    def made(p, c):
        return answered(reward_model(p, c, models=[ONE]), length)[0]

    whole = made(prompts, completions)
    shuffled = made(prompts, Completions(completions.sample(fraction=1.0, shuffle=True, seed=2)))
    parts = [
        made(Prompts(prompts.filter(prompt_id=key)), Completions(completions.filter(prompt_id=key)))
        for key in prompts["prompt_id"]
    ]
    for at, name in enumerate(("scores", "votes", "ratings")):
        key = list(t.schema(name).key)
        assert whole[at].sort(key).equals(shuffled[at].sort(key))
        assert whole[at].sort(key).equals(pl.concat(part[at] for part in parts).sort(key))


def test_the_planted_model_gives_planted_rewards():
    texts = {"p": ["x quality=0.25", "y quality=0.75"]}
    client = ScriptedClient(ModelSpec(client="scripted", model="planted"))
    prompts, completions = world(texts)
    stage = reward_model(prompts, completions, models=[ONE])
    asked = next(stage)
    with pytest.raises(StopIteration) as stop:
        stage.send(t.typed(t.Responses, pl.concat(client.answer(asked))))
    assert sorted(stop.value.value[0]["value"]) == [0.25, 0.75]
