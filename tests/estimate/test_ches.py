"""CHES against its golden figures and a loop over states, whatever the order of rows."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata import tables
from prefdata.errors import TableError
from prefdata.estimate import _sides
from prefdata.estimate._edit_distance import edit_distance
from prefdata.estimate.ches import ches, similarity
from prefdata.estimate.log_likelihood import log_likelihood
from prefdata.models.client import response, responses
from prefdata.stage import Model, drive
from prefdata.tables import Requests, Responses

TRAINED = Model("trained", identity="planted", options={"temperature": 0.7})


class States:
    """A model whose hidden states are known: drawn from the completion's text.

    A character is a token; before those of a completion it has read 7 and 7.
    """

    def __init__(self, fails: str = "") -> None:
        self.asked: list[dict[str, Any]] = []
        self.fails = fails

    @staticmethod
    def of(text: str) -> np.ndarray:
        draw = np.random.default_rng(list(text.encode()))
        return draw.normal(0.5, 1.0, size=(int(draw.integers(1, 9)), 5))

    def __call__(self, requests: Requests) -> Responses:
        self.asked += requests.to_dicts()
        return responses(self.reply(row) for row in requests.iter_rows(named=True))

    def reply(self, row: dict[str, Any]) -> dict[str, Any]:
        text = row["completion"][0]["content"]
        if self.fails and self.fails in text:
            return response(row["request_id"], error="planted failure")
        if row["want"] == "tokens":
            ids = [7, 7, *map(ord, text)]
            return response(row["request_id"], token_ids=ids, number=float(len(text)))
        if row["want"] == "logprobs":
            said = [{"token": each, "logprob": -ord(each) / 64} for each in text]
            number = sum(each["logprob"] for each in said)
            return response(row["request_id"], logprobs=said, number=number)
        states = self.of(text)
        pooled = states.mean(0) if '"mean"' in row["options"] else states[-1]
        return response(row["request_id"], vector=pooled.tolist(), number=float(len(states)))


def values(scores: pl.DataFrame, name: str) -> dict[str, float]:
    return dict(scores.filter(pl.col("score") == name).select("subject_id", "value").iter_rows())


def test_the_papers_two_scores_of_a_worked_example():
    chosen, rejected = np.array([[1, 0], [0, 1], [1, 1]]), np.array([[1, 0], [2, 0]])
    whole, normed = similarity(
        chosen.mean(0)[None], rejected.mean(0)[None], np.array([3.0]), np.array([2.0])
    )
    assert whole[0] == pytest.approx(-2.0)
    assert normed[0] == pytest.approx(0.1111, abs=1e-4)
    same, ln_same = similarity(
        chosen.mean(0)[None], chosen.mean(0)[None], np.array([3.0]), np.array([3.0])
    )
    assert same[0] == ln_same[0] == 0


def test_scores_are_those_of_sums_over_states_and_know_the_side(world: Any):
    made = world(5, 4)
    ask = States()
    scores, measures = drive(
        ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED), ask
    )
    tables.check("scores", scores, where="test")
    tables.check("measures", measures, where="test")
    said = {
        i: t[0]["content"]
        for i, t in made["completions"].select("completion_id", "completion").iter_rows()
    }
    whole, normed, last = (values(scores, n) for n in ("ches", "ln_ches", "last_hidden_product"))
    assert len(whole) == made["pairs"].height
    lengths = []
    for pair, won, lost in made["pairs"].select("pair_id", "chosen_id", "rejected_id").iter_rows():
        h, g = States.of(said[won]), States.of(said[lost])
        cross = sum(float(a @ b) for a in h for b in g)
        own = sum(float(a @ b) for a in h for b in h)
        assert whole[pair] == pytest.approx(cross - own, abs=1e-6)
        expected = cross / (len(h) * len(g)) - own / len(h) ** 2
        assert normed[pair] == pytest.approx(expected, abs=1e-6)
        assert last[pair] == pytest.approx(float(h[-1] @ g[-1]), abs=1e-6)
        lengths.append(len(g) - len(h))
    told = measures.filter(pl.col("subject") == "ches")["value"][0]
    ordered = [whole[pair] for pair in made["pairs"]["pair_id"]]
    assert told == pytest.approx(np.corrcoef(ordered, lengths)[0, 1], abs=1e-6)


def test_swapping_the_sides_changes_what_they_have_in_common_by_their_own_lengths(world: Any):
    """CHES(a, b) - CHES(b, a) = |S_b|^2 - |S_a|^2, whatever they have in common."""
    made = world(5, 4)
    swapped = made["pairs"].with_columns(chosen_id="rejected_id", rejected_id="chosen_id")
    tables_of = made["prompts"], made["completions"]
    one, other = (
        drive(ches(pairs, *tables_of, model=TRAINED), States())[0]
        for pairs in (made["pairs"], swapped)
    )
    said = {
        i: States.of(t[0]["content"]).sum(0)
        for i, t in made["completions"].select("completion_id", "completion").iter_rows()
    }
    there, back = (values(scores, "ches") for scores in (one, other))
    for pair, won, lost in made["pairs"].select("pair_id", "chosen_id", "rejected_id").iter_rows():
        own = said[lost] @ said[lost] - said[won] @ said[won]
        assert there[pair] - back[pair] == pytest.approx(own, abs=1e-6)
    for name in ("last_hidden_product", "negative_edit_distance"):
        assert values(one, name) == pytest.approx(values(other, name))


def test_each_completion_is_read_once_and_sampling_is_no_part_of_it(world: Any):
    made = world(5, 4)
    ask = States()
    drive(ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED), ask)
    hidden = [each for each in ask.asked if each["want"] == "hidden"]
    assert len(hidden) == 2 * made["completions"].height < 4 * made["pairs"].height
    assert not any("temperature" in each["options"] for each in ask.asked)


def table_of_distances(one: str, other: str) -> int:
    """Levenshtein's by the book, the whole table."""
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    table[:, 0], table[0, :] = range(len(one) + 1), range(len(other) + 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            near = table[i, j] + (a != b), table[i, j + 1] + 1, table[i + 1, j] + 1
            table[i + 1, j + 1] = min(near)
    return int(table[-1, -1])


@given(st.text("abc", max_size=80), st.text("abcd", max_size=80))
def test_edits_are_those_of_the_whole_table(one: str, other: str):
    expected = table_of_distances(one, other)
    assert edit_distance([*map(ord, one)], [*map(ord, other)]) == expected


def test_edits_are_shares_of_the_longer_side_and_not_of_the_prompt(world: Any):
    made = world(3, 12)
    scores, _ = drive(
        ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED), States()
    )
    said = {
        i: t[0]["content"]
        for i, t in made["completions"].select("completion_id", "completion").iter_rows()
    }
    found = values(scores, "negative_edit_distance")
    for pair, won, lost in made["pairs"].select("pair_id", "chosen_id", "rejected_id").iter_rows():
        edits = table_of_distances(said[won], said[lost])
        longer = max(len(said[won]), len(said[lost]))
        assert found[pair] == pytest.approx(-edits / longer)


