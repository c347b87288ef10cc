"""Mixes and what they are worth: planted worlds, exact least squares, leaving one out, a stage."""

import sys
from importlib import import_module

import numpy as np
import polars as pl
import pytest
from scipy import stats

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.route._mixes import candidate, candidates, gains, simulated, slopes
from prefdata.route._predictors import PENALTIES, compare, fit, rank_correlation
from prefdata.route.performance_predictor import (
    by_performance,
    labelled,
    pairs_of,
    performance_predictor,
)
from prefdata.stage import Model, PlugIn
from prefdata.tables import Completions, Pairs, Prompts, Votes
from tests.annotate.planted import answered
from tests.route.mixes_planted import N_ROWS, World
from tests.route.planted import named

N_MIXES, NOISE = 225, 0.5


def learnt(world, seed, kinds=("linear", "ridge", "quadratic")):
    """The records of predictors on noisy performances of planted mixes, and the one chosen."""
    draw = np.random.default_rng([seed, 1])
    counts = world.counts(masks := candidates(world.tags, N_MIXES, draw))
    performance = world.performance(masks) + draw.normal(scale=NOISE, size=N_MIXES)
    tried = compare(kinds, counts, performance, n_folds=10, seed=seed)
    return tried, fit(tried[0].kind, counts, performance, seed=seed), counts


def held_out(world, predict, seed):
    masks = world.mixes(100, np.random.default_rng([seed, 2]))
    return stats.spearmanr(predict(world.counts(masks)), world.performance(masks)).statistic


def captured(world, predict, counts, seed, n_people):
    """The part of the oracle's gain over mixes by lot, and whether it is above all but 2.5 %."""
    gain = gains(predict, world.tags, n_people, counts.std(0))
    routed = world.of_rows(np.argsort(-gain)[:n_people])
    draw = np.random.default_rng([seed, 3])
    lots = [world.of_rows(draw.permutation(N_ROWS)[:n_people]) for _ in range(200)]
    best = world.of_rows(world.oracle(n_people))
    share = (routed - np.mean(lots)) / (best - np.mean(lots))
    return share, routed > np.quantile(lots, 0.975)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("quadratic", "least"), [(0.0, 0.85), (1.0, 0.6)])
