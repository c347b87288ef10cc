import json
import re

import numpy as np
import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.pointwise import pointwise
from prefdata.errors import RecipeError
from prefdata.explain import _posterior
from prefdata.explain import properties as file
from prefdata.explain._posterior import fit_posterior
from prefdata.explain.properties import PROPERTIES, RATED, longer_of, properties
from prefdata.tables import Completions, Prompts, Ratings
from tests.annotate.replying import first, keys
from tests.annotate.replying import run as judged
from tests.explain.planted import MODEL, labelled

JUDGE = judges.load("properties")
WEIGHTS = {
    "relevant": 0.6,
    "clear": -0.5,
    "funny": 0.45,
    "severe_errors": 0.4,
    "polite": -0.35,
    "meets_constraints": 0.5,
}


@pytest.fixture
def quick(monkeypatch):
    """Where the posterior's digits are not what is tested."""
    monkeypatch.setattr(_posterior, "CHAINS", 8)


def world(n, weights=WEIGHTS, *, tags=None, seed=0, nobody=()):
    """n comparisons whose labels follow the signs of their sides' grades, drawn at random."""
    draw = np.random.default_rng(seed)
    asked = [[{"role": "user", "content": f"question {seed} {at}"}] for at in range(n)]
    prompts = pl.DataFrame(
        {"prompt_id": tables.prompt_ids(asked), "prompt": asked, "source": "test", "tags": tags},
        schema_overrides={"tags": pl.List(pl.String)},
    )
    grades = draw.integers(0, 4, (n, 2, len(RATED)))
    grades[:, :, [RATED.index(name) for name in nobody]] = 0
    owners = [each for each in prompts["prompt_id"] for _ in (0, 1)]
    flat = grades.reshape(2 * n, -1)
    said = [
        [{"role": "assistant", "content": f"{at} " + "".join(map(str, row))}]
        for at, row in enumerate(flat)
    ]
    ids = tables.completion_ids(owners, said)
    completions = pl.DataFrame({"completion_id": ids, "prompt_id": owners, "completion": said})
    ratings = pl.DataFrame(
        {
            "completion_id": np.repeat(ids.to_numpy(), len(RATED)),
            "prompt_id": np.repeat(owners, len(RATED)),
            "annotator": "llm:grader/properties",
            "criterion": np.tile(RATED, 2 * n),
            "draw": 0,
            "rating": flat.ravel() / 3,
        }
    )
    worth = np.array([weights.get(name, 0.0) for name in RATED])
    apart = np.sign(grades[:, 0] - grades[:, 1]) @ worth
    one = draw.random(n) < 1 / (1 + np.exp(-apart))
    return (
        tables.typed(Prompts, prompts),
        tables.typed(Completions, completions),
        labelled(prompts, ids, one),
        tables.typed(Ratings, ratings),
    )


def weights_of(made, subject="all"):
    mine = made.filter(pl.col("subject") == subject)
    return np.array(
        [mine.filter(measure=f"property_{name}")["value"].item() for name in PROPERTIES], float
    )


def number(made, measure, subject="all"):
    return made.filter(measure=measure, subject=subject)["value"].item()


def test_planted_weights_are_recovered():
    made = properties(*world(2000), permutations=19)
    found = weights_of(made)
    planted = np.array([WEIGHTS.get(name, 0.0) for name in PROPERTIES])
    there = ~np.isnan(found)
    assert there[:-1].all()
    assert np.corrcoef(found[there], planted[there])[0, 1] >= 0.95
    strong = np.abs(planted) >= 0.3
    assert (np.sign(found[strong]) == np.sign(planted[strong])).all()
    assert number(made, "properties_accuracy") > number(made, "properties_null")
    assert number(made, "properties_p") == 1 / 20


