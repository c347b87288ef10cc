from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.measure.context_mixture import MEASURES, context_mixture
from prefdata.tables import Completions, Prompts, Scores, Votes

GOLD, JUDGE = "human:gold", "llm:j"


class Mixed(NamedTuple):
    votes: Any
    completions: Any
    prompts: Any
    scores: Any
    bare: dict[str, tuple[str, bool]]


def mixed(
    n: int,
    weights: Any,
    truth: Any,
    *,
    n_votes: int,
    seed: int = 0,
    gold: Any = None,
    right: Any = None,
) -> Mixed:
    """n prompts with two texts x and y, asked under contexts; `truth` is P(x) under each.

    Without votes to draw the judge gives its preference as it is; `gold` gives gold's. `weights`
    are the score "likely", `right` the score "right". `bare` has of each group the pair of the
    prompt without a context, and whether x has the smaller id.
    """
    draw = np.random.default_rng(seed)
    prompts, rows, votes, scores = [], [], [], []
    bare: dict[str, tuple[str, bool]] = {}
    for at in range(n):
        texts = [[{"role": "assistant", "content": f"{side} {at}"}] for side in "xy"]
        for z in range(-1, len(weights[at])):
            asked = [{"role": "user", "content": f"question {at} {z}"}]
            (prompt_id,) = tables.prompt_ids([asked])
            tags = None if z < 0 else ["context:criterion"]
            prompts.append({"prompt_id": prompt_id, "prompt": asked, "source": "t",
                            "group": f"g{at}", "tags": tags})  # fmt: skip
            ids = tables.completion_ids([prompt_id] * 2, texts).to_list()
            rows += [{"completion_id": i, "prompt_id": prompt_id, "completion": text}
                     for i, text in zip(ids, texts, strict=True)]  # fmt: skip
            a, b = sorted(ids)
            if z < 0:
                bare[f"g{at}"] = (tables.pair_ids([a], [b])[0], ids[0] == a)
                continue
            scores += [
                {"subject_id": prompt_id, "subject": "prompt", "score": name, "value": float(w[z])}
                for name, w in (
                    ("likely", weights[at]),
                    ("right", (weights if right is None else right)[at]),
                )
            ]
            said = [truth[at][z]] if not n_votes else draw.random(n_votes) < truth[at][z]
            told = [(JUDGE, k, p) for k, p in enumerate(said)]
            told += [] if gold is None else [(GOLD, 0, gold[at][z])]
            votes += [
                {"completion_a": a, "completion_b": b, "prompt_id": prompt_id, "annotator": who,
                 "criterion": "c", "draw": k,
                 "preference": float(p) if ids[0] == a else 1 - float(p)}
                for who, k, p in told
            ]  # fmt: skip
    frames = ((Votes, votes), (Completions, rows), (Prompts, prompts), (Scores, scores))
    made = (tables.typed(kind, pl.DataFrame(frame)) for kind, frame in frames)
    return Mixed(*made, bare)


def errors(given: Mixed, **options: Any) -> dict[str, float]:
    found = context_mixture(*given[:4], annotator=GOLD, **options)
    found = tables.check("measures", found, where="test")
    assert set(found["subject"]) == {JUDGE}
    return dict(found.select("measure", "value").rows())


def test_errors_are_those_of_the_formula_and_the_bound_holds_for_every_row():
    draw = np.random.default_rng(1)
    for _ in range(60):
        q, pi = draw.dirichlet([0.5] * 3, 2)
        p, g = draw.random((2, 3)).round(3)
        given = mixed(1, [q], [p], n_votes=0, gold=[g], right=[pi])
        told = errors(given, weights="likely", gold_weights="right")
        mixture, judging, choice = (told[name] for name in MEASURES)
        assert mixture == pytest.approx(abs(q @ p - pi @ g), abs=1e-8)
        assert judging == pytest.approx(pi @ abs(p - g), abs=1e-8)
        assert choice == pytest.approx(abs(q - pi).sum() / 2, abs=1e-8)
        assert mixture <= judging + choice + 1e-8


def test_who_judges_and_weighs_as_gold_does_errs_nowhere():
    draw = np.random.default_rng(2)
    p = draw.random((30, 2)).round(3)
    given = mixed(30, draw.dirichlet([1, 1], 30), p, n_votes=0, gold=p)
    told = errors(given, weights="likely", gold_weights="likely")
    assert list(told.values()) == pytest.approx([0, 0, 0], abs=1e-12)
    assert errors(given, gold_weights="likely")["context_judging_error"] == pytest.approx(0)
    assert errors(given, gold_weights="likely")["context_choice_error"] > 0.05


def test_contexts_of_one_of_them_only_are_no_comparison_and_the_missing_are_named():
    given = mixed(2, np.full((2, 2), 0.5), np.full((2, 2), 0.7), n_votes=0, gold=np.ones((2, 2)))
    first = given.prompts.filter(pl.col("tags").is_not_null(), pl.col("group") == "g0")["prompt_id"]
    gold = pl.col("annotator") == GOLD
    fewer = given.votes.filter(~gold | (pl.col("prompt_id") != first[0]))
    found = context_mixture(fewer, *given[1:4], annotator=GOLD)
    assert found["n"].to_list() == [1, 1, 1]
    lost = context_mixture(given.votes, *given[1:4], annotator="human:golf")
    assert lost["value"].null_count() == lost.height == 6
    assert lost["note"].str.contains("did you mean 'human:gold'").all()
