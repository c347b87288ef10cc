"""Dawid-Skene: planted confusions, its optimum, its symmetries, and another library's answer."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from crowdkit.aggregation import DawidSkene

from prefdata import tables
from prefdata.aggregate._labels import labels_of_ratings, labels_of_votes
from prefdata.aggregate.dawid_skene import dawid_skene, fit_dawid_skene
from prefdata.aggregate.glad import glad
from prefdata.aggregate.mace import mace
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Ratings, Votes
from tests.aggregate.planted import (
    check_symmetries,
    draw_labels,
    mixed,
    pair_values,
    ratings_of,
    score_of,
    voted_world,
    votes_of,
)


def graded_world(seed, n=600, n_annotators=12, k=3, each=8):
    """Items of k grades; an annotator's matrix is a diagonal between 0.4 and 0.95 and a bias."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, k, n)
    confusion = np.stack(
        [
            right * np.eye(k) + (1 - right) * draw.dirichlet(np.ones(k), k)
            for right in draw.uniform(0.3, 0.9, n_annotators)
        ]
    )
    item, annotator, label = draw_labels(draw, truth, confusion, each)
    return truth, confusion, item, annotator, label


def plain_log_likelihood(log_prior, log_confusion, item, annotator, label):
    total = np.tile(log_prior, (item.max() + 1, 1))
    for i, j, x in zip(item, annotator, label, strict=True):
        total[i] += log_confusion[j, :, x]
    return np.logaddexp.reduce(total, axis=1).sum(), total


def test_planted_confusions_and_grades_are_recovered():
    truth, confusion, item, annotator, label = graded_world(0, n=4000)
    ratings = ratings_of(item, annotator, label / 2)
    (graded,) = labels_of_ratings(ratings, None, None, where="test")
    found = fit_dawid_skene(graded.labels, prior=0.1)
    assert np.abs(np.exp(found.confusion) - confusion).max() < 0.06
    assert (found.posterior.argmax(1) == truth).mean() > 0.88
    strengths, scores = dawid_skene(ratings=ratings)
    error = strengths["strength"].to_numpy() - truth / 2
    assert abs(error.mean()) < 0.01
    assert np.abs(error / np.maximum(strengths["stderr"].to_numpy(), 0.05)).mean() < 1
    grade = scores.filter(pl.col("score") == "grade/quality").sort("subject_id")["value"]
    assert (grade.to_numpy() == truth / 2).mean() > 0.88


def test_the_density_never_falls_and_the_optimum_is_a_fixed_point():
    """At the end, each matrix is the posterior's mean counts, counted in a plain loop."""
    _, _, item, annotator, label = graded_world(1)
    (graded,) = labels_of_ratings(ratings_of(item, annotator, label / 2), None, None, where="test")
    found = fit_dawid_skene(graded.labels, prior=0.5, right=0, tolerance=1e-10)
    assert (np.diff(found.density) > -1e-8).all()
    assert len(found.density) > 3
    likelihood, total = plain_log_likelihood(
        found.log_prior, found.confusion, item, annotator, label
    )
    assert found.log_likelihood == pytest.approx(likelihood)
    posterior = np.exp(total - np.logaddexp.reduce(total, axis=1, keepdims=True))
    assert np.allclose(posterior, found.posterior, atol=1e-9)
    counts = np.full((12, 3, 3), 0.5)
    for i, j, x in zip(item, annotator, label, strict=True):
        counts[j, :, x] += posterior[i]
    assert np.allclose(np.exp(found.confusion), counts / counts.sum(2, keepdims=True), atol=1e-7)
    share = posterior.sum(0) + 1
    assert np.allclose(np.exp(found.log_prior), share / share.sum(), atol=1e-8)


@pytest.mark.parametrize("seed", [2, 3])
def test_no_less_likely_than_crowd_kits_and_the_same_grades(seed):
    _, _, item, annotator, label = graded_world(seed)
    theirs = DawidSkene(n_iter=1000, tol=1e-9)
    frame = pd.DataFrame({"task": item, "worker": annotator, "label": label})
    theirs.fit(frame)
    assert theirs.errors_ is not None
    assert theirs.probas_ is not None
    errors = theirs.errors_[[0, 1, 2]].unstack("label")[
        [(k, x) for k in range(3) for x in range(3)]
    ]
    errors = errors.fillna(0).sort_index().to_numpy().reshape(12, 3, 3)
    prior = np.log(theirs.priors_.sort_index().to_numpy())
    reached, _ = plain_log_likelihood(
        prior, np.log(np.maximum(errors, 1e-12)), item, annotator, label
    )
    (graded,) = labels_of_ratings(ratings_of(item, annotator, label / 2), None, None, where="test")
    found = fit_dawid_skene(graded.labels, prior=0, right=0, class_prior=0)
    assert found.log_likelihood > reached - 1e-3
    assert np.allclose(
        found.posterior, theirs.probas_.sort_index()[[0, 1, 2]].to_numpy(), atol=0.01
    )


