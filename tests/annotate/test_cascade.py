"""A cascade gives a jury's votes on fewer pairs, and no worse answers on LLMBar's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.aggregate.reliability import reliability
from prefdata.annotate._escalation import SIDES, next_calls
from prefdata.annotate.cascade import cascade
from prefdata.annotate.jury import jury as jury_stage
from prefdata.errors import RecipeError
from prefdata.judge import Jury, Member
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Prompts, Requests, Responses, Votes

DATA = Path(__file__).parents[1] / "data"
JUDGE = judges.load("helpfulness")
MODELS = [Model(name, name, f"{name}@1") for name in ("coin", "good", "fine")]
TRIO = Jury("trio", tuple(Member(JUDGE, model) for model in MODELS))


def answer(requests: Requests) -> Responses:
    """The later answer is better; "coin" knows nothing, the others nearly always know."""
    rows = []
    for row in requests.to_dicts():
        text = json.dumps(row["messages"])
        first, second = (int(part.split('"')[0][0]) for part in _numbers(text))
        right = "A" if first > second else "B"
        wrong = "B" if right == "A" else "A"
        dice = int(tables.digest(row["model"], row["messages"]), 16) % 100
        slip = {"coin": 50, "good": 3, "fine": 6}[row["model"]]
        said = json.dumps({"verdict": wrong if dice < slip else right})
        rows.append(
            {"request_id": row["request_id"], "text": said, "tokens_in": 1, "tokens_out": 1}
        )
    return Responses(pl.DataFrame(rows, schema=tables.schema("responses").dtypes))


def _numbers(text: str) -> list[str]:
    return text.split("answer ")[-2:]


def run(world: dict[str, pl.DataFrame], **options: Any):
    stage = cascade(
        Prompts(world["prompts"]), Completions(world["completions"]), jury=TRIO, **options
    )
    votes, measures = drive(stage, answer)
    return tables.typed(Votes, votes), measures


def measured(measures: pl.DataFrame, name: str) -> dict[str, float]:
    rows = measures.filter(pl.col("measure") == name)
    return dict(rows.select("subject", "value").iter_rows())


def test_votes_are_the_jurys_and_calls_are_saved(world):
    tables_ = world(30, 3)
    votes, measures = run(tables_, step=1, budget=1.0)
    whole = jury_stage(Prompts(tables_["prompts"]), Completions(tables_["completions"]), jury=TRIO)
    whole = tables.typed(Votes, drive(whole, answer))
    assert votes.join(whole, on=votes.columns, how="semi", nulls_equal=True).height == votes.height
    calls = measured(measures, "cascade_calls")
    assert calls["all"] == votes.height < whole.height
    assert calls["llm:coin/helpfulness"] < calls["llm:good/helpfulness"]
    assert sum(calls.values()) == 2 * calls["all"]
    saved = measured(measures, "cascade_saved_share")["all"]
    assert saved == pytest.approx(1 - votes.height / whole.height)


def test_row_order_does_not_matter_and_a_pilot_of_all_is_the_jury(world, shuffled):
    tables_ = world(12, 3)
    votes, _ = run(tables_)
    assert run({name: shuffled(t, 2) for name, t in tables_.items()})[0].equals(votes)
    everything, measures = run(tables_, pilot=1.0, budget=1.0)
    assert everything.height == 12 * 3 * 2 * 3
    assert measured(measures, "cascade_saved_share")["all"] == 0


def test_what_is_shown_is_what_the_jury_is_shown(world):
    tables_ = world(12, 4)
    options = {"orders": "random", "draws": 2, "max_pairs": 3, "seed": 5}
    everything, _ = run(tables_, pilot=1.0, budget=1.0, **options)
    given = Prompts(tables_["prompts"]), Completions(tables_["completions"])
    whole = drive(jury_stage(*given, jury=TRIO, **options), answer)
    assert everything.height == 12 * 3 * 2 * 3
    votes = [tables.check("votes", each, where="test") for each in (everything, whole)]
    assert votes[0].equals(votes[1])


@pytest.mark.parametrize("budget", [0.1, 0.4])
def test_a_budget_holds(world, budget):
    votes, _ = run(world(30, 3), budget=budget, sure=1.0)
    assert votes.height <= budget * 30 * 3 * 2 * 3


def test_a_price_sends_the_cheap_one_first(world):
    """Of two that are nearly as good, the one at a tenth of the price is asked."""
    votes, _ = run(world(30, 3), step=1, costs={"coin": 1.0, "good": 1.0, "fine": 0.1})
    n = dict(votes["annotator"].value_counts().iter_rows())
    assert n["llm:fine/helpfulness"] > n["llm:good/helpfulness"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sure": 0.5}, "sure"),
        ({"pilot": 0.0}, "pilot"),
        ({"budget": 1.5}, "budget"),
        ({"step": 0}, "step"),
        ({"costs": {"good": 1.0}}, "costs"),
    ],
)
def test_refuses(world, options, says):
    with pytest.raises(RecipeError, match=says):
        run(world(2, 2), **options)


def llmbar() -> tuple[pl.DataFrame, Votes]:
    rows = pl.read_parquet(DATA / "llmbar_votes.parquet")
    winner = pl.col("winner").cast(pl.Int64, strict=False)
    made = rows.select(
        completion_a=pl.col("id") + "/a",
        completion_b=pl.col("id") + "/b",
        annotator=pl.format("llm:{}/{}", "judge_model", "strategy"),
        criterion=pl.lit("quality"),
        draw=pl.lit(0),
        a_first=pl.col("order") == "ab",
        prompt_id="id",
        preference=(2 - winner).cast(pl.Float64),
        unscored=pl.when(winner.is_null()).then(pl.lit("no verdict")),
    )
    items = rows.select("id", "gold").unique().sort("id")
    return items, tables.typed(Votes, made)


def replayed(votes: Votes, *, rename: bool = False, seed: int = 0, **options: Any) -> Votes:
    """What the rule would have asked, with the published answers."""
    pairs = votes.select(SIDES).unique()
    costs = dict.fromkeys(votes["annotator"].unique().sort().to_list(), 1.0)
    got = Votes(votes.head(0))
    settings = {"sure": 0.99, "pilot": 0.25, "step": 5, "budget": 0.6, **options}
    while (wanted := next_calls(got, pairs, costs, seed=seed, **settings)).height:
        more = votes.join(wanted, on=[*SIDES, "annotator"], how="semi")
        got = Votes(pl.concat([got, more]))
    return got


def accuracy(votes: Votes, items: pl.DataFrame) -> float:
    scores = reliability(votes)[1].filter(pl.col("score") == "preference")
    ids = tables.pair_ids(items["id"] + "/a", items["id"] + "/b").alias("subject_id")
    p = pl.DataFrame(ids).join(scores, on="subject_id", how="left", maintain_order="left")["value"]
    return float(((p.fill_null(0.5) > 0.5) == (items["gold"] == 1)).mean())


def random_calls(votes: Votes, n: int, seed: int) -> Votes:
    """As many (pair, judge) at random, each with both of its votes."""
    calls = votes.select(*SIDES, "annotator").unique().sort(*SIDES, "annotator")
    chosen = calls.sample(n, seed=seed)
    return Votes(votes.join(chosen, on=[*SIDES, "annotator"], how="semi"))


def test_llmbar_needs_three_fifths_of_the_calls_at_most():
    items, votes = llmbar()
    got = replayed(votes)
    ours = accuracy(got, items)
    assert got.height <= 0.6 * votes.height
    # Seven of the 280 items, two standard errors of a difference: half of the calls at random are
    # as good as all of them here.
    assert ours >= accuracy(votes, items) - 0.025
    assert (
        ours
        >= np.mean([accuracy(random_calls(votes, got.height // 2, k), items) for k in (0, 1)])
        - 0.025
    )


def test_names_do_not_steer():
    """Other names, the same calls: ties aside, order comes from what the votes show."""
    _, votes = llmbar()
    votes = Votes(votes.filter(pl.col("annotator").str.contains("/(Vanilla|Swap)$")))
    names = votes["annotator"].unique().sort().to_list()
    fresh = {name: f"llm:{tables.digest('name', name)}/j" for name in names}
    other = votes.with_columns(pl.col("annotator").replace_strict(fresh))
    one = replayed(votes).with_columns(pl.col("annotator").replace_strict(fresh))
    two = replayed(tables.typed(Votes, other))
    key = [*SIDES, "annotator"]
    assert one.select(key).unique().sort(key).equals(two.select(key).unique().sort(key))