def test_planted_mixes_are_ranked_and_rows_chosen_above_the_lot(quadratic, least, seed):
    """Of 20 worlds of each kind, and beside the best that can be known, in bench_routing.py."""
    world = World(seed, quadratic)
    _, predict, counts = learnt(world, seed)
    assert held_out(world, predict, seed) >= least
    share, above = captured(world, predict, counts, seed, N_ROWS // 4)
    assert above
    assert share >= 0.4


def test_a_fourth_of_all_simulated_mixes_of_a_size_is_worse_than_the_one_that_is_taken():
    """Simulated with the truth as predictor, so that nothing but the choice is tried."""
    world = World(3)
    n = N_ROWS // 4
    draw = np.random.default_rng(0)
    rise = simulated(lambda counts: counts @ world.slope, world.tags, n, 100, draw, scale=1.0)
    taken = ~np.isnan(rise)
    assert taken.sum() == n
    assert len(set(rise[taken])) == 1
    others = world.performance(world.mixes(40, np.random.default_rng(1), n))
    assert world.of_rows(np.flatnonzero(taken)) > others.max() - 1e-9
    assert world.of_rows(np.flatnonzero(taken)) < world.of_rows(world.oracle(n))


def test_least_squares_on_all_products_is_what_the_others_are_better_than():
    """4,186 coefficients for 225 mixes: the published code's quadratic predictor ranks nothing."""
    world = World(0)
    draw = np.random.default_rng(5)
    counts = world.counts(masks := world.mixes(N_MIXES, draw))
    performance = world.performance(masks) + draw.normal(scale=NOISE, size=N_MIXES)
    new = world.mixes(60, draw)
    products = import_module("sklearn.preprocessing").PolynomialFeatures(2)
    plain = import_module("sklearn.linear_model").LinearRegression()
    plain.fit(products.fit_transform(counts), performance)
    of_source = stats.spearmanr(
        plain.predict(products.transform(world.counts(new))), world.performance(new)
    ).statistic
    for kind in ("ridge", "quadratic"):
        predict = fit(kind, counts, performance)
        ours = stats.spearmanr(predict(world.counts(new)), world.performance(new)).statistic
        assert ours > of_source + 0.2


def small(seed=0, n=40, k=5):
    draw = np.random.default_rng(seed)
    counts = draw.poisson(20, (n, k)).astype(float)
    return draw, counts, counts @ draw.normal(size=k) + draw.normal(size=n)


def test_linear_and_ridge_are_scikit_learns():
    _, counts, y = small()
    new = counts[:7] + 1.5
    models = import_module("sklearn.linear_model")
    np.testing.assert_allclose(
        fit("linear", counts, y)(new), models.LinearRegression().fit(counts, y).predict(new)
    )
    mean, spread = counts.mean(0), np.sqrt(counts.var(0).mean())
    # Of a mean that is taken from all mixes; the kernel is divided by the number of tags.
    z, of_new = (counts - mean) / spread, (new - mean) / spread
    theirs = models.RidgeCV(alphas=PENALTIES * counts.shape[1], fit_intercept=False)
    theirs.fit(z, y - y.mean())
    np.testing.assert_allclose(fit("ridge", counts, y)(new), theirs.predict(of_new) + y.mean())


def test_the_quadratic_predictor_learns_a_product_and_leaves_it_where_there_is_none():
    draw = np.random.default_rng(2)
    counts = draw.uniform(0, 50, (150, 6))
    new = draw.uniform(0, 50, (150, 6))

    def truth(v):
        return v[:, 0] * v[:, 1] / 50 + v[:, 2]

    y = truth(counts) + draw.normal(scale=1.0, size=150)
    linear, quadratic = (
        np.corrcoef(fit(kind, counts, y)(new), truth(new))[0, 1] for kind in ("ridge", "quadratic")
    )
    assert quadratic > 0.99 > linear
    plain = counts @ np.arange(6.0)
    np.testing.assert_allclose(
        fit("quadratic", counts, plain)(new), new @ np.arange(6.0), rtol=0.05
    )


def test_trees_learn_a_step_that_lines_cannot():
    draw = np.random.default_rng(3)
    counts, new = draw.uniform(0, 1, (200, 4)), draw.uniform(0, 1, (200, 4))

    def truth(v):
        return ((v[:, 0] > 0.4) & (v[:, 0] < 0.7)).astype(float)

    tried = compare(("linear", "trees"), counts, truth(counts), n_folds=5, seed=0)
    assert tried[0].kind == "trees"
    said = fit("trees", counts, truth(counts))(new)
    assert np.corrcoef(said, truth(new))[0, 1] > 0.9


def test_the_simplest_is_used_unless_another_is_better_by_more_than_chance():
    """Products that matter are found out; those that do not are left alone."""
    draw = np.random.default_rng(8)
    counts = draw.uniform(-1, 1, (200, 6))
    plain, bent = counts @ np.arange(6.0), 4 * counts[:, 0] * counts[:, 1]
    for part, used in ((0.0, "ridge"), (1.0, "quadratic")):
        for seed in range(5):
            noisy = plain / 4 + part * bent + np.random.default_rng(seed).normal(size=200)
            kinds = ("quadratic", "linear", "ridge")
            tried = compare(kinds, counts, noisy, n_folds=10, seed=seed)
            assert tried[0].kind == used
            assert sorted(each.kind for each in tried) == sorted(kinds)
            others = [each.correlation for each in tried[1:]]
            assert others == sorted(others, reverse=True)


def test_the_record_of_a_predictor_is_one_on_mixes_that_it_did_not_see():
    draw = np.random.default_rng(4)
    found = []
    for seed in range(60):
        counts, y = draw.normal(size=(40, 15)), draw.normal(size=40)
        tried = compare(("linear", "ridge"), counts, y, n_folds=10, seed=seed)
        found += [each.correlation for each in tried if each.kind == "linear"]
        for each in tried:
            assert each.low <= each.correlation <= each.high
    # Fitted on what it predicts, it would be about 0.6 of nothing.
    assert abs(np.mean(found)) < 0.1
    assert rank_correlation(np.ones(9), np.arange(9.0)) == 0
    assert rank_correlation(np.arange(9.0) ** 3, np.arange(9.0)) == pytest.approx(1)


def test_a_mix_takes_whole_tags_but_for_the_last_one():
    draw = np.random.default_rng(6)
    of = draw.integers(0, 6, 300)
    tags = of[:, None] == np.arange(5)  # a sixth of the rows has no tag
    for n in (0, 1, 77, 250, 300):
        mask = candidate(tags, n, draw)
        assert mask.sum() == n
        shares = [mask[of == tag].mean() for tag in range(6)]
        assert sum(0 < share < 1 for share in shares) <= 1
        if n <= (of < 5).sum():
            assert shares[5] == 0
    made = candidates(tags, 200, draw)
    assert not made[0].any()
    assert made[1].all()
    sizes = made[2:].sum(1)
    assert (sizes > 0).all()
    assert (sizes < 300).all()
    assert abs(np.median(sizes) - 150) < 20
    assert np.mean(np.abs(sizes - 150) < 75) > 0.6, "of an even draw it would be half"
    first = [m[of == 0].mean() for m in made[2:]]
    assert abs(np.mean(first) - np.mean([m[of == 4].mean() for m in made[2:]])) < 0.2
    assert (candidates(tags, 5, draw, 9).sum(1) == 9).all()


def test_gains_are_the_slopes_of_a_line_and_find_the_best_mix_of_a_curve():
    draw = np.random.default_rng(7)
    slope = draw.normal(size=4)
    np.testing.assert_allclose(slopes(lambda v: v @ slope, np.ones(4), np.ones(4)), slope)
    assert slopes(lambda v: v @ slope, np.ones(4), np.array([1.0, 0, 1, 1]))[1] == 0
    # Rows of one of two tags; what is best is 30 of the one and 20 of the other.
    tags = np.arange(200)[:, None] % 2 == np.arange(2)

    def curved(v):
        return -((v[..., 0] - 30) ** 2) - (v[..., 1] - 20) ** 2

    gain = gains(curved, tags, 50, np.array([10.0, 10.0]))
    # At the best mix neither tag is worth more than the other, whose slope was 40 at the start.
    assert abs(gain[0] - gain[1]) < 5


def world(seed=0, n=240, seen=160):
    """Models take the worse side on prompts tagged "hard"; vectors show what is better."""
    draw = np.random.default_rng(seed)
    hard = draw.random(n) < 0.35
    vectors = draw.normal(size=(n, 2, 6))
    better = vectors[:, 0, 0] > vectors[:, 1, 0]
    prompt = [[{"role": "user", "content": f"question {at}"}] for at in range(n)]
    ids = tables.prompt_ids(prompt)
    prompts = pl.DataFrame(
        {
            "prompt_id": ids,
            "prompt": prompt,
            "source": "test",
            "tags": [["hard"] if each else ["easy"] for each in hard],
        }
    )
    said = [
        [{"role": "assistant", "content": f"{at} {side}"}] for at in range(n) for side in (0, 1)
    ]
    two = [id for id in ids for _ in range(2)]
    completions = pl.DataFrame(
        {"completion_id": tables.completion_ids(two, said), "prompt_id": two, "completion": said}
    )
    names = completions["completion_id"].to_numpy().reshape(n, 2)
    turned = names[:, 0] > names[:, 1]
    frames = []
    for annotator, chose, some in (
        ("llm:one", better ^ (hard & (draw.random(n) < 0.9)), np.ones(n, bool)),
        ("human:u", better, np.arange(n) < seen),
    ):
        frame = pl.DataFrame(
            {
                "prompt_id": ids,
                "completion_a": names.min(1),
                "completion_b": names.max(1),
                "annotator": annotator,
                "criterion": "quality",
                "draw": 0,
                "a_first": True,
                "preference": (chose ^ turned).astype(float),
            }
        )
        frames.append(frame.filter(some))
    votes = tables.typed(Votes, pl.concat(frames))
    of = {f"{at} {side}": vectors[at, side].tolist() for at in range(n) for side in (0, 1)}
    hard_ids = set(pl.Series(names.min(1)).filter(pl.Series(hard)))
    made = tables.typed(Prompts, prompts), tables.typed(Completions, completions)
    return votes, *made, of, hard_ids


def routed(votes, prompts, completions, of, **options):
    stage = performance_predictor(
        votes, prompts, completions,
        budget={"rows": 15, "audit": 0.0}, model=Model("m", label="e", identity="e@1"),
        predictors=("ridge",), **{"n_mixes": 60, **options},
    )  # fmt: skip
    return answered(stage, lambda row: {"vector": of[row["messages"][-1]["content"]]})[0]


@pytest.mark.parametrize(
    "options", [{}, {"head": "mlp", "n_mixes": 25}, {"choice": "simulated"}], ids=str
)
def test_people_get_the_rows_on_which_models_teach_what_is_wrong(options):
    votes, prompts, completions, of, hard = world()
    made, told = routed(votes, prompts, completions, of, **options)
    assert made.height == 15
    assert set(made["completion_a"]) <= hard
    values = named(told)
    assert values["mix_performance people"] > values["mix_performance models"]
    assert values["tag_gain tags:hard"] > max(0, values["tag_gain tags:easy"])
    assert values["mix_rank_correlation ridge"] > 0.5


def test_the_order_of_rows_changes_nothing(shuffled):
    votes, prompts, completions, of, _ = world(n=100, seen=60)
    one = routed(votes, prompts, completions, of)
    mixed = (shuffled(each, at) for at, each in enumerate((votes, prompts, completions)))
    other = routed(*mixed, of)
    assert one[0].equals(other[0])
    assert one[1].equals(other[1])


def test_without_people_it_is_the_lot_and_bad_options_are_refused():
    votes, prompts, completions, of, _ = world(n=40, seen=0)
    made, told = routed(votes, prompts, completions, of)
    assert made["gain"].null_count() == made.height == 15
    assert told.is_empty()
    plugged = PlugIn("mine:evaluate", max)
    with pytest.raises(RecipeError, match="mine:evaluate takes; leave one out"):
        routed(votes, prompts, completions, of, evaluate=plugged)
    for options in ({"n_mixes": 5}, {"held_out": 1.0}, {"predictors": []}):
        with pytest.raises(RecipeError, match="expected at least 10"):
            next(performance_predictor(votes, prompts, completions, budget={"rows": 1}, **options))


def test_a_performance_of_ones_own_takes_the_place_of_the_proxy():
    """One that likes wrong labels on hard prompts: then people get none of these."""
    votes, prompts, _, _, hard = world()
    rows = labelled(votes, "human", None)
    train, aside = rows.head(110), rows.tail(50)
    truth = pairs_of(train, train["person"].to_numpy())
    held_out = pairs_of(aside, aside["person"].to_numpy())
    heard = []

    def evaluate(mix: Pairs, on: Pairs) -> float:
        heard.append(mix)
        assert on.equals(held_out)
        right = mix.join(truth, on=["pair_id", "chosen_id"])
        smaller = pl.min_horizontal("chosen_id", "rejected_id")
        return 1 - right.filter(smaller.is_in(list(hard))).height / mix.height

    made, told = by_performance(
        votes, prompts, None, None, train, held_out, evaluate,
        budget={"rows": 15, "audit": 0.0}, features=(), by=("tags",), min_rows=5,
        predictors=("linear", "ridge"), n_mixes=40, n_folds=5, annotator="human", seed=0,
    )  # fmt: skip
    assert len(heard) == 40
    assert heard[1].equals(truth)
    assert set(heard[0]["pair_id"]) == set(train["pair_id"])
    assert not set(made["completion_a"]) & hard
    assert named(told)["tag_gain tags:hard"] < 0


def test_without_scikit_learn_trees_are_refused_before_anything_is_asked(monkeypatch):
    votes, prompts, completions, _, _ = world(n=40, seen=30)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(RecipeError, match=r"needs scikit-learn.*or leave it out of predictors"):
        next(performance_predictor(votes, prompts, completions, budget={"rows": 1}))
