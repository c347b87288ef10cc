"""All pairs: every two once, ties dropped, counts that add up."""

from itertools import combinations

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.pair.all_pairs import all_pairs
from prefdata.tables import Strengths


def random_strengths(seed, n_prompts=40):
    draw = np.random.default_rng(seed)
    rows = [
        (f"p{p:02}", f"p{p:02}c{c}", float(draw.integers(0, 4)), "mean_rating")
        for p in range(n_prompts)
        for c in range(draw.integers(1, 6))
    ]
    columns = ["prompt_id", "completion_id", "strength", "estimator"]
    return tables.typed(Strengths, pl.DataFrame(rows, schema=columns, orient="row"))


def test_every_two_of_a_prompt_are_a_pair_or_a_tie():
    strengths = random_strengths(0)
    pairs, dropped = all_pairs(strengths)
    tables.check("pairs", pairs, where="here")
    tables.check("dropped", dropped, where="here")
    wanted, ties = {}, set()
    for _, rows in strengths.group_by("prompt_id"):
        of_prompt = rows.select("completion_id", "strength").rows()
        for (one, s), (other, t) in combinations(of_prompt, 2):
            if s == t:
                ties.add(tables.pair_ids([one], [other])[0])
            else:
                wanted[(one, other) if s > t else (other, one)] = abs(s - t)
    found = pairs.select("chosen_id", "rejected_id", "margin").iter_rows()
    assert {(chosen, rejected): margin for chosen, rejected, margin in found} == wanted
    assert set(dropped["key"]) == ties
    assert pairs.height + dropped.height == len(wanted) + len(ties)


def test_turning_strengths_round_turns_every_pair_round_and_keeps_its_id():
    strengths = random_strengths(1)
    turned = Strengths(strengths.with_columns(-pl.col("strength")))
    before, after = (all_pairs(s)[0].sort("pair_id") for s in (strengths, turned))
    assert before["pair_id"].equals(after["pair_id"])
    assert before["chosen_id"].equals(after["rejected_id"], check_names=False)
    assert before["margin"].equals(after["margin"])


def test_neither_the_order_of_rows_nor_shards_matter():
    strengths = random_strengths(2)
    whole = all_pairs(strengths)
    shuffled = all_pairs(Strengths(strengths.sample(fraction=1, shuffle=True, seed=4)))
    number = pl.col("prompt_id").str.slice(1).cast(pl.Int64) % 7
    parts = [all_pairs(Strengths(strengths.filter(number == n))) for n in range(7)]
    for which, name in enumerate(("pairs", "dropped")):
        checked = tables.check(name, whole[which], where="whole")
        assert tables.check(name, shuffled[which], where="shuffled").equals(checked)
        assert tables.union(name, *(part[which] for part in parts), where="parts").equals(checked)
