"""Leaderboards: published win rates, planted strengths, and what ties are."""

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.leaderboard import leaderboard
from prefdata.tables import Samples, Votes


def played(rows, annotator="llm:j"):
    """Votes and samples from (prompt, generator, other generator, preference for the first)."""
    names = ["prompt_id", "one", "other", "won"]
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    frame = frame.with_columns(pl.format("{}~{}", side, "prompt_id").alias(f"id_{side}")
                               for side in ("one", "other"))  # fmt: skip
    turn = pl.col("id_one") > pl.col("id_other")
    votes = frame.select(
        "prompt_id",
        completion_a=pl.min_horizontal("id_one", "id_other"),
        completion_b=pl.max_horizontal("id_one", "id_other"),
        annotator=pl.lit(annotator),
        criterion=pl.lit("quality"),
        draw=0,
        a_first=pl.lit(None, pl.Boolean),
        preference=pl.when(turn).then(1 - pl.col("won")).otherwise("won").cast(pl.Float64),
    )
    made = pl.concat(
        frame.select(pl.col(f"id_{s}").alias("completion_id"), "prompt_id",
                     pl.col(s).alias("generator"), draw=0) for s in ("one", "other")
    ).unique()  # fmt: skip
    return tables.typed(Votes, votes), tables.typed(Samples, made)


def measured(made, measure, subject):
    found = made.filter((pl.col("measure") == measure) & (pl.col("subject") == subject))
    return found.row(0, named=True)


@pytest.mark.parametrize(("wins", "losses", "percent"), [(359, 95, 71.8), (369, 127, 73.8)])
def test_ties_that_nobody_wins_give_the_published_rates_of_feedback_loops(wins, losses, percent):
    said = [1.0] * wins + [0.0] * losses + [0.5] * (500 - wins - losses)
    game = played([(f"p{at}", "loop", "alone", x) for at, x in enumerate(said)])
    lost = measured(leaderboard(*game, baseline="alone", ties="lost"), "win_rate", "loop")
    assert lost["value"] * 100 == pytest.approx(percent)
    assert lost["n"] == 500
    half = measured(leaderboard(*game, baseline="alone"), "win_rate", "loop")
    assert half["value"] == pytest.approx(np.mean(said))
    out = measured(leaderboard(*game, baseline="alone", ties="left_out"), "win_rate", "loop")
    assert out["value"] == pytest.approx(wins / (wins + losses))
    assert out["n"] == wins + losses


@pytest.mark.parametrize(
    ("judge", "agreement", "apart"),
    [("alpaca_eval_gpt4", 0.99, 1.0), ("weighted_alpaca_eval_gpt4_turbo", 0.99, 0.6)],
)
def test_the_win_rates_that_alpacaeval_publishes(judge, agreement, apart, shared):
    """On 475 of its 805 prompts: the stated Spearman correlation and mean difference in points."""
    said = shared("alpacaeval_judge_votes.parquet").filter(pl.col("judge") == judge)
    said = said.filter(pl.col("generator_1") != pl.col("generator_2"))
    baseline = said["generator_1"][0]
    preference = pl.when(pl.col("preference") == 0).then(1.5).otherwise("preference") - 1
    rows = said.drop_nulls("preference").select(
        "prompt_id", "generator_2", "generator_1", preference
    )
    rows = rows.unique(["prompt_id", "generator_2"], maintain_order=True)
    made = leaderboard(*played(rows.rows()), baseline=baseline)
    rates = made.filter(pl.col("measure") == "win_rate").select(model="subject", ours="value")
    published = shared(f"published_alpacaeval_{judge}_leaderboard.parquet")
    both = published.join(rates, on="model").with_columns(pl.col("ours") * 100)
    assert both.height >= 50
    assert both.select(pl.corr("win_rate", "ours", method="spearman")).item() > agreement
    assert (both["win_rate"] - both["ours"]).abs().mean() < apart


def test_planted_strengths_and_win_rates_are_covered_over_seeds_0_to_199():
    """Prompts of which some favour one generator: the votes on one prompt are not independent."""
    theta = np.array([0.0, 0.6, 1.2])
    inside = {"win_rate": 0, "generator_strength": 0}
    for seed in range(200):
        draw = np.random.default_rng(seed)
        rows = []
        for prompt in range(40):
            for one, other in ((0, 1), (0, 2), (1, 2)):
                won = float(draw.random() < expit(theta[one] - theta[other]))
                rows.append((f"p{prompt}", f"g{one}", f"g{other}", won))
        made = leaderboard(*played(rows), baseline="g0", prior=0.0)
        truths = {"win_rate": expit(1.2), "generator_strength": 1.2}
        for name, truth in truths.items():
            row = measured(made, name, "g2")
            inside[name] += row["low"] <= truth <= row["high"]
    assert all(180 <= each <= 198 for each in inside.values()), inside


def test_row_order_does_not_matter():
    votes, samples = played([(f"p{at}", "x", "y", float(at % 3 > 0)) for at in range(30)])
    made = leaderboard(votes, samples)
    tables.check("measures", made, where="here")
    again = Votes(votes.sample(fraction=1, shuffle=True, seed=0))
    assert leaderboard(again, samples).equals(made)
    assert leaderboard(Votes(tables.empty("votes")), samples).is_empty()


def test_who_is_not_there_is_refused_or_named():
    votes, samples = played([(f"p{at}", "x", "y", float(at % 3 > 0)) for at in range(30)])
    with pytest.raises(RecipeError, match="no sample is by the generator 'z'"):
        leaderboard(votes, samples, baseline="z")
    with pytest.raises(RecipeError, match="criterion 'charm' is on no row"):
        leaderboard(votes, samples, criteria=["charm"])
    whole = leaderboard(votes, samples)
    made = leaderboard(votes, samples, annotators=["llm:j", "llm:i"])
    tables.check("measures", made, where="here")
    assert made.filter(pl.col("subject") != "llm:i").equals(whole)
    assert measured(made, "win_rate", "llm:i")["note"] == (
        "no votes of 'llm:i'; did you mean 'llm:j'?"
    )
    _, lone = played([("q", "z", "y", 1.0)])
    apart = leaderboard(votes, Samples(pl.concat([samples, lone])), baseline="z")
    tables.check("measures", apart, where="here")
    assert set(apart["subject"]) == {"x", "y"}
    assert apart["value"].null_count() == apart.height == 4
    assert set(apart["note"]) == {"no votes connect it to z"}


@pytest.mark.parametrize("won", [[0.5], [1.0], [1.0, 0.0]])
def test_groups_that_are_all_alike_show_no_error(won):
    """Each prompt has the same votes: strengths of no error would be known without doubt."""
    frames = [
        played([(f"p{at}", "x", "y", each) for at in range(9)], f"llm:{who}")
        for who, each in enumerate(won)
    ]
    votes = Votes(pl.concat(votes for votes, _ in frames))
    for name in ("x", "y"):
        row = measured(leaderboard(votes, frames[0][1]), "generator_strength", name)
        assert (row["stderr"], row["low"], row["high"]) == (None, None, None)
        assert row["note"] == "prompt groups do not differ: no interval"
    above = leaderboard(votes, frames[0][1], baseline="y")
    assert measured(above, "generator_strength", "x")["low"] is None
    assert measured(above, "generator_strength", "y")["low"] == 0, "it is 0 by what is asked"