def test_intervals_cover_weights_that_the_prior_gives():
    """Then a posterior interval covers as often as it says, whatever the data."""
    draw = np.random.default_rng(0)
    covered = []
    for seed in range(24):
        planted = draw.laplace(0, 0.1, 10)
        x = draw.integers(-1, 2, (300, 10)).astype(float)
        x *= np.where(draw.random(300) < 1 / (1 + np.exp(-x @ planted)), 1, -1)[:, None]
        (mean, spread, low, high), effective = fit_posterior(x, 0.1, seed)
        assert effective > 0.3
        covered.append((low <= planted) & (planted <= high))
        assert (low < mean).all()
        assert (mean < high).all()
        assert (spread > 0).all()
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize(("n", "share"), [(8, 0.9), (60, 0.6), (3000, 0.52)])
def test_the_posterior_is_that_of_a_grid(n, share):
    """Two features, of which few or many comparisons tell; quadrature as the oracle."""
    draw = np.random.default_rng(n)
    x = draw.integers(-1, 2, (n, 2)).astype(float)
    x[:, 0] = np.where(draw.random(n) < share, 1.0, -1.0)
    axis = np.linspace(-1.2, 1.2, 601)
    one, two = np.meshgrid(axis, axis, indexing="ij")
    log = -(np.abs(one) + np.abs(two)) / 0.1
    for (a, b), times in zip(*np.unique(x, axis=0, return_counts=True), strict=True):
        log -= times * np.logaddexp(0, -(a * one + b * two))
    p = np.exp(log - log.max())
    p /= p.sum()
    (mean, spread, low, high), _ = fit_posterior(x, 0.1)
    for at, values in enumerate((one, two)):
        middle = (p * values).sum()
        wide = np.sqrt((p * (values - middle) ** 2).sum())
        below = np.cumsum(p.sum(1 - at))
        assert mean[at] == pytest.approx(middle, abs=0.1 * wide)
        assert spread[at] == pytest.approx(wide, rel=0.1)
        assert low[at] == pytest.approx(axis[np.searchsorted(below, 0.025)], abs=0.3 * wide)
        assert high[at] == pytest.approx(axis[np.searchsorted(below, 0.975)], abs=0.3 * wide)


def test_a_weak_property_has_a_mean_where_the_maximum_is_nought():
    x = np.array([[1.0]] * 52 + [[-1.0]] * 48)
    # At 0 the likelihood climbs by less than the prior falls, so 0 is the maximum.
    assert (x / 2).sum() < 1 / 0.1
    (mean, _, low, high), _ = fit_posterior(x, 0.1)
    assert 0.005 < mean[0] < 0.08
    assert low[0] < 0 < high[0]


def test_what_nobody_has_has_no_weight_and_labels_at_random_are_not_predicted():
    made = properties(*world(300, {}, nobody=["funny"]), permutations=39)
    row = made.filter(measure="property_funny").to_dicts()[0]
    assert (row["value"], row["stderr"], row["n"]) == (None, None, 0)
    assert row["note"].endswith("none differs in it")
    others = made.filter(pl.col("measure").str.starts_with("property_"), pl.col("n") > 0)
    assert ((others["low"] < 0) & (others["high"] > 0)).mean() > 0.85
    assert number(made, "properties_p") > 0.05


def test_names_rows_and_the_way_round_change_nothing():
    prompts, completions, pairs, ratings = world(80)
    made = properties(prompts, completions, pairs, ratings, permutations=19)
    mixed = [t.sample(fraction=1, shuffle=True, seed=3) for t in (completions, pairs, ratings)]
    again = properties(prompts.reverse(), *mixed, permutations=19)
    assert made.sort("measure").equals(again.sort("measure"))
    turned = pairs.rename({"chosen_id": "rejected_id", "rejected_id": "chosen_id"})
    back = properties(prompts, completions, turned, ratings, permutations=19)
    there = ~np.isnan(weights_of(made))
    assert weights_of(back)[there] == pytest.approx(-weights_of(made)[there], abs=0.02)
    assert number(back, "properties_accuracy") == number(made, "properties_accuracy")


@pytest.mark.usefixtures("quick")
def test_each_tag_has_weights_of_its_own():
    one, two = (world(400, {"relevant": w}, tags=[[t]] * 400, seed=s) for w, t, s in
                ((1.0, "code", 1), (-1.0, "chat", 2)))  # fmt: skip
    few = world(5, tags=[["rare"]] * 5, seed=3)
    both = [pl.concat(three) for three in zip(one, two, few, strict=True)]
    made = properties(*both, permutations=19)
    assert set(made["subject"]) == {"all", "tag:code", "tag:chat"}
    assert number(made, "property_relevant", "tag:code") > 0.5
    assert number(made, "property_relevant", "tag:chat") < -0.5
    assert abs(number(made, "property_relevant")) < 0.2
    assert made.filter(measure="properties_p", subject="tag:code")["n"].item() == 400


