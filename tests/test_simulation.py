"""Curves of routers: exact on small orders, the published figures on PandaLM, the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from prefdata import tables
from prefdata.cli import app
from prefdata.errors import RecipeError
from prefdata.route._curve import Known, curve, reached
from prefdata.screen.curves import picture
from prefdata.simulation import chosen, percent, simulate
from tests.route.planted import said, sides

QUICK = ["random", "uncertainty", "disagreement", "expected_gain"]


def known(n=60, seed=0):
    draw = np.random.default_rng(seed)
    label, person = ((draw.random(n) < share).astype(float) for share in (0.7, 0.95))
    return Known(label, person, np.arange(n) // 2), draw


def test_a_curve_is_the_accuracy_after_each_row():
    rows, draw = known()
    gain = draw.random(60)
    found = curve(rows, gain, draws=3, seed=0)
    order = np.argsort(-gain)
    for k in (0, 1, 17, 60):
        mixed = rows.label.copy()
        mixed[order[:k]] = rows.person[order[:k]]
        assert found.mean[k] == pytest.approx(mixed.mean())
    np.testing.assert_allclose(found.low, found.high)  # nothing is tied


def test_rows_by_lot_are_a_straight_line_with_no_area():
    rows, _ = known()
    found = curve(rows, np.full(60, np.nan), draws=4000, seed=1)
    line = np.linspace(rows.label.mean(), rows.person.mean(), 61)
    np.testing.assert_allclose(found.mean, line, atol=0.004)
    assert abs(found.area) < 0.002
    assert found.area_low < 0 < found.area_high
    # Rows wrong among the first 20 of 60 are hypergeometric.
    wrong = rows.person - rows.label
    spread = np.sqrt(20 * 40 / 59 * wrong.var()) / 60
    assert (found.high[20] - found.low[20]) / 3.92 == pytest.approx(spread, rel=0.1)


def test_knowing_what_is_wrong_has_the_area_of_a_triangle():
    n = 1000
    label = np.ones(n)
    label[:200] = 0
    rows = Known(label, np.ones(n), np.arange(n))
    found = curve(rows, 1 - label, draws=50, seed=0)
    # From 0.8 up to 1 over a fifth of the rows, over the straight line: 0.2 * (1 - 0.2) / 2.
    assert found.area == pytest.approx(0.08, abs=1e-4)
    assert found.area_low < 0.08 < found.area_high
    assert reached(found.mean, 0.9) == 100
    assert reached(found.mean, 0.8) == 0
    assert reached(found.mean - 0.1, 1.0) is None


def frames(n=80, seed=0):
    """Two models that agree where they are right, mostly, and three people."""
    draw = np.random.default_rng(seed)
    truth = (draw.random(n) < 0.5).astype(float)
    votes = {}
    for name, share in (("llm:a", 0.75), ("llm:b", 0.75), *((f"human:{i}", 0.95) for i in "123")):
        votes[name] = np.where(draw.random(n) < share, truth, 1 - truth)
    prompts = [[{"role": "user", "content": str(at)}] for at in range(n)]
    rows = sides(n)
    completions = pl.concat(
        rows.select("prompt_id", completion_id=side) for side in ("completion_a", "completion_b")
    ).with_columns(completion=pl.lit([{"role": "assistant", "content": "so"}], tables.MESSAGES))
    return {
        "votes": said(votes),
        "prompts": tables.check(
            "prompts",
            pl.DataFrame({"prompt_id": rows["prompt_id"], "prompt": prompts, "source": "test"}),
            where="test",
        ),
        "completions": tables.check("completions", completions, where="test"),
    }


def test_no_router_sees_the_votes_that_it_is_judged_by():
    """With all people's votes turned round, labels that were wrong are right, people are as right
    as before: if each step takes the same row, both curves together rise or fall by one row.
    """
    made = frames()
    kind = pl.col("annotator").str.starts_with("human:")
    turned = pl.when(kind).then(1 - pl.col("preference")).otherwise("preference")
    other = {**made, "votes": made["votes"].with_columns(preference=turned)}
    one, two = (
        simulate(
            each, label="llm:a", person="human:1", truth="human:*", routers=chosen(QUICK), draws=1
        )
        for each in (made, other)
    )
    assert one.known.label.mean() == pytest.approx(1 - two.known.label.mean())
    for name in QUICK:
        both = one.curves[name].mean + two.curves[name].mean
        np.testing.assert_allclose(np.abs(np.diff(both)), 1 / one.known.n)
    assert one.curves["disagreement"].area > 0 > two.curves["disagreement"].area


def test_taught_routers_learn_on_the_other_half_only():
    quick = {"n_mixes": 20, "predictors": ["ridge"]}
    routers = [
        replace(each, options=quick) if each.name == "performance_predictor" else each
        for each in chosen(["group_regret", "performance_predictor"])
    ]
    made = simulate(
        frames(), label="llm:a", person="human:1", truth="human:*", draws=20, routers=routers
    )
    told = made.to_json([0.1, 0.5], None)
    assert [each["taught"] for each in told["routers"].values()] == [False, True, True]
    assert made.curves["group_regret"].area > 0
    for each in made.curves.values():
        assert each.mean[0] == pytest.approx(made.known.label.mean())
        assert each.mean[-1] == pytest.approx(made.known.person.mean())


def test_what_cannot_be_simulated_is_said():
    with pytest.raises(RecipeError, match="no router 'disagreament'; did you mean 'disagreement'"):
        chosen(["disagreament"])
    with pytest.raises(RecipeError, match="give percents"):
        percent("5,many")
    assert percent("5, 10,100") == [0.05, 0.1, 1.0]
    with pytest.raises(RecipeError, match="no votes of 'llm:c'"):
        simulate(frames(), label="llm:c", person="human:1", truth="human:*")
    for label, person in (("human:2", "human:1"), ("llm:a", "llm:b")):
        with pytest.raises(
            RecipeError, match=f"routers see no votes of {person.partition(':')[0]}"
        ):
            simulate(frames(), label=label, person=person, truth="human:*")
    nobody = frames()
    for votes in (nobody["votes"].clear(), nobody["votes"].head(1)):
        with pytest.raises(RecipeError, match=r"there is no row with a verdict|no votes of"):
            simulate({**nobody, "votes": votes}, label="llm:a", person="human:1", truth="human:*")


def test_a_picture_is_one_file_of_svg_that_fetches_nothing_and_escapes_names():
    xml = __import__("xml.etree.ElementTree", fromlist=["ElementTree"])
    lines = {"random": np.linspace(0.7, 0.9, 50), "<b>&": np.linspace(0.7, 0.9, 50) ** 0.9}
    made = picture('a "title"', lines, (lines["random"] - 0.02, lines["random"] + 0.02))
    root = xml.fromstring(made)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"random", "<b>&", 'a "title"'} <= set(texts)
    assert "href" not in made


def test_pairs_of_answers_to_different_prompts_are_rows_too():
    made = frames()
    joint = made["votes"].with_columns(prompt_id=pl.lit(None, pl.String))
    options = {"label": "llm:a", "person": "human:1", "truth": "human:*", "draws": 5}
    found = simulate({**made, "votes": joint}, **options, routers=chosen(QUICK))
    assert found.known.n == 80


@pytest.fixture(scope="module")
def pandalm(tmp_path_factory):
    """The bundled version of people's and models' votes."""
    data = tmp_path_factory.mktemp("data")
    ran = CliRunner().invoke(app, ["build", "pandalm-humans", "--plain", "--data", str(data)])
    assert ran.exit_code == 0, ran.output
    return data


def of_rows(preferences):
    """Tables of votes on rows 0, 1, ..., each of a prompt of its own."""
    n = len(next(iter(preferences.values())))
    return {**frames(n), "votes": said(preferences)}


SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)


def test_pandalm_routes_as_the_reference_figures_have_it(shared):
    """611 rows, gpt-3.5 right on 0.699; its 184 disagreements with PandaLM to human 1: 0.852."""
    raw = shared("pandalm_test_3humans_2llms.parquet")
    raw = raw.with_columns(pl.col("gpt35").cast(pl.String)).filter(pl.col("gpt35") != "garbage")
    names = {
        "llm:gpt-3.5": "gpt35",
        "llm:pandalm": "pandalm7b",
        **{f"human:{at}": f"human{at}" for at in "123"},
    }
    worth = {"0": 0.5, "1": 1.0, "2": 0.0}
    votes = {
        name: raw[column].cast(pl.String).replace_strict(worth).to_list()
        for name, column in names.items()
    }
    found = simulate(
        of_rows(votes), label="llm:gpt-3.5", person="human:1", truth="human:*",
        routers=chosen(QUICK),
    )  # fmt: skip
    assert found.known.n == 611
    assert found.known.label.mean() == pytest.approx(0.6989, abs=5e-5)
    random, disagreement, expected = (
        found.curves[name] for name in ("random", "disagreement", "expected_gain")
    )
    assert disagreement.low[184] == pytest.approx(disagreement.high[184])
    assert disagreement.mean[184] == pytest.approx(0.8527, abs=5e-5)
    assert random.mean[184] == pytest.approx(0.7762, abs=0.002)
    at = [found.at(share) for share in SHARES]
    assert at == [30, 61, 122, 183, 305]
    assert (expected.mean[at] >= disagreement.mean[at]).all()
    assert (expected.mean[at] > random.high[at]).sum() >= 4


def test_llmbar_is_routed_better_than_by_lot_where_orders_alone_route_worse():
    """Six vanilla judges in both orders, one of them the label: on adversarial rows that one is
    wrong most often where it is sure. Its own orders lose to the lot there; the jury does not.
    """
    raw = pl.read_parquet(Path(__file__).parent / "data" / "llmbar_votes.parquet")
    raw = raw.filter(pl.col("strategy") == "Vanilla")
    items = raw.select("id", "gold").unique().sort("id").with_row_index("at")
    winner = pl.col("winner").cast(pl.Int64, strict=False)
    votes = raw.join(items.select("id", "at"), on="id").select(
        completion_a=pl.col("at").cast(pl.String).str.zfill(6) + "a",
        completion_b=pl.col("at").cast(pl.String).str.zfill(6) + "b",
        prompt_id=pl.col("at").cast(pl.String).str.zfill(6),
        annotator=pl.concat_str(pl.lit("llm:"), "judge_model"),
        criterion=pl.lit("quality"),
        draw=pl.lit(0),
        a_first=pl.col("order") == "ab",
        preference=(2 - winner).cast(pl.Float64),
    )
    missing = pl.when(pl.col("preference").is_null()).then(pl.lit("unparsable"))
    gold = said({"human:gold": (items["gold"] == 1).cast(pl.Float64).to_list()})
    votes = tables.check(
        "votes",
        pl.concat(
            [gold, tables.check("votes", votes.with_columns(unscored=missing), where="test")]
        ),
        where="test",
    )
    world = {**frames(items.height), "votes": votes}
    lost = {"ChatGPT": (89, 0.6), "LLaMA2": (67, 0.5857)}
    for judge, (k, by_orders) in lost.items():
        own = votes.filter(pl.col("annotator").is_in([f"llm:{judge}", "human:gold"]))
        label = f"llm:{judge}"
        asked = {"label": label, "person": "human:gold", "truth": "human:gold"}
        alone = simulate(
            {**world, "votes": own}, **asked, routers=chosen(["swap_inconsistency"])
        ).curves
        jury = simulate(world, **asked, routers=chosen(["expected_gain"])).curves["expected_gain"]
        assert alone["swap_inconsistency"].mean[k] == pytest.approx(by_orders, abs=5e-5)
        assert alone["random"].mean[k] > alone["swap_inconsistency"].mean[k]
        assert jury.mean[k] > alone["random"].high[k]
        assert jury.area_low > 0


def test_the_command_prints_what_it_found_and_draws_it(pandalm, tmp_path):
    drawn = tmp_path / "routing.svg"
    asked = [
        *("simulate-routing", "pandalm-humans", "--data", str(pandalm), "--label", "llm:gpt-3.5"),
        *("--person", "human:1", "--accuracy", "0.85", "--price", "0.5"),
        *("--router", "disagreement"),
        *("--picture", str(drawn)),
    ]
    ran = CliRunner().invoke(app, [*asked, "--json"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout.splitlines()[-1])
    reaches = told["routers"]["disagreement"]["reaches"]
    assert 0 < reaches["rows"] <= told["rows"]
    assert reaches["cost"] == pytest.approx(reaches["rows"] * 0.5)
    assert told["routers"]["random"]["reaches"]["rows"] > reaches["rows"]
    assert drawn.read_text().startswith("<svg")
    for columns in ("80", "160"):
        plain = CliRunner(env={"COLUMNS": columns}).invoke(app, asked)
        assert "disagreement" in plain.stdout
        assert f"{told['routers']['disagreement']['at'][0]['accuracy']:.3f}" in plain.stdout
