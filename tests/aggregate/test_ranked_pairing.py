import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from prefdata import tables
from prefdata.aggregate.ranked_pairing import ranked_pairing
from prefdata.errors import RecipeError
from prefdata.pair.all_pairs import all_pairs
from prefdata.tables import Samples, Votes

UTILITIES = np.random.default_rng(3).normal(size=(20, 5))


def asked(position=0.0, orders=(True, False)):
    """A judge that knows the utilities, with something added for what stands first."""
    rows = []
    for p, utilities in enumerate(UTILITIES):
        for k, u in enumerate(utilities):
            for own_first in orders:
                logit = u + (position if own_first else -position)
                own, base = f"p{p:02}k{k}", f"p{p:02}baseline"
                a_is_own = own < base
                rows.append({
                    "completion_a": min(own, base), "completion_b": max(own, base),
                    "annotator": "llm:j", "criterion": "overall", "draw": 0,
                    "a_first": own_first == a_is_own, "prompt_id": f"p{p:02}",
                    "preference": expit(logit if a_is_own else -logit),
                })  # fmt: skip
    return tables.typed(Votes, pl.DataFrame(rows))


def written():
    rows = [
        {"completion_id": f"p{p:02}{name}", "draw": 0, "prompt_id": f"p{p:02}",
         "generator": "empty" if name == "baseline" else "policy"}
        for p in range(20) for name in ["baseline", *(f"k{k}" for k in range(5))]
    ]  # fmt: skip
    return tables.typed(Samples, pl.DataFrame(rows))


def found(votes, **options):
    strengths = ranked_pairing(votes, written(), baseline="empty", **options)
    return dict(strengths.select("completion_id", "strength").rows()), strengths


@pytest.mark.parametrize("position", [0.0, 1.3])
def test_utilities_come_back_whatever_stands_first_gets(position):
    values, strengths = found(asked(position), max_logit=20.0)
    truth = {f"p{p:02}k{k}": u for p, us in enumerate(UTILITIES) for k, u in enumerate(us)}
    assert values == pytest.approx(truth, abs=1e-9)
    pairs, _ = all_pairs(strengths)
    for row in pairs.rows(named=True):
        expected = expit(truth[row["chosen_id"]] - truth[row["rejected_id"]])
        assert row["soft_label"] == pytest.approx(expected, abs=1e-9)


def test_one_order_alone_keeps_the_bias():
    values, _ = found(asked(1.3, orders=(True,)), max_logit=20.0)
    assert values["p00k0"] == pytest.approx(UTILITIES[0, 0] + 1.3)


def test_temperature_and_bound():
    plain, _ = found(asked(), max_logit=20.0)
    warm, _ = found(asked(), temperature=2.0, max_logit=20.0)
    assert warm == pytest.approx({id: value / 2 for id, value in plain.items()})
    hard = asked().with_columns(preference=pl.col("preference").round())
    bounded, _ = found(hard)
    assert {abs(value) for value in bounded.values()} == {4.6}


def test_a_baseline_that_wrote_nothing_is_named():
    with pytest.raises(RecipeError, match="did you mean 'empty'"):
        ranked_pairing(asked(), written(), baseline="emtpy")
