import math

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.annotate.implicit_reward import implicit_reward
from prefdata.errors import RecipeError
from prefdata.stage import Model
from prefdata.tables import Scores, Votes
from tests.annotate.planted import answered, logprobs, said, text_of, world

POLICY, REFERENCE = Model("policy", "tuned", "tuned@1"), Model("start", "start", "start@1")


def ran(reply, texts, **options):
    prompts, completions = world(texts)
    stage = implicit_reward(prompts, completions, policy=POLICY, reference=REFERENCE, **options)
    (scores, votes), asked = answered(stage, reply)
    return t.typed(Scores, scores), t.typed(Votes, votes), asked, text_of(completions)


def categorical(n_prompts: int, n_texts: int, beta: float, noise: float, seed: int):
    """Policies over a few texts: log pi = log pi_start + (r + noise) / beta - log Z."""
    draw = np.random.default_rng(seed)
    start = np.log(draw.dirichlet(np.ones(n_texts), n_prompts))
    reward = draw.normal(size=(n_prompts, n_texts))
    tilted = start + (reward + noise * draw.normal(size=reward.shape)) / beta
    tuned = tilted - np.log(np.exp(tilted).sum(1, keepdims=True))
    texts = {f"p{i}": [f"{i} {j}" for j in range(n_texts)] for i in range(n_prompts)}

    def reply(row):
        i, j = map(int, said(row).split())
        whole = (tuned if row["model"] == "policy" else start)[i, j]
        return logprobs([whole / 2, whole / 2])

    return texts, reward, reply


def test_differences_of_the_score_are_those_of_the_reward_it_was_trained_on():
    texts, reward, reply = categorical(20, 3, beta=0.7, noise=0.0, seed=0)
    scores, votes, asked, said_by = ran(reply, texts, beta=0.7)
    assert set(asked["want"]) == {"logprobs"}
    # Where to end is a part of what was taught: the requests are those of estimate.log_likelihood.
    assert set(asked["options"]) == {'{"end": "template"}'}
    assert asked.height == 2 * 60
    truth = {f"{i} {j}": reward[i, j] for i in range(20) for j in range(3)}
    value = {said_by[k]: v for k, v in scores.select("subject_id", "value").iter_rows()}
    for i in range(20):
        for j in (1, 2):
            assert value[f"{i} {j}"] - value[f"{i} 0"] == pytest.approx(
                truth[f"{i} {j}"] - truth[f"{i} 0"]
            )
    for row in votes.to_dicts():
        lead = truth[said_by[row["completion_a"]]] - truth[said_by[row["completion_b"]]]
        assert row["preference"] == pytest.approx(1 / (1 + math.exp(-lead)))
    assert set(votes["annotator"]) == {"reward:tuned/implicit"}


def test_labels_are_right_as_often_as_the_noise_allows():
    noise, n = 0.8, 1500
    texts, reward, reply = categorical(n, 2, beta=0.1, noise=noise, seed=1)
    _, votes, _, said_by = ran(reply, texts, hard=True)
    right = []
    for row in votes.to_dicts():
        (i, j), (_, k) = (
            map(int, said_by[row[c]].split()) for c in ("completion_a", "completion_b")
        )
        right.append((reward[i, j] > reward[i, k]) == (row["preference"] == 1.0))
    # Two normal differences with the correlation 1 / sqrt(1 + noise^2) agree in sign so often.
    expected = 0.5 + math.asin(1 / math.sqrt(1 + noise**2)) / math.pi
    assert np.mean(right) == pytest.approx(expected, abs=3 * math.sqrt(0.25 / n))


def test_the_likelihood_alone_and_the_mean_are_other_rewards():
    """A short usual text has the higher probability, a long one the higher ratio."""
    texts = {"p": ["yes", "a long and better answer"]}

    def reply(row):
        n = len(said(row).split())
        gain = 0.2 if row["model"] == "policy" and n > 1 else 0.0
        gain = 0.3 if row["model"] == "policy" and n == 1 else gain
        return logprobs([gain - 1.0] * n)

    summed, votes, _, said_by = ran(reply, texts, beta=1.0)
    value = {said_by[k]: v for k, v in summed.select("subject_id", "value").iter_rows()}
    assert value == {"yes": pytest.approx(0.3), "a long and better answer": pytest.approx(1.0)}
    mean, _, _, _ = ran(reply, texts, beta=1.0, per_token=True)
    value = {said_by[k]: v for k, v in mean.select("subject_id", "value").iter_rows()}
    assert value == {"yes": pytest.approx(0.3), "a long and better answer": pytest.approx(0.2)}
    assert votes.height == 1


@pytest.mark.parametrize("broken", ["policy", "start"])
def test_either_model_may_fail(broken):
    def reply(row):
        return {"error": "too long"} if row["model"] == broken else logprobs([-1.0])

    scores, votes, _, _ = ran(reply, {"p": ["a", "b"]})
    assert scores.is_empty()
    assert votes.select("preference", "unscored").rows() == [(None, "error: too long")]


def test_no_tokens_and_no_number_are_no_likelihood():
    for reply in ({"number": 0.0}, {}, {"number": 0.0, "logprobs": []}):
        scores, votes, _, _ = ran(lambda _, given=reply: given, {"p": ["a", "b"]})
        assert scores.is_empty()
        assert votes["preference"].null_count() == 1


def test_a_model_against_itself_is_refused():
    prompts, completions = world({"p": ["a", "b"]})
    for policy in (REFERENCE, Model("renamed", "renamed", REFERENCE.identity)):
        with pytest.raises(RecipeError, match="ratio is 1"):
            next(implicit_reward(prompts, completions, policy=policy, reference=REFERENCE))
    with pytest.raises(RecipeError, match="above 0"):
        ran(lambda _: logprobs([-1.0]), {"p": ["a"]}, beta=0.0)


def test_order_of_rows_does_not_matter():
    texts, _, reply = categorical(5, 3, beta=1.0, noise=0.0, seed=2)
    prompts, completions = world(texts)
    made = []
    for each in (completions, completions.sample(fraction=1.0, shuffle=True, seed=4)):
        stage = implicit_reward(prompts, each, policy=POLICY, reference=REFERENCE)
        made.append(answered(stage, reply)[0])
    assert made[0][0].equals(made[1][0])
    assert made[0][1].equals(made[1][1])
    assert isinstance(made[0][0], pl.DataFrame)
