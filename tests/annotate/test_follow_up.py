import polars as pl
import pytest

from prefdata import tables as t
from prefdata.annotate.follow_up import NEGATIVE, POSITIVE, follow_up
from prefdata.errors import RecipeError
from prefdata.stage import Model
from prefdata.tables import Scores, Votes
from tests.annotate.planted import answered, logprobs, said, text_of, world

MODEL = Model("lm", "lm", "lm@1")
TEXTS = {"p": ["good answer", "bad answer"], "q": ["good one", "bad one"]}


def ran(reply, **options):
    prompts, completions = world(TEXTS)
    (scores, votes), asked = answered(
        follow_up(prompts, completions, model=MODEL, **options), reply
    )
    return t.typed(Scores, scores), t.typed(Votes, votes), asked, text_of(completions)


def listener(row):
    """Thanks are likelier after a good answer; a usual prompt makes all follow-ups likelier."""
    words = said(row).split()
    is_good = "good" in row["messages"][-1]["content"]
    usual = 2.0 if row["messages"][0]["content"] == "q" else 0.0
    content = is_good == (said(row) in POSITIVE)
    return logprobs([(-1.0 if content else -1.5) - 2 + usual] * len(words))


def values(scores, name):
    about = scores.filter(pl.col("score") == name)
    return {row["subject_id"]: row["value"] for row in about.to_dicts()}


def preferred(votes, texts):
    return {
        texts[row["completion_a"] if row["preference"] > 0.5 else row["completion_b"]]
        for row in votes.to_dicts()
    }


def test_a_follow_up_is_the_next_turn_of_the_user_and_alone_is_scored():
    _, _, asked, _ = ran(listener)
    assert asked.height == 4 * (len(POSITIVE) + len(NEGATIVE))
    assert set(asked["want"]) == {"logprobs"}
    for messages, given in asked.select("messages", "completion").iter_rows():
        assert [turn["role"] for turn in messages] == ["user", "assistant"]
        assert [turn["role"] for turn in given] == ["user"]


def test_the_difference_tells_the_good_from_the_bad_whatever_is_usual():
    scores, votes, _, texts = ran(listener)
    reward = {texts[k]: v for k, v in values(scores, "follow_up").items()}
    assert reward == {
        "good answer": pytest.approx(0.5),
        "good one": pytest.approx(0.5),
        "bad answer": pytest.approx(-0.5),
        "bad one": pytest.approx(-0.5),
    }
    assert preferred(votes, texts) == {"good answer", "good one"}
    # One half alone finds the bad answer of the usual prompt better than the other's good one.
    half = {texts[k]: v for k, v in values(scores, "follow_up_positive").items()}
    assert half["bad one"] > half["good answer"]


def test_ten_more_words_in_one_complaint_turn_nothing_around_but_in_the_sum():
    def reply(row):
        words = said(row).split()
        # A complaint is always a little likelier a word after the bad answer.
        gain = 0.1 if ("bad" in row["messages"][-1]["content"]) == (words[0] == "No") else 0.0
        return logprobs([gain - 1.0] * len(words))

    long = "No " + "really " * 10 + "wrong"
    for negative in (["No, wrong"], [long]):
        _, votes, _, texts = ran(reply, positive=["Thank you so much"], negative=negative)
        assert preferred(votes, texts) == {"good answer", "good one"}
    plain, _, _, _ = ran(reply, positive=["Thanks a lot"], negative=[long])
    summed, _, _, _ = ran(reply, positive=["Thanks a lot"], negative=[long], summed=True)
    assert max(values(plain, "follow_up").values()) < 1 < max(values(summed, "follow_up").values())


def test_where_one_follow_up_failed_there_is_no_score():
    def reply(row):
        is_bad = said(row) == POSITIVE[0] and "good answer" in row["messages"][-1]["content"]
        return {"error": "too long"} if is_bad else listener(row)

    scores, votes, _, _ = ran(reply)
    assert len(values(scores, "follow_up")) == len(values(scores, "follow_up_negative")) == 3
    assert votes["preference"].null_count() == 1
    assert votes["unscored"].drop_nulls().to_list() == ["error: too long"]


def test_soft_votes_and_refusals():
    _, votes, _, _ = ran(listener, temperature=1.0)
    assert votes["preference"].is_between(0, 1, closed="none").all()
    for options in ({"positive": []}, {"negative": [" "]}, {"positive": ["a"], "negative": ["a"]}):
        with pytest.raises(RecipeError, match="follow_up"):
            ran(listener, **options)


def test_order_of_rows_does_not_matter():
    prompts, completions = world(TEXTS)
    shuffled = completions.sample(fraction=1.0, shuffle=True, seed=3)
    one, other = (
        answered(follow_up(prompts, each, model=MODEL), listener)[0]
        for each in (completions, shuffled)
    )
    assert one[0].equals(other[0])
    assert one[1].equals(other[1])