def test_positions_are_recovered_and_ignoring_them_costs():
    a_better, right, lean, votes = voted_world(4, n=4000, bias=0.3)
    strengths, scores = dawid_skene(votes)
    value = pair_values(scores, len(a_better))
    accuracy, effect = (
        scores.filter(pl.col("score") == name).sort("subject_id")["value"].to_numpy()
        for name in ("estimated_accuracy", "position_effect")
    )
    assert np.abs(effect - 2 * lean).max() < 0.07
    clipped = np.clip(right + lean, 0.02, 0.98) + 1 - np.clip(1 - right + lean, 0.02, 0.98)
    assert np.abs(accuracy - clipped / 2).max() < 0.05
    ignored = pair_values(dawid_skene(votes, position_effects=False)[1], len(a_better))
    log_loss = [-np.log(np.where(a_better, v, 1 - v)).mean() for v in (value, ignored)]
    assert log_loss[0] < 0.95 * log_loss[1]
    a = strengths.filter(pl.col("completion_id").str.ends_with("a")).sort("completion_id")
    assert np.allclose(a["strength"].to_numpy(), value)


@pytest.mark.parametrize(
    "options",
    [{}, {"position_effects": False}, {"matrix": "one_coin"}, {"true_ties": True}],
    ids=str,
)
def test_exchanging_a_and_b_exchanges_the_result(options):
    a_better, _, _, votes = voted_world(5, n=150)
    check_symmetries(
        lambda v: dawid_skene(v, tolerance=1e-9, **options), mixed(votes), len(a_better)
    )


def test_a_judge_that_always_says_the_first_says_nothing():
    """Shown in both orders it is told from one that knows, even where it is the majority."""
    n, draw = 200, np.random.default_rng(6)
    better = draw.random(n) < 0.5
    pair, annotator, preference, a_first = [], [], [], []
    for i in range(n):
        for j in range(5):
            for first in (True, False):
                pair.append(i)
                annotator.append(j)
                a_first.append(first)
                knows = j < 2 and draw.random() < 0.9
                preference.append(float(better[i] if knows else first))
    votes = votes_of(pair, annotator, preference, a_first)
    _, scores = dawid_skene(votes)
    effect = score_of(scores, "position_effect")
    assert effect["human:0004"] > 0.97
    assert abs(effect["human:0000"]) < 0.2
    assert ((pair_values(scores, n) > 0.5) == better).mean() > 0.97


def test_unknown_order_is_no_position_effect():
    """Votes of unknown order have tied matrices: the fit is that without positions."""
    a_better, _, _, votes = voted_world(7, n=300, known=False)
    _, scores = dawid_skene(votes, tolerance=1e-9)
    _, without = dawid_skene(votes, tolerance=1e-9, position_effects=False)
    n = len(a_better)
    assert np.allclose(pair_values(scores, n), pair_values(without, n), atol=0.02)
    effect = scores.filter(pl.col("score") == "position_effect")["value"].to_numpy()
    assert np.abs(effect).max() < 1e-6


def test_one_coin_is_the_weighted_vote_by_log_odds():
    """With one coin and two classes the posterior is the sum of log odds of being right."""
    a_better, _, _, votes = voted_world(8, n=300)
    _, scores = dawid_skene(votes, matrix="one_coin", prior=0, tolerance=1e-10)
    right = score_of(scores, "estimated_accuracy")
    odds = {name: np.log(p / (1 - p)) for name, p in right.items()}
    said = votes.with_columns(
        weight=pl.col("annotator").replace_strict(odds, return_dtype=pl.Float64)
        * (2 * pl.col("preference") - 1)
    )
    total = said.group_by("completion_a").agg(pl.col("weight").sum()).sort("completion_a")
    expected = 1 / (1 + np.exp(-total["weight"].to_numpy()))
    assert np.allclose(pair_values(scores, len(a_better)), expected, atol=1e-6)


def test_true_ties_are_found():
    draw = np.random.default_rng(9)
    truth = draw.integers(0, 3, 1500)
    confusion = np.full((8, 3, 3), 0.15) + 0.55 * np.eye(3)
    item, annotator, label = draw_labels(draw, truth, confusion, 7)
    preference = np.array([1, 0, 0.5])[label]
    value = pair_values(dawid_skene(votes_of(item, annotator, preference), true_ties=True)[1], 1500)
    nearest = np.abs(value[:, None] - np.array([1, 0, 0.5])).argmin(1)
    assert (nearest == truth).mean() > 0.9


def test_abstaining_where_a_grade_is_low_is_evidence_of_it():
    """Annotators who are silent on bad completions: their silence is a label if it is wanted."""
    draw = np.random.default_rng(10)
    truth = draw.integers(0, 2, 1000)
    rows = np.array([[0.35, 0.15, 0.5], [0.15, 0.8, 0.05]])
    item, annotator, label = draw_labels(draw, truth, np.tile(rows, (6, 1, 1)), 5)
    ratings = ratings_of(item, annotator, np.array([0, 1, np.nan])[label])
    right = {}
    for wanted in (True, False):
        strengths, scores = dawid_skene(ratings=ratings, abstentions=wanted)
        known = strengths.join(
            pl.DataFrame({"completion_id": [f"c{i:06}" for i in range(1000)], "truth": truth}),
            on="completion_id",
            how="right",
        )
        called = known["strength"].fill_null(0.5).to_numpy() > 0.5
        right[wanted] = (called == known["truth"].to_numpy()).mean()
        assert ("abstention" in scores["score"].to_list()) == wanted
    assert right[True] > right[False] + 0.02


