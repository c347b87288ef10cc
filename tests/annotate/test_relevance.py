import hashlib

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.annotate.relevance import relevance
from prefdata.stage import Model
from prefdata.tables import Scores, Votes
from tests.annotate.planted import answered, text_of, world

MODEL = Model("retriever", "retriever", "retriever@1")
TOPICS = [[f"t{topic}w{at}" for at in range(40)] for topic in range(6)]


def meaning(row):
    """The mean of the topics of a text's words, as a retriever finds it."""
    vector = np.zeros(7)
    words = " ".join(turn["content"] for turn in row["messages"]).split()
    for word in words:
        topic = int(word[1]) if word.startswith("t") and word[1:2].isdigit() else 6
        vector[topic] += 1
    return {"vector": (vector / max(len(words), 1)).tolist()}


def ran(texts, references=None, **options):
    prompts, completions = world(texts, references)
    stage = relevance(prompts, completions, model=MODEL, **options)
    (scores, votes), _ = answered(stage, meaning)
    return t.typed(Scores, scores), t.typed(Votes, votes), text_of(completions)


def by_text(scores, texts, name="relevance"):
    about = scores.filter((pl.col("score") == name) & (pl.col("subject") == "completion"))
    return {texts[k]: v for k, v in about.select("subject_id", "value").iter_rows()}


def written(topic: int, n: int, seed: str) -> str:
    draw = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16))
    return " ".join(draw.choice(TOPICS[topic], n))


QUESTION = "t0w1 t0w2 t0w3 t0w4 t0w5 t0w6"
HUMAN = written(0, 80, "human")
COPIED = QUESTION
REPEATED = " ".join(["t0w1 t0w2 t0w3"] * 100)
RAMBLING = written(3, 2000, "rambling")
PROBES = {"length": COPIED, "variety": REPEATED, "dot": RAMBLING}


def test_short_and_about_it_beats_long_and_about_something_else():
    texts = {
        written(0, 8, f"q{at}"): [written(0, 40, f"on{at}"), written(1 + at % 5, 300, f"off{at}")]
        for at in range(100)
    }
    _, votes, said = ran(texts)
    won = [
        said[row["completion_a"] if row["preference"] > 0.5 else row["completion_b"]]
        for row in votes.to_dicts()
    ]
    assert np.mean([len(text.split()) == 40 for text in won]) >= 0.95


@pytest.mark.parametrize("term", PROBES)
def test_each_way_to_cheat_is_caught_by_the_term_that_is_meant_for_it(term):
    texts = {QUESTION: [HUMAN, *PROBES.values()]}
    scores, _, said = ran(texts)
    parts = {n: by_text(scores, said, f"relevance_{n}") for n in ("dot", "length", "variety")}
    whole = by_text(scores, said)
    assert max(whole, key=whole.__getitem__) == HUMAN
    for text, value in whole.items():
        assert value == pytest.approx(np.prod([parts[name][text] for name in parts]))
    without = {
        text: float(np.prod([parts[name][text] for name in parts if name != term]))
        for text in (HUMAN, PROBES[term])
    }
    assert without[PROBES[term]] >= without[HUMAN]


def test_length_is_no_merit_where_there_is_a_right_answer():
    right, padded = "t1w1", "t1w1 " + written(4, 300, "padding")
    texts = {QUESTION: [HUMAN, COPIED], "t2w1 t2w2": [right, padded]}
    scores, votes, said = ran(texts, {"t2w1 t2w2": "t1w1"})
    value = by_text(scores, said)
    assert value[right] > value[padded]
    as_open, _, _ = ran(texts, {"t2w1 t2w2": "t1w1"}, closed=False)
    assert by_text(as_open, said)[right] != value[right]
    assert votes.height == 2


def test_the_scale_of_closed_questions_is_that_of_the_open_ones():
    texts = {QUESTION: [written(0, n, f"o{n}") for n in range(10, 60)]}
    texts["closed"] = [f"t1w1 {written(4, n, f'c{n}')}" for n in range(1, 50)]
    scores, _, said = ran(texts, {"closed": "t1w1"})
    anchors = dict(
        scores.filter(pl.col("subject") == "annotator").select("score", "value").iter_rows()
    )
    assert len(anchors) == 4
    dot, variety = (by_text(scores, said, f"relevance_{n}") for n in ("dot", "variety"))
    value = by_text(scores, said)
    for text in texts["closed"]:
        low, high = anchors["relevance_low_closed"], anchors["relevance_high_closed"]
        share = (dot[text] - low) / (high - low)
        low, high = anchors["relevance_low_open"], anchors["relevance_high_open"]
        assert value[text] == pytest.approx((low + share * (high - low)) * variety[text])


def test_the_dot_product_is_not_a_cosine():
    prompts, completions = world({"p": ["a b c", "d e f"]})

    def reply(row):
        return {"vector": [2.0, 0.0] if row["messages"][0]["content"] == "d e f" else [1.0, 0.0]}

    (scores, _), _ = answered(relevance(prompts, completions, model=MODEL), reply)
    assert by_text(scores, text_of(completions), "relevance_dot") == {"a b c": 1.0, "d e f": 2.0}


def test_failures_short_texts_and_order_of_rows():
    texts = {"p": ["", "hi", "a b c d"]}
    prompts, completions = world(texts)
    shuffled = completions.sample(fraction=1.0, shuffle=True, seed=1)
    made = [
        answered(relevance(prompts, each, model=MODEL), meaning)[0]
        for each in (completions, shuffled)
    ]
    assert made[0][0].equals(made[1][0])
    assert set(by_text(made[0][0], text_of(completions), "relevance_variety").values()) == {1.0}

    def broken(row):
        is_bad = row["messages"][0]["content"] == "hi"
        return {"error": "no"} if is_bad else {"vector": [1.0]}

    (scores, votes), _ = answered(relevance(prompts, completions, model=MODEL), broken)
    assert len(by_text(scores, text_of(completions))) == 2
    assert votes["unscored"].drop_nulls().to_list() == ["error: no"] * 2
    (scores, votes), _ = answered(
        relevance(prompts, completions, model=MODEL),
        lambda row: {"vector": [1.0] * (1 + len(row["messages"][0]["content"]))},
    )
    assert "one length" in votes["unscored"].drop_nulls()[0]
