import re

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.explain import _predict
from prefdata.explain.attributes import attributes
from prefdata.tables import Completions, Prompts, Ratings, Scores
from tests.explain.planted import labelled


def world(values, weights, *, groups=None, seed=0):
    """Comparisons of two completions whose attributes `values` (n, 2, names) have weights."""
    draw = np.random.default_rng(seed + 1000)
    n, _, k = values.shape
    asked = [[{"role": "user", "content": f"question {seed} {at}"}] for at in range(n)]
    prompts = pl.DataFrame(
        {"prompt_id": tables.prompt_ids(asked), "prompt": asked, "source": "test", "group": groups},
        schema_overrides={"group": pl.String},
    )
    owners = [each for each in prompts["prompt_id"] for _ in (0, 1)]
    said = [[{"role": "assistant", "content": f"reply {at % 2}"}] for at in range(2 * n)]
    ids = tables.completion_ids(owners, said)
    apart = (values[:, 0] - values[:, 1]) @ np.asarray(weights)
    one = draw.random(n) < 1 / (1 + np.exp(-apart))
    scores = pl.DataFrame(
        {
            "subject_id": np.repeat(ids.to_numpy(), k),
            "subject": "completion",
            "score": np.tile([f"s{at}" for at in range(k)], 2 * n),
            "value": values.reshape(-1),
        }
    )
    completions = {"completion_id": ids, "prompt_id": owners, "completion": said}
    return (
        tables.typed(Prompts, prompts),
        tables.typed(Completions, pl.DataFrame(completions)),
        labelled(prompts, ids, one),
        tables.typed(Scores, scores),
    )


def normal(n, k, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 2, k))


def found(made, measure, subject):
    return made.filter(measure=measure, subject=subject).to_dicts()[0]


def value(made, measure, subject):
    return found(made, measure, subject)["value"]


def column(made, measure, k):
    return np.array([value(made, measure, f"s{at}") for at in range(k)])


def test_scorers_are_ranked_and_agree_as_often_as_they_must():
    """Differences are normal with variance 2, so how often each agrees is an integral."""
    weights = np.array([0.0, 0.2, 1.0])
    made = attributes(*world(normal(6000, 3), weights), length=False, permutations=19)
    draw = np.random.default_rng(9).standard_normal((200_000, 3)) * np.sqrt(2)
    p = 1 / (1 + np.exp(-draw @ weights))
    expected = np.where(draw > 0, p[:, None], 1 - p[:, None]).mean(0)
    assert column(made, "attribute_agreement", 3) == pytest.approx(expected, abs=0.02)
    none = found(made, "attribute_agreement", "s0")
    assert none["low"] < 0.5 < none["high"]
    # One spread is sqrt(2) of the planted unit.
    assert column(made, "attribute_weight", 3) == pytest.approx(weights * np.sqrt(2), abs=0.1)
    for at, weight in enumerate(weights * np.sqrt(2)):
        row = found(made, "attribute_weight", f"s{at}")
        assert row["low"] < weight < row["high"]
    assert value(made, "attribute_gain", "s2") > 0.1
    assert value(made, "attribute_p", "s2") == 1 / 20


def test_weights_of_seven_correlated_features_from_940_comparisons():
    mixed = np.eye(7) + 0.4 * np.random.default_rng(4).standard_normal((7, 7))
    values = normal(940, 7, 5) @ mixed
    weights = np.array([0.8, -0.6, 0.0, 0.5, 0.3, -0.4, 0.7])
    made = attributes(*world(values, weights, seed=5), length=False, permutations=19)
    apart = values[:, 0] - values[:, 1]
    spread = np.sqrt((apart**2).mean(0))
    learnt = column(made, "attribute_weight", 7) / spread
    assert learnt @ weights / np.linalg.norm(learnt) / np.linalg.norm(weights) >= 0.95
    assert (np.sign(learnt) == np.sign(weights))[weights != 0].all()
    bayes = (1 / (1 + np.exp(-np.abs(apart @ weights)))).mean()
    assert value(made, "attributes_accuracy", "all") == pytest.approx(bayes, abs=0.03)


def test_weights_are_those_of_another_library():
    prompts, completions, pairs, scores = world(normal(400, 3), [1.0, -0.5, 0.2])
    made = attributes(prompts, completions, pairs, scores, length=False, permutations=19)
    of = scores.pivot("score", index="subject_id", values="value")
    chosen, rejected = (
        pairs.select(subject_id=side).join(of, on="subject_id", how="left", maintain_order="left")
        for side in ("chosen_id", "rejected_id")
    )
    x = chosen.drop("subject_id").to_numpy() - rejected.drop("subject_id").to_numpy()
    x /= np.sqrt((x**2).mean(0))
    y = np.where(np.arange(400) % 2, 1, -1)
    fit = LogisticRegression(C=100, fit_intercept=False, tol=1e-8).fit(x * y[:, None], y)
    assert column(made, "attribute_weight", 3) == pytest.approx(fit.coef_[0], abs=1e-4)


def test_what_only_goes_along_explains_alone_and_not_among_the_others():
    values = normal(1500, 2, 2)
    values[:, :, 1] = values[:, :, 0] + 0.7 * values[:, :, 1]
    made = attributes(*world(values, [1.2, 0.0], seed=2), length=False, permutations=39)
    assert value(made, "attribute_p", "s1") < 0.05
    assert found(made, "attribute_weight_alone", "s1")["low"] > 0.5
    joint = found(made, "attribute_weight", "s1")
    assert joint["low"] < 0 < joint["high"]
    assert found(made, "attribute_gain", "s1")["low"] < 0.005
    assert found(made, "attribute_gain", "s0")["low"] > 0