def test_likelihoods_are_those_of_the_stage_for_them_asked_in_the_same_table(world: Any):
    made = world(4, 3)
    ask = States()
    both, _ = drive(
        ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED, likelihoods=True),
        ask,
    )
    alone = drive(
        log_likelihood(made["prompts"], made["completions"], made["pairs"], model=TRAINED),
        States(),
    )
    known = tables.union("scores", both, alone, where="test")
    assert known.height == both.height
    assert {each["want"] for each in ask.asked} == {"hidden", "tokens", "logprobs"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {"end": True}),
        ({"end": False}, {}),
        ({"layer": 4}, {"layer": 4, "end": True}),
        ({"norm": False, "end": False}, {"norm": False}),
    ],
)
def test_what_the_states_are_is_said_to_the_model(world: Any, options: Any, said: Any):
    made = world(2, 2)
    ask = States()
    drive(ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED, **options), ask)
    for row in ask.asked:
        if row["want"] == "hidden":
            asked = json.loads(row["options"])
            assert asked.pop("pool") in ("mean", "last")
            assert asked == said


def test_neither_order_nor_the_size_of_parts_matters(
    world: Any, shuffled: Any, monkeypatch: pytest.MonkeyPatch
):
    made = world(5, 4)
    whole, _ = drive(
        ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED), States()
    )
    monkeypatch.setattr(_sides, "PAIRS_AT_ONCE", 4)
    mixed = {name: shuffled(table, 3) for name, table in made.items()}
    parts, _ = drive(
        ches(mixed["pairs"], mixed["prompts"], mixed["completions"], model=TRAINED), States()
    )
    key = ["score", "subject_id"]
    assert whole.sort(key).drop("value").equals(parts.sort(key).drop("value"))
    assert np.allclose(whole.sort(key)["value"], parts.sort(key)["value"], rtol=1e-12)


