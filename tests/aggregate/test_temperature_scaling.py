import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.aggregate.temperature_scaling import fit_temperature, temperature_scaling
from prefdata.errors import RecipeError
from prefdata.tables import Scores, Votes

JUDGE, PEOPLE = "llm:m/j:logits", "human:one"


def planted(n: int, too_sure: float, seed: int = 0) -> Votes:
    """People vote by sigmoid(z); the judge says sigmoid(too_sure * z)."""
    draw = np.random.default_rng(seed)
    z = draw.normal(scale=1.5, size=n)
    human = (draw.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    judge = 1 / (1 + np.exp(-too_sure * z))
    frames = [
        pl.DataFrame(
            {
                "completion_a": [f"a{i:05}" for i in range(n)],
                "completion_b": [f"b{i:05}" for i in range(n)],
                "prompt_id": [f"p{i // 2}" for i in range(n)],
                "preference": values,
                "annotator": name,
                "criterion": "help",
                "draw": 0,
                "a_first": None,
            },
            schema_overrides={"a_first": pl.Boolean},
        )
        for name, values in ((PEOPLE, human), (JUDGE, judge))
    ]
    return t.typed(Votes, pl.concat(frames))


def ran(votes: Votes, **how):
    how = {"annotators": [JUDGE], "against": [PEOPLE], **how}
    made, scores = temperature_scaling(votes, **how)
    return t.typed(Votes, made), t.typed(Scores, scores)


def told(scores: Scores) -> dict[str, float]:
    return dict(scores.select("score", "value").iter_rows())


@pytest.mark.parametrize("too_sure", [0.4, 1.0, 3.0])
def test_the_planted_temperature_is_recovered_and_held_out_loss_says_so(too_sure: float):
    made, scores = ran(planted(4000, too_sure))
    values = told(scores)
    assert values["temperature"] == pytest.approx(too_sure, rel=0.12)
    assert values["cross_entropy_scaled"] <= values["cross_entropy"] + 1e-3
    if too_sure != 1:
        assert values["cross_entropy_scaled"] < values["cross_entropy"] - 0.01
    assert made.height == 8000


def test_only_the_named_annotators_change_and_no_side_does():
    votes = planted(500, 3.0)
    made, _ = ran(votes)
    key = t.schema("votes").key
    both = votes.sort(key).join(made, on=[k for k in key if k != "a_first"], suffix="_after")
    assert both.height == votes.height
    people = both.filter(pl.col("annotator") == PEOPLE)
    assert people["preference"].equals(people["preference_after"])
    before, after = (both[c].to_numpy() - 0.5 for c in ("preference", "preference_after"))
    assert (np.sign(before) == np.sign(after)).all()


def test_a_judge_that_knows_nothing_is_brought_to_a_half():
    draw = np.random.default_rng(1)
    votes = planted(3000, 3.0)
    coin = pl.Series(draw.integers(0, 2, votes.height).astype(float))
    is_human = pl.col("annotator") == PEOPLE
    made, scores = ran(Votes(votes.with_columns(
        preference=pl.when(is_human).then(coin).otherwise("preference"))))  # fmt: skip
    assert told(scores)["temperature"] > 15
    assert (made.filter(~is_human)["preference"] - 0.5).abs().max() < 0.2


def test_swapping_a_and_b_turns_the_result_and_the_temperature_stays():
    draw = np.random.default_rng(2)
    p, y = draw.random(500), draw.random(500)
    assert fit_temperature(1 - p, 1 - y) == pytest.approx(fit_temperature(p, y), rel=1e-3)


def test_what_nobody_else_voted_on_is_left_as_it_is():
    votes = planted(50, 2.0)
    alone = Votes(votes.filter((pl.col("annotator") == JUDGE) | (pl.col("prompt_id") == "p0")))
    made, scores = ran(alone)
    assert scores.is_empty()
    key = t.schema("votes").key
    assert made["preference"].equals(alone.sort(key)["preference"])
    assert ran(Votes(votes.clear()))[0].is_empty()


def test_unscored_votes_stay_so_and_order_of_rows_does_not_matter():
    votes = planted(200, 2.0)
    failed = pl.col("completion_a") == "a00003"
    votes = t.typed(Votes, votes.with_columns(
        preference=pl.when(failed).then(None).otherwise("preference"),
        unscored=pl.when(failed).then(pl.lit("error: cut"))))  # fmt: skip
    made, scores = ran(votes)
    assert made["preference"].null_count() == 2
    again, scores_again = ran(Votes(votes.sample(fraction=1.0, shuffle=True, seed=1)))
    assert made.equals(again)
    assert scores.equals(scores_again)


def test_nobody_is_corrected_by_their_own_votes():
    votes = planted(10, 1.0)
    for how, complaint in (
        ({"against": [JUDGE]}, "their own votes"),
        ({"against": ["human:two"]}, "no votes of"),
        ({"n_folds": 1}, "at least 2"),
    ):
        with pytest.raises(RecipeError, match=complaint):
            ran(votes, **how)