@pytest.mark.usefixtures("quick")
def test_what_does_not_apply_is_no_difference_or_no_comparison():
    prompts, completions, pairs, ratings = world(60)
    some = completions["completion_id"][:10].to_list()
    mine = pl.col("completion_id").is_in(some)

    def without(criterion, why):
        gone = mine & (pl.col("criterion") == criterion)
        return ratings.with_columns(
            rating=pl.when(~gone).then("rating"), unscored=pl.when(gone).then(pl.lit(why))
        )

    touched = pairs.filter(pl.col("chosen_id").is_in(some) | pl.col("rejected_id").is_in(some))
    n = 60 - touched.height
    for criterion, why, left in (
        ("empathetic", "not applicable", 60),
        ("empathetic", "no verdict", n),
        ("minor_errors", "not applicable", n),
        ("clear", "no verdict", n),
    ):
        made = properties(
            prompts, completions, pairs, without(criterion, why), permutations=19, folds=5
        )
        assert made.filter(measure="properties_accuracy")["n"].item() == left, (criterion, why)
    whole = properties(prompts, completions, pairs, ratings, permutations=19, folds=5)
    silent = without("empathetic", "not applicable")
    part = properties(prompts, completions, pairs, silent, permutations=19, folds=5)
    n_of = [each.filter(measure="property_empathetic")["n"].item() for each in (whole, part)]
    assert n_of[1] < n_of[0]


def test_length_follows_the_rule_of_the_source():
    few = [0, 0, 1, 1, 11, 11, 20, 20, 80, 80, 300, 300, 5, 500]
    many = [0, 1, 2, 3, 18, 19, 29, 30, 99, 100, 333, 340, 9, 500]
    longer = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    assert longer_of(np.array(many), np.array(few)).tolist() == longer
    assert longer_of(np.array(few), np.array(many)).tolist() == [-each or 0 for each in longer]


@pytest.mark.usefixtures("quick")
def test_length_is_counted_without_anybody_rating_it():
    prompts, completions, pairs, ratings = world(100)
    chosen = pl.col("completion_id").is_in(pairs["chosen_id"].to_list())
    words = pl.when(chosen).then(pl.lit("word " * 40)).otherwise(pl.lit("word " * 10))
    longer = completions.with_columns(completion=words).with_columns(
        tables.said("assistant", "completion")
    )
    made = properties(prompts, longer, pairs, ratings, permutations=19)
    assert number(made, "property_lengthy") > 0.5
    assert made.filter(measure="property_lengthy")["n"].item() == 100


def test_a_judge_rates_all_that_is_known_here():
    assert tuple(criterion.name for criterion in JUDGE.criteria) == RATED
    may = {c.name for c in JUDGE.criteria if c.scale.not_applicable}
    assert may == {*file._SOMETIMES, *file._ERRORS}


def test_from_a_judge_to_weights():
    """A judge who reads the planted grades: errors are counted, so fewer is a higher rating."""
    prompts, completions, _, ratings = world(30)

    def reads(request):
        reply = re.findall(r"```\n(.*?)\n```", first(request), re.DOTALL)[1]
        grades = dict(zip(RATED, map(int, reply.split()[1]), strict=True))
        fewer = {name: 3 - grades[name] for name in file._ERRORS}
        return json.dumps({key: {**grades, **fewer}[key] for key in keys(request)})

    said = judged(pointwise(prompts, completions, judge=JUDGE, model=MODEL), reads)
    told = ["completion_id", "criterion", pl.col("rating").round(6)]
    one, other = (each.select(told).sort("completion_id", "criterion") for each in (said, ratings))
    assert one.equals(other)


def test_mistakes_are_named():
    prompts, completions, pairs, ratings = world(3)
    other = ratings.with_columns(criterion=pl.lit("taste")).unique("completion_id")
    for given, options, said in (
        (other, {}, "the ratings are of no property"),
        (ratings, {"annotator": "human:x"}, "no ratings by 'human:x'"),
        (ratings, {"scale": 0.0}, "scale = 0.0"),
        (ratings, {"folds": 1}, "folds = 1"),
        (ratings, {"permutations": 5}, "permutations = 5"),
        (ratings, {"min_comparisons": 0}, "min_comparisons = 0"),
    ):
        with pytest.raises(RecipeError, match=re.escape(said)):
            properties(prompts, completions, pairs, given, **options)
    few = properties(prompts, completions, pairs, ratings)
    note = few.filter(measure="properties_accuracy")["note"].item()
    assert note == "3 prompt groups are too few for 10 folds"