def test_labels_at_random_are_seldom_explained():
    p = [
        value(
            attributes(
                *world(normal(60, 5, seed), np.zeros(5), seed=seed),
                length=False, permutations=39, folds=5,
            ),
            "attributes_p", "all",
        )
        for seed in range(12)
    ]  # fmt: skip
    assert np.mean(np.array(p) <= 0.05) <= 0.25
    assert 0.25 < np.mean(p) < 0.75


def test_siblings_in_other_folds_do_not_tell_a_label():
    """40 features that name 100 prompt groups, each thrice, and labels of groups at random.

    Folds of rows find the label of a group in its siblings, and so would the null's.
    """
    accuracies, leaking = [], []
    for seed in range(6):
        draw = np.random.default_rng(seed)
        x = np.repeat(draw.standard_normal((100, 40)), 3, axis=0)
        rows = pl.DataFrame({"group": np.repeat([f"g{at:03d}" for at in range(100)], 3)})
        fold = _predict.folds_of(rows["group"], 10, seed)
        assert rows.with_columns(fold=fold).group_by("group").agg(
            pl.col("fold").n_unique()
        )["fold"].to_list() == [1] * 100  # fmt: skip
        one = np.ones((300, 1))
        accuracies.append(_predict.hits(_predict.predicted(x, one, fold, 0.01)).mean())
        by_row = np.arange(300) % 10
        leaking.append(_predict.hits(_predict.predicted(x, one, by_row, 0.01)).mean())
    assert 0.43 < np.mean(accuracies) < 0.57
    assert np.mean(leaking) > 0.65


def test_units_order_and_the_way_round():
    prompts, completions, pairs, scores = world(normal(80, 2), [1.0, -0.5])
    made = attributes(prompts, completions, pairs, scores, permutations=19)
    other = scores.with_columns(value=pl.col("value") * 40 + 7)
    mixed = [t.sample(fraction=1, shuffle=True, seed=3) for t in (completions, pairs, other)]
    again = attributes(prompts.reverse(), *mixed, permutations=19)
    assert made["value"].to_numpy() == pytest.approx(again["value"].to_numpy(), nan_ok=True)
    turned = pairs.rename({"chosen_id": "rejected_id", "rejected_id": "chosen_id"})
    back = attributes(prompts, completions, turned, scores, permutations=19)
    for measure in ("attribute_weight", "attribute_weight_alone"):
        assert column(back, measure, 2) == pytest.approx(-column(made, measure, 2), abs=1e-6)
    agree = column(made, "attribute_agreement", 2)
    assert column(back, "attribute_agreement", 2) == pytest.approx(1 - agree)
    for measure in ("attributes_accuracy", "attributes_null", "attributes_p"):
        assert value(back, measure, "all") == pytest.approx(value(made, measure, "all"))


def test_ties_are_halves_and_missing_values_no_comparison():
    prompts, completions, pairs, scores = world(np.zeros((20, 2, 1)), [0.0])
    some = pairs["chosen_id"][:5].to_list()
    more = scores.with_columns(
        value=pl.when(pl.col("subject_id").is_in(some)).then(1.0).otherwise("value")
    )
    more = more.filter(pl.col("subject_id") != pairs["chosen_id"][19])
    made = attributes(prompts, completions, pairs, more, permutations=19)
    whole, untied = (found(made, f"attribute_agreement{end}", "s0") for end in ("", "_untied"))
    assert (whole["value"], whole["n"]) == (pytest.approx((5 + 14 / 2) / 19), 19)
    assert (untied["value"], untied["n"]) == (1.0, 5)
    length = found(made, "attribute_weight", "log_length")
    assert (length["value"], length["n"], length["note"]) == (
        None,
        0,
        "no comparison differs in it",
    )


def test_ratings_are_named_by_who_gave_them_and_draws_are_averaged():
    prompts, completions, pairs, _ = world(normal(30, 1), [0.0])
    chosen = pl.col("completion_id").is_in(pairs["chosen_id"].to_list())
    rated = completions.select("completion_id", "prompt_id", criterion=pl.lit("clear"))
    # One draw is against the label by less than the other is for it.
    draws = [
        rated.with_columns(
            annotator=pl.lit("human:u"), draw=draw, rating=pl.when(chosen).then(up).otherwise(down)
        )
        for draw, up, down in ((0, 0.4, 0.6), (1, 1.0, 0.0))
    ]
    other = rated.with_columns(
        annotator=pl.lit("human:v"), draw=0, rating=pl.when(chosen).then(0.0).otherwise(1.0)
    )
    ratings = tables.typed(Ratings, pl.concat([*draws, other]))
    made = attributes(prompts, completions, pairs, None, ratings, permutations=19)
    assert value(made, "attribute_agreement", "clear/human:u") == 1.0
    assert value(made, "attribute_agreement", "clear/human:v") == 0.0
    only = attributes(
        prompts, completions, pairs, None, ratings, attributes=["clear/human:v"], permutations=19
    )
    assert set(only["subject"]) == {"clear/human:v", "all"}


def test_mistakes_are_named():
    given = world(normal(4, 1), [0.0])
    for options, said in (
        ({"attributes": ["s9"]}, "no completion has 's9'"),
        ({"folds": 1}, "folds = 1"),
        ({"permutations": 3}, "permutations = 3"),
    ):
        with pytest.raises(RecipeError, match=re.escape(said)):
            attributes(*given, **options)
