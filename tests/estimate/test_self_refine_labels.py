import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.estimate._about_labels import read
from prefdata.estimate.self_refine_labels import refined, self_refine_labels
from prefdata.stage import Model
from prefdata.tables import Pairs, Scores
from tests.annotate.planted import answered, logprobs, said, world

POLICY, REFERENCE = Model("policy", "tuned", "tuned@1"), Model("start", "start", "start@1")


def planted(n: int, noise: float, seed: int = 0):
    """Labels by a noisy reward, and a policy whose log-ratio is another noisy view of it."""
    draw = np.random.default_rng(seed)
    reward = draw.normal(size=(n, 2))
    seen = reward + 0.5 * draw.normal(size=reward.shape)
    prompts, completions = world({f"p{i}": [f"{i} 0", f"{i} 1"] for i in range(n)})
    ids = {said({"completion": c}): k for k, c in
           completions.select("completion_id", "completion").iter_rows()}  # fmt: skip
    lead = reward[:, 0] - reward[:, 1]
    is_first = lead + noise * draw.normal(size=n) > 0
    chosen = [ids[f"{i} {0 if first else 1}"] for i, first in enumerate(is_first)]
    rejected = [ids[f"{i} {1 if first else 0}"] for i, first in enumerate(is_first)]
    pairs = pl.DataFrame(
        {"chosen_id": chosen, "rejected_id": rejected, "soft_label": 1.0, "n_votes": 1}
    ).with_columns(t.pair_ids(chosen, rejected))
    prompt_of = completions.select("prompt_id", chosen_id="completion_id")
    pairs = t.typed(Pairs, pairs.join(prompt_of, on="chosen_id", maintain_order="left"))
    of_pair = t.pair_ids(chosen, rejected)
    wrong = dict(zip(of_pair, is_first != (lead > 0), strict=True))

    def reply(row):
        i, j = map(int, said(row).split())
        return logprobs([-20.0, seen[i, j] if row["model"] == "policy" else 0.0])

    return prompts, completions, pairs, wrong, reply


def ran(world_, **options):
    prompts, completions, pairs, _, reply = world_
    stage = self_refine_labels(
        pairs, prompts, completions, policy=POLICY, reference=REFERENCE, **options
    )
    made, asked = answered(stage, reply)
    return t.typed(Scores, made), asked


def values(scores, name):
    about = scores.filter(pl.col("score") == name)
    return dict(about.select("subject_id", "value").iter_rows())


def test_the_doubted_labels_are_wrong_more_often_than_the_others():
    planted_ = planted(1000, noise=1.0)
    scores, asked = ran(planted_)
    assert set(asked["want"]) == {"logprobs"}
    target, wrong = values(scores, "self_refined"), planted_[3]
    doubted = [wrong[key] for key, value in target.items() if value < 1]
    kept = [wrong[key] for key, value in target.items() if value == 1]
    assert len(doubted) == 100
    assert set(target.values()) == {0.9, 1.0}
    assert np.mean(doubted) >= 3 * np.mean(kept)


def test_what_is_doubted_is_the_lowest_margin_and_not_the_smallest():
    margins = np.array([-3.0, -0.1, 0.05, 0.2, 2.0])
    assert refined(margins, share=0.2, alpha=0.1).tolist() == [0.9, 1, 1, 1, 1]
    assert refined(margins, share=0.0, alpha=0.1).tolist() == [1] * 5
    assert refined(np.zeros(0), share=0.5, alpha=0.1).tolist() == []


def test_the_margin_turns_with_the_label_and_scales_with_beta():
    prompts, completions, pairs, wrong, reply = planted(30, noise=1.0)
    turned = pairs.rename({"chosen_id": "rejected_id", "rejected_id": "chosen_id"})
    other = (prompts, completions, Pairs(turned), wrong, reply)
    one = values(ran((prompts, completions, pairs, wrong, reply), beta=1.0)[0], "implicit_reward")
    two = values(ran(other, beta=2.0)[0], "implicit_reward")
    assert two == {key: pytest.approx(-2 * value) for key, value in one.items()}


def test_both_scores_can_be_read_as_doubt_about_labels():
    scores, _ = ran(planted(40, noise=1.0))
    by_margin = read(scores, "implicit_reward", where="here")
    by_target = read(scores, "self_refined@tuned", where="here")
    assert by_target["p_flipped"].sort().to_list() == [0.0] * 36 + [pytest.approx(0.1)] * 4
    worst = by_margin.sort("doubt", descending=True)["pair_id"].head(4)
    assert set(worst) == set(by_target.filter(pl.col("p_flipped") > 0)["pair_id"])


def test_failures_leave_a_pair_without_a_score_and_order_does_not_matter():
    prompts, completions, pairs, wrong, reply = planted(20, noise=1.0)

    def broken(row):
        return {"error": "cut"} if said(row).startswith("3 ") else reply(row)

    scores, _ = ran((prompts, completions, pairs, wrong, broken))
    assert scores.height == 2 * 19
    shuffled = Pairs(pairs.sample(fraction=1.0, shuffle=True, seed=1))
    again, _ = ran((prompts, completions, shuffled, wrong, broken))
    assert again.equals(scores)
    assert ran((prompts, completions, Pairs(pairs.clear()), wrong, reply))[0].is_empty()


def test_options_are_checked():
    world_ = planted(2, noise=0.0)
    for options in ({"share": 1.1}, {"alpha": 0.6}, {"beta": 0.0}):
        with pytest.raises(RecipeError, match="share is in"):
            ran(world_, **options)
    prompts, completions, pairs, _, _ = world_
    stage = self_refine_labels(pairs, prompts, completions, policy=POLICY, reference=POLICY)
    with pytest.raises(RecipeError, match="margins are all 0"):
        next(stage)
