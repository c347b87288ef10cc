"""Features of rows: known texts, known votes, symmetry, and agreement with a plain table."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.route._alike import longest_common_subsequence, rouge_l
from prefdata.route.features import TEXTS, VOTES, features
from prefdata.stage import Model, drive
from prefdata.tables import Votes
from tests.annotate.planted import answered, world

TEXT = {
    "Who wrote Faust in 1808?": [
        "Goethe wrote Faust, the first part of which came in 1808.",
        "The first part came in 1808, and Goethe wrote it.",
    ],
    "Say nothing": ["", "Nothing."],
}


def voted(completions, preference=(1.0, 0.0)):
    two = completions.group_by("prompt_id").agg(pl.col("completion_id").sort())
    rows = two.select(
        "prompt_id",
        completion_a=pl.col("completion_id").list.first(),
        completion_b=pl.col("completion_id").list.last(),
        criterion=pl.lit("quality"),
        draw=pl.lit(0),
    )
    frames = [
        rows.with_columns(annotator=pl.lit(f"llm:{at}"), preference=pl.lit(each))
        for at, each in enumerate(preference)
    ]
    return tables.typed(Votes, pl.concat(frames).with_columns(a_first=pl.lit(True)))


def values(scores):
    return {
        name: dict(part.select("subject_id", "value").rows())
        for (name,), part in scores.group_by("score")
    }


def table_lcs(one, other):
    """By the table of the textbook."""
    best = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            best[i, j] = best[i - 1, j - 1] + 1 if a == b else max(best[i - 1, j], best[i, j - 1])
    return best[-1, -1]


def test_common_subsequences_are_those_of_the_textbook():
    draw = np.random.default_rng(0)
    for _ in range(200):
        one, other = (list(draw.choice(list("abcd"), draw.integers(0, 12))) for _ in range(2))
        assert longest_common_subsequence(one, other) == table_lcs(one, other)
        assert rouge_l(one, other) == rouge_l(other, one)
    assert rouge_l([], []) == rouge_l(["a"], ["a"]) == 1
    assert rouge_l(["a"], []) == 0


def test_texts_are_counted_in_words():
    prompts, completions = world(TEXT)
    votes = voted(completions)
    made = values(drive(features(prompts, completions, votes), None))
    assert set(made) == {*TEXTS, *VOTES} - {"swap_inconsistency"}
    by_length = {made["prompt_length"][id]: id for id in made["prompt_length"]}
    faust, silent = by_length[5], by_length[2]
    assert (made["shorter"][faust], made["longer"][faust]) == (10, 11)
    assert made["length_difference"][faust] == 1
    assert (made["shorter"][silent], made["rouge_l"][silent]) == (0, 0)
    # "the first part came in 1808" in either order of sides.
    assert made["rouge_l"][faust] == pytest.approx(2 * 6 / 21)
    # Goethe, Faust and 1808 against The, 1808 and Goethe.
    assert made["names_in_common"][faust] == pytest.approx(2 / 4)
    assert made["disagreement"] == {faust: 1, silent: 1}
    assert made["uncertainty"] == {faust: 0.5, silent: 0.5}
    assert made["expected_information"][faust] == pytest.approx(np.log(2))


def test_annotators_that_are_unsure_alike_leave_nothing_to_learn():
    _, completions = world(TEXT)
    prompts, _ = world(TEXT)
    made = values(drive(features(prompts, completions, voted(completions, (0.5, 0.5))), None))
    assert set(made["expected_information"].values()) == {0}
    assert set(made["uncertainty"].values()) == {0.5}


def test_a_model_adds_the_cosine_of_the_two_vectors():
    prompts, completions = world({"q": ["north", "east"], "r": ["north", "north again"]})
    at = {"north": [0.0, 2.0], "north again": [0.0, 1.0], "east": [3.0, 0.0]}

    def reply(row):
        return {"vector": at[row["messages"][-1]["content"]]}

    stage = features(prompts, completions, voted(completions), model=Model("m", label="e"))
    made, asked = answered(stage, reply)
    cosines = made.filter(score="embedding_cosine")
    assert sorted(cosines["value"]) == [0, 1]
    assert set(cosines["model"]) == {"e"}
    assert asked["want"].unique().to_list() == ["embedding"]


def test_a_matcher_adds_how_alike_the_two_are_token_by_token_and_for_their_lengths():
    prompts, completions = world({"q": ["a b c d", "a b"], "r": ["", "x"], "s": ["?", "!"]})
    made, asked = answered(
        features(prompts, completions, voted(completions), matcher=Model("m", label="e")),
        lambda row: {"number": 0.5},
    )
    known = values(made)
    by_words = {known["longer"][id]: id for id in known["longer"]}
    assert known["bertscore"] == dict.fromkeys(by_words.values(), 0.5)
    assert known["bertscore_length"][by_words[4]] == pytest.approx(0.5 * np.exp(1 - 4 / 2))
    assert known["bertscore_length"][by_words[1]] == 0
    assert known["bertscore_length"][by_words[0]] == 0.5, "two without words are as long"
    assert asked["want"].unique().to_list() == ["bertscore"]
    assert set(made.filter(score="bertscore")["model"]) == {"e"}


def test_a_pair_that_could_not_be_matched_has_no_such_score():
    prompts, completions = world(TEXT)
    stage = features(prompts, completions, voted(completions), matcher=Model("m"))
    made, _ = answered(stage, lambda row: {"error": "out of memory"})
    assert not set(made["score"]) & {"bertscore", "bertscore_length"}
    assert set(values(made)) >= set(TEXTS)


def test_rows_and_shards_in_any_order_have_the_same_features(shuffled):
    prompts, completions = world(TEXT)
    votes = voted(completions)
    whole = drive(features(prompts, completions, votes), None)
    mixed = drive(
        features(shuffled(prompts, 1), shuffled(completions, 2), shuffled(votes, 3)), None
    )
    assert whole.equals(mixed)
    parts = [
        drive(features(p, completions, votes.join(p, on="prompt_id", how="semi")), None)
        for p in prompts.iter_slices(1)
    ]
    assert tables.union("scores", *parts, where="test").equals(whole)