def test_several_criteria_are_averaged_by_weight():
    _, _, item, annotator, label = graded_world(11, n=60)
    one = ratings_of(item, annotator, label / 2)
    other = ratings_of(item, annotator, 1 - label / 2, criterion="brevity")
    both = Ratings(pl.concat([one, other]))
    parts = [dawid_skene(ratings=r)[0]["strength"].to_numpy() for r in (one, other)]
    strengths = dawid_skene(ratings=both, weights={"quality": 3})[0]["strength"].to_numpy()
    assert np.allclose(strengths, (3 * parts[0] + parts[1]) / 4, atol=1e-9)


def test_what_is_refused():
    _, _, _, votes = voted_world(12, n=30)
    ratings = ratings_of([0, 1], [0, 0], [0, 1])
    with pytest.raises(RecipeError, match="say of"):
        dawid_skene(votes, ratings)
    with pytest.raises(RecipeError, match="no ratings"):
        dawid_skene(votes, of="ratings")
    with pytest.raises(RecipeError, match="prior is -1"):
        dawid_skene(votes, prior=-1)
    with pytest.raises(RecipeError, match="30 different ratings"):
        dawid_skene(ratings=ratings_of(range(30), [0] * 30, np.linspace(0, 1, 30)))
    with pytest.raises(ConvergenceError, match="after 3 iterations"):
        dawid_skene(votes, max_iterations=3, tolerance=1e-12)


def test_few_votes_have_an_answer_and_none_give_no_rows():
    one = votes_of([0], [0], [1.0])
    assert pair_values(dawid_skene(one)[1], 1)[0] > 0.5
    separated = votes_of([0, 1], [0, 1], [1.0, 0.0], [True, False])
    value = pair_values(dawid_skene(separated)[1], 2)
    assert value[0] > 0.6
    assert value[1] < 0.4
    empty = Votes(tables.empty("votes"))
    assert [made.height for made in dawid_skene(empty)] == [0, 0]
    assert [made.height for made in dawid_skene(None, Ratings(tables.empty("ratings")))] == [0, 0]
    assert labels_of_votes(empty, None, None).n_items == 0


@pytest.mark.parametrize("method", [dawid_skene, glad, mace])
def test_one_vote_is_no_certainty(method: Any):
    """A strength from posteriors has no standard error, which is not an error of nothing."""
    votes = tables.typed(
        Votes,
        pl.DataFrame(
            {
                "prompt_id": ["p"],
                "completion_a": ["c1"],
                "completion_b": ["c2"],
                "annotator": ["human:1"],
                "criterion": ["helpfulness"],
                "draw": [0],
                "preference": [1.0],
            }
        ),
    )
    strengths, _ = method(votes)
    assert strengths["stderr"].null_count() == strengths.height == 2
    with pytest.raises(RecipeError, match="criteria"):
        method(votes, criteria=[])


@pytest.mark.parametrize("method", [dawid_skene, glad, mace])
@pytest.mark.parametrize("annotators", [1, 4])
def test_of_a_single_grade_that_is_what_is_known(method: Any, annotators: int):
    people = [*range(annotators)]
    items = [0] * annotators + [1] * annotators
    ratings = ratings_of(items, [*people, *people], [0.75] * len(items))
    strengths, _ = method(ratings=ratings)
    assert strengths["strength"].to_list() == pytest.approx([0.75, 0.75])
    assert strengths["stderr"].to_list() == [None, None], "nobody could have said another"


def test_how_likely_a_tie_is_is_scored_where_ties_may_be_true():
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 3, 400)
    right = draw.random((5, 400)) < 0.8
    said = np.where(right, truth, (truth + draw.integers(1, 3, (5, 400))) % 3)
    votes = votes_of(
        np.tile(np.arange(400), 5),
        np.repeat(np.arange(5), 400),
        np.array([1, 0, 0.5])[said.ravel()],
    )
    assert "tie" not in set(dawid_skene(votes)[1]["score"])
    scores = dawid_skene(votes, true_ties=True)[1]
    ids = tables.pair_ids([f"{i:06}a" for i in range(400)], [f"{i:06}b" for i in range(400)])
    tie, better = (score_of(scores, name) for name in ("tie", "preference"))
    found = np.array([tie[id] for id in ids])
    assert ((found > 0.5) == (truth == 2)).mean() > 0.9
    # The rest of preference is P(a better), and so is what is left of 1 for b.
    for id in ids:
        assert -1e-9 <= better[id] - tie[id] / 2 <= 1 - tie[id] + 1e-9
