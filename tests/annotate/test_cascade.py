"""A cascade gives a jury's votes on fewer pairs, and no worse answers on LLMBar's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prefdata import judge as judges
from prefdata import tables
from prefdata.aggregate.reliability import reliability
from prefdata.annotate._escalation import (
    _tables,
    _worth,
    by_news,
    covariance,
    differs,
    next_calls,
    posterior,
)
from prefdata.annotate.cascade import cascade
from prefdata.annotate.jury import jury as jury_stage
from prefdata.errors import RecipeError
from prefdata.judge import Jury, Member
from prefdata.stage import Model, drive
from prefdata.tables import SIDES, Completions, Prompts, Requests, Responses, Votes

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
    votes, _ = run(world(30, 3), budget=budget, tolerance=0.0)
    assert votes.height <= budget * 30 * 3 * 2 * 3


def test_a_price_sends_the_cheap_one_first(world):
    """Of two that are nearly as good, the one at a tenth of the price is asked."""
    votes, _ = run(world(30, 3), step=1, costs={"coin": 1.0, "good": 1.0, "fine": 0.1})
    n = dict(votes["annotator"].value_counts().iter_rows())
    assert n["llm:fine/helpfulness"] > n["llm:good/helpfulness"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tolerance": -0.1}, "tolerance"),
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


def replayed(votes: Votes, *, seed: int = 0, **options: Any) -> Votes:
    """What the rule would have asked, with the answers that are there."""
    pairs = votes.select(SIDES).unique()
    costs = dict.fromkeys(votes["annotator"].unique().sort().to_list(), 1.0)
    got = Votes(votes.head(0))
    settings = {"tolerance": 0.01, "pilot": 0.25, "step": 5, "budget": 0.6, **options}
    while (wanted := next_calls(got, pairs, costs, seed=seed, **settings)[0]).height:
        more = votes.join(wanted, on=[*SIDES, "annotator"], how="semi")
        got = Votes(pl.concat([got, more]))
    return got


def preferred(votes: Votes, items: pl.DataFrame) -> NDArray[np.float64]:
    """P(the first response of each item is preferred)."""
    scores = reliability(votes)[1].filter(pl.col("score") == "preference")
    ids = tables.pair_ids(items["id"] + "/a", items["id"] + "/b").alias("subject_id")
    p = pl.DataFrame(ids).join(scores, on="subject_id", how="left", maintain_order="left")["value"]
    return p.fill_null(0.5).to_numpy()


def accuracy(votes: Votes, items: pl.DataFrame) -> float:
    return float(((preferred(votes, items) > 0.5) == (items["gold"] == 1).to_numpy()).mean())


def random_calls(votes: Votes, n: int, seed: int) -> Votes:
    """As many (pair, judge) at random, each with both of its votes."""
    calls = votes.select(*SIDES, "annotator").unique().sort(*SIDES, "annotator")
    chosen = calls.sample(n, seed=seed)
    return Votes(votes.join(chosen, on=[*SIDES, "annotator"], how="semi"))


def test_judges_who_err_together_are_not_asked_together():
    """Of ten judges in two groups the best two to ask first are one of each."""
    draw = np.random.default_rng(0)
    truth, errors = draw.normal(size=400), draw.normal(size=(2, 400))
    said = np.stack([truth + errors[k % 2] + 0.1 * draw.normal(size=400) for k in range(10)], 1)
    cover = covariance(said)
    order = by_news(cover, np.ones(10), np.ones(10))
    assert order[0] % 2 != order[1] % 2
    dear = np.where(np.arange(10) % 2 == order[0] % 2, 100.0, 1.0)
    assert by_news(cover, np.ones(10), dear)[0] % 2 != order[0] % 2, "the dear ones wait"


def test_a_covariance_from_few_pairs_is_nearer_to_that_of_one_truth():
    draw = np.random.default_rng(0)
    load = np.array([0.9, 0.8, 0.7, 0.5, 0.2, 0.0])
    true = np.outer(load, load) + np.diag(1 - load**2)
    away = []
    for _ in range(40):
        said = draw.multivariate_normal(np.zeros(6), true, 12)
        made, plain = covariance(said), said.T @ said / 12
        assert np.linalg.eigvalsh(made).min() > 0
        assert np.allclose(np.diag(made), np.diag(plain), rtol=1e-4)
        away.append([((each - true) ** 2).mean() for each in (made, plain)])
    ours, theirs = np.mean(away, 0)
    assert ours < theirs


def test_a_covariance_from_many_pairs_is_theirs():
    draw = np.random.default_rng(0)
    load = np.array([[0.9, 0.0], [0.8, 0.3], [0.7, -0.4], [0.2, 0.6], [0.0, 0.0]])
    said = draw.normal(size=(4000, 2)) @ load.T + 0.5 * draw.normal(size=(4000, 5))
    assert covariance(said) == pytest.approx(said.T @ said / 4000, abs=0.02)


def test_how_often_the_jury_would_say_otherwise_is_what_it_does():
    """Votes drawn as the rule takes them to be: what is foreseen happens as often as foreseen."""
    draw = np.random.default_rng(1)
    n, worth = 20_000, np.array([2.0, 1.5, 1.0, 1.0, -0.5])
    load = np.array([0.8, 0.7, 0.6, 0.5, 0.4])
    cover = np.outer(load, load) + np.diag(1 - load**2)
    said, pilot = (draw.multivariate_normal(np.zeros(5), cover, size) for size in (n, 400))
    whole = said @ worth
    for k in (1, 2, 4):
        asked = np.tile(np.arange(5) < k, (n, 1))
        p = np.where(said[:, :k] @ worth[:k] > 0, 0.9, 0.1)
        foreseen = differs(said * asked, asked, pilot, worth, p)
        other = (whole > 0) != (p > 0.5)
        for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5)):
            inside = (foreseen >= low) & (foreseen < high)
            assert foreseen[inside].mean() == pytest.approx(other[inside].mean(), abs=0.03)
    everyone = np.ones((n, 5), dtype=bool)
    assert not differs(said, everyone, pilot, worth, (whole > 0) * 1.0).any()


def test_what_votes_count_foretells_the_whole_jurys_preference():
    """Also where all share an error: then discriminations alone are no weights of votes."""
    _, votes = llmbar()
    pairs, names = votes.select(SIDES).unique().sort(SIDES), sorted(votes["annotator"].unique())
    _, scores, measures = reliability(votes)
    _, said = _tables(votes, pairs, names)
    whole = posterior(scores, pairs) > 0.5
    worth = _worth(scores, measures, names, 2.0)
    assert ((said @ worth > 0) == whole).mean() > 0.97
    apart = measures.with_columns(value=pl.lit(0.0))
    alone = _worth(scores, apart, names, 2.0)
    assert ((said @ alone > 0) == whole).mean() < 0.93


def test_a_jury_without_a_verdict_is_asked_no_more_than_the_budget(world):
    def silent(requests: Requests) -> Responses:
        rows = answer(requests).with_columns(text=pl.lit("I cannot say."))
        return tables.typed(Responses, rows)

    w = world(30, 3)
    stage = cascade(Prompts(w["prompts"]), Completions(w["completions"]), jury=TRIO, reask=False)
    votes, _ = drive(stage, silent)
    assert votes["preference"].null_count() == votes.height <= 0.6 * 30 * 3 * 2 * 3


@pytest.mark.slow
@pytest.mark.long
def test_on_llmbar_three_fifths_of_the_calls_are_as_right_as_all():
    items, votes = llmbar()
    got = replayed(votes)
    ours = accuracy(got, items)
    assert got.height <= 0.6 * votes.height
    assert ours >= accuracy(votes, items)
    n = got.height // 2
    assert ours > np.mean([accuracy(random_calls(votes, n, k), items) for k in range(3)])


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