def test_vectors_of_a_few_pairs_are_held_at_once(world: Any, monkeypatch: pytest.MonkeyPatch):
    """However many pairs there are, and the scores are those of all at once."""
    made = world(6, 5)
    given = (made["pairs"], made["prompts"], made["completions"])
    monkeypatch.setattr(_sides, "PAIRS_AT_ONCE", 3)
    asked: list[int] = []

    def ask(requests: Requests) -> Responses:
        asked.append(requests["completion"].n_unique())
        return States()(requests)

    drive(ches(*given, model=TRAINED), ask)
    assert len(asked) == made["pairs"].height / 3
    assert max(asked) <= 2 * 3


def test_a_failed_request_costs_its_own_pairs_only(world: Any):
    made = world(5, 3)
    scores, _ = drive(
        ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED),
        States(fails="answer 2"),
    )
    best = made["completions"].filter(
        pl.col("completion").list.first().struct.field("content") == "answer 2"
    )["completion_id"]
    lost = made["pairs"].filter(pl.col("chosen_id").is_in(best.implode()))["pair_id"]
    assert set(values(scores, "ches")) == set(made["pairs"]["pair_id"]) - set(lost)


class Odd(States):
    """Of some completions the states are odd: of another width, or no numbers."""

    def __init__(self, about: str, vector: list[float] | None) -> None:
        super().__init__()
        self.about, self.vector = about, vector

    def reply(self, row: dict[str, Any]) -> dict[str, Any]:
        said = super().reply(row)
        if row["want"] == "hidden" and self.about in row["completion"][0]["content"]:
            return {**said, "vector": self.vector}
        return said


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_states_that_are_no_numbers_cost_their_own_pairs_only(world: Any, bad: float):
    made = world(5, 3)
    given = (made["pairs"], made["prompts"], made["completions"])
    scores, _ = drive(ches(*given, model=TRAINED), Odd("answer 2", [0.0, bad, 1.0, 1.0, 1.0]))
    lost, _ = drive(ches(*given, model=TRAINED), States(fails="answer 2"))
    assert values(scores, "ches") == values(lost, "ches")
    assert 0 < len(values(scores, "ches")) < made["pairs"].height


def test_where_no_states_are_known_nothing_is_scored(world: Any):
    made = world(3, 2)
    scores, measures = drive(
        ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED), Odd("", None)
    )
    assert scores.is_empty()
    assert tables.check("measures", measures, where="test")["value"].null_count() == 2


def test_states_of_another_width_are_refused(world: Any):
    made = world(3, 2)
    with pytest.raises(TableError, match="trained gave states of 2 and of 5 numbers"):
        drive(
            ches(made["pairs"], made["prompts"], made["completions"], model=TRAINED),
            Odd("answer 1", [0.5, 0.5]),
        )


def test_one_completion_in_fifty_pairs_is_asked_about_once(world: Any):
    made = world(1, 51)
    ids = made["completions"]["completion_id"].to_list()
    pairs = pl.DataFrame({"chosen_id": ids[:1] * 50, "rejected_id": ids[1:]}).with_columns(
        tables.pair_ids(ids[:1] * 50, ids[1:]),
        prompt_id=pl.lit(made["prompts"]["prompt_id"][0]),
        soft_label=1.0,
        n_votes=1,
    )
    ask = States()
    pairs = tables.check("pairs", pairs, where="test")
    scores, _ = drive(ches(pairs, made["prompts"], made["completions"], model=TRAINED), ask)
    assert len(values(scores, "ln_ches")) == 50
    assert len(ask.asked) == 3 * 51


def test_a_pair_that_two_annotators_labelled_has_the_score_of_its_sides(world: Any):
    made = world(2, 2)
    ids = made["pairs"].select("chosen_id", "rejected_id")
    theirs = made["pairs"].with_columns(
        tables.pair_ids(ids["chosen_id"], ids["rejected_id"], "human:x"),
        annotator=pl.lit("human:x"),
    )
    both = tables.union("pairs", made["pairs"], theirs, where="test")
    ask = States()
    scores, _ = drive(ches(both, made["prompts"], made["completions"], model=TRAINED), ask)
    found = values(scores, "ches")
    for one, other in zip(made["pairs"]["pair_id"], theirs["pair_id"], strict=True):
        assert found[one] == found[other]
    assert len({each["request_id"] for each in ask.asked}) == len(ask.asked)


def test_no_pairs_no_scores(world: Any):
    made = world(2, 2)
    scores, measures = drive(
        ches(made["pairs"].clear(), made["prompts"], made["completions"], model=TRAINED), States()
    )
    assert scores.is_empty()
    assert measures.is_empty()
