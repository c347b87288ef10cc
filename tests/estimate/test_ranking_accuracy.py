"""Ranking accuracy: the paper's worked figures, its theorem, and means per token beside sums."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import log_expit

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate.ranking_accuracy import difficulty, idealised, ranking_accuracy
from prefdata.measure._means import means


def scored(pairs: pl.DataFrame, chosen: Any, rejected: Any, n_chosen: Any, n_rejected: Any):
    """Scores as estimate.log_likelihood writes them."""
    columns = {
        "ref_logp_chosen": chosen,
        "ref_logp_rejected": rejected,
        "ref_logp_chosen_per_token": np.asarray(chosen) / n_chosen,
        "ref_logp_rejected_per_token": np.asarray(rejected) / n_rejected,
    }
    frames = [
        pl.DataFrame(
            {
                "subject_id": pairs["pair_id"],
                "subject": "pair",
                "score": name,
                "model": "gpt",
                "value": np.asarray(values, dtype=float),
            }
        )
        for name, values in columns.items()
    ]
    return tables.check("scores", pl.concat(frames), where="test")


def measured(measures: pl.DataFrame, name: str, subject: str = "gpt") -> dict[str, Any]:
    rows = measures.filter(pl.col("measure") == name, pl.col("subject") == subject)
    return rows.row(0, named=True)


def test_worked_figures_of_the_paper():
    m = np.array([-2.0])  # l_w = -10, l_l = -8
    share = np.array([0.75])
    assert idealised(m, share, 0.1)[0] == pytest.approx(8.9861, abs=1e-4)
    assert idealised(m, share, 1.0)[0] == pytest.approx(-0.9014, abs=1e-4)
    assert idealised(m, share, 0.5)[0] == pytest.approx(0.1972, abs=1e-4)
    assert difficulty(m, 0.1)[0] == pytest.approx(0.598139, abs=1e-6)
    assert difficulty(np.array([-100.0]), 0.1)[0] == pytest.approx(4.5e-5, rel=0.01)
    assert difficulty(np.array([5000.0]), 1.0)[0] == pytest.approx(5000)


def test_a_pair_is_ranked_right_just_where_its_loss_is_below_its_difficulty():
    """The theorem, on any policy and any reference."""
    draw = np.random.default_rng(0)
    policy, reference = draw.normal(0, 20, (2, 10_000))  # log pi(chosen) - log pi(rejected)
    beta = draw.choice([0.01, 0.1, 1.0], 10_000)
    loss = -log_expit(beta * (policy - reference))
    threshold = np.array([difficulty(m[None], b)[0] for m, b in zip(reference, beta, strict=True)])
    clear = np.abs(beta * policy) > 1e-9
    assert ((loss <= threshold) == (policy >= 0))[clear].all()


def test_lengths_make_sums_and_means_disagree(world: Any):
    made = world(6, 2)
    pairs = made["pairs"]
    n = pairs.height
    scores = scored(pairs, [-20.0] * n, [-10.0] * n, np.full(n, 40), np.full(n, 5))
    made_scores, measures = ranking_accuracy(pairs, made["prompts"], scores)
    assert scores.join(made_scores, on=scores.columns, how="anti", nulls_equal=True).is_empty()
    tables.check("scores", made_scores, where="test")
    tables.check("measures", measures, where="test")
    assert measured(measures, "ranking_accuracy")["value"] == 0
    assert measured(measures, "ranking_accuracy_per_token")["value"] == 1
    low = measured(measures, "ranking_accuracy_per_token")["low"]
    assert 0.3 < low < 1  # six groups that all agree are no certainty


def test_what_exact_training_could_reach_falls_with_beta(world: Any):
    made = world(40, 2)
    pairs = made["pairs"].with_columns(soft_label=pl.lit(0.75))
    draw = np.random.default_rng(1)
    chosen, rejected = draw.normal(-50, 10, (2, pairs.height))
    n = np.full(pairs.height, 10)
    _, measures = ranking_accuracy(pairs, made["prompts"], scored(pairs, chosen, rejected, n, n))
    reached = [
        measured(measures, "idealised_ranking_accuracy", f"gpt, beta {b:g}")["value"]
        for b in (0.01, 0.1, 1.0, 5.0, 10.0)
    ]
    assert reached == sorted(reached, reverse=True)
    assert reached[0] == 1
    truth = (chosen >= rejected).mean()
    assert reached[-1] >= truth
    assert measured(measures, "ranking_accuracy")["value"] == pytest.approx(truth)


def test_a_tie_is_ranked_right_where_both_are_about_as_likely(world: Any):
    """The paper's rule; at the optimum of training a tie stays as the reference has it."""
    made = world(4, 2)
    pairs = made["pairs"].sort("pair_id").with_columns(soft_label=pl.Series([0.5, 0.5, 0.5, 0.9]))
    n = pairs.height
    one, other = np.log([0.5, 0.5, 0.400, 0.4]), np.log([0.505, 0.52, 0.391, 0.5])
    scores, measures = ranking_accuracy(
        pairs, made["prompts"], scored(pairs, one, other, np.ones(n), np.ones(n)), betas=[0.1, 100]
    )
    right = scores.filter(pl.col("score") == "ranked_right").sort("subject_id")["value"]
    assert right.to_list() == [1, 0, 1, 0]
    assert measured(measures, "ranking_accuracy")["value"] == 0.5
    reached = [
        measured(measures, "idealised_ranking_accuracy", f"gpt, beta {beta}")["value"]
        for beta in (0.1, 100)
    ]
    assert reached == [0.75, 0.5]


def test_models_are_not_mixed(world: Any):
    made = world(4, 2)
    pairs, n = made["pairs"], np.ones(4)
    scores = scored(pairs, -n, -2 * n, n, n)
    half = pl.col("subject_id").is_in(pairs["pair_id"].head(2).implode())
    model = pl.when(half).then(pl.lit("else")).otherwise("model")
    with pytest.raises(RecipeError, match="is by else, gpt; say whose by model"):
        ranking_accuracy(pairs, made["prompts"], scores.with_columns(model=model))
    _, measures = ranking_accuracy(
        pairs, made["prompts"], scores.with_columns(model=model), model="else"
    )
    assert measured(measures, "ranking_accuracy", "else")["n"] == 2


def test_intervals_cover_and_know_that_pairs_of_a_prompt_are_alike():
    """Ten pairs a prompt that hang together: a plain interval would cover far too rarely."""
    covered = 0
    group = [f"group {at}" for at in np.repeat(np.arange(60), 10)]
    for seed in range(200):
        draw = np.random.default_rng(seed)
        rate = np.repeat(draw.beta(0.6, 0.4, 60), 10)
        hit = (draw.random(600) < rate).astype(float)
        rows = pl.DataFrame({"subject": "gpt", "group": group, "hit": hit})
        said = means(rows, "hit", "ranking_accuracy").row(0, named=True)
        covered += said["low"] <= 0.6 <= said["high"]
    assert 0.9 <= covered / 200 <= 0.99


def test_missing_likelihoods_and_betas_are_named(world: Any):
    made = world(3, 2)
    empty = tables.empty("scores")
    with pytest.raises(RecipeError, match="log_likelihood"):
        ranking_accuracy(made["pairs"], made["prompts"], empty)
    with pytest.raises(RecipeError, match="beta"):
        ranking_accuracy(made["pairs"], made["prompts"], empty, beta=0)
    scores, measures = ranking_accuracy(made["pairs"].clear(), made["prompts"], empty)
    assert scores.is_empty()
    assert measures.is_empty()
