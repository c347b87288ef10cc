"""Agreement: published examples, other libraries, and a plain second implementation."""

from itertools import combinations, permutations

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau, rankdata
from sklearn.metrics import cohen_kappa_score

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.agreement import agreement
from prefdata.tables import Rankings, Ratings, Votes

# Fleiss (1971), as tabulated since: 10 subjects, 14 raters, 5 categories.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip

# Krippendorff (2011), section C: four observers, twelve units, missing values.
KRIPPENDORFF = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def ratings_of(rows, prompt=None):
    """Ratings from (completion, annotator, rating), several of one annotator as its draws.

    Each completion answers a prompt of its own, or all answer `prompt`.
    """
    columns = ["completion_id", "annotator", "rating"]
    frame = pl.DataFrame(rows, schema=columns, orient="row", strict=False).with_columns(
        pl.coalesce(pl.lit(prompt), pl.concat_str(pl.lit("p"), "completion_id")).alias("prompt_id"),
        pl.lit("quality").alias("criterion"),
        pl.concat_str(pl.lit("human:"), "annotator").alias("annotator"),
        pl.when(pl.col("rating").is_null()).then(pl.lit("refused")).alias("unscored"),
    )
    draw = pl.int_range(pl.len()).over("completion_id", "annotator").alias("draw")
    return tables.typed(Ratings, frame.with_columns(draw))


def votes_of(rows, criterion="quality"):
    """Votes from (unit, annotator, preference or None)."""
    frame = pl.DataFrame(
        rows, schema=["unit", "annotator", "preference"], orient="row", strict=False
    )
    frame = frame.select(
        pl.concat_str(pl.lit("a"), "unit").alias("completion_a"),
        pl.concat_str(pl.lit("b"), "unit").alias("completion_b"),
        pl.concat_str(pl.lit("human:"), "annotator").alias("annotator"),
        pl.lit(criterion).alias("criterion"),
        pl.int_range(pl.len()).over("unit", "annotator").alias("draw"),
        pl.concat_str(pl.lit("p"), "unit").alias("prompt_id"),
        pl.col("preference").cast(pl.Float64),
        pl.when(pl.col("preference").is_null()).then(pl.lit("no verdict")).alias("unscored"),
    )
    return tables.typed(Votes, frame)


def measured(made, measure, subject="all"):
    chosen = made.filter((pl.col("measure") == measure) & (pl.col("subject") == subject))
    return chosen.row(0, named=True)


def random_rows(seed, n_units=60, n_annotators=4, missing=0.3):
    draw = np.random.default_rng(seed)
    rows = []
    for unit in range(n_units):
        truth = draw.choice([0.0, 0.5, 1.0])
        for who in range(n_annotators):
            given = truth if draw.random() < 0.6 else draw.choice([0.0, 0.5, 1.0])
            if draw.random() > missing:
                rows.append((unit, f"h{who}", float(given)))
    return rows


def plain_alpha(units, distance):
    """Krippendorff's alpha from its coincidences, summed one by one."""
    units = [values for values in units if len(values) > 1]
    everything = [value for values in units for value in values]
    n = len(everything)
    observed = sum(
        sum(distance(x, y) for x, y in permutations(values, 2)) / (len(values) - 1)
        for values in units
    )
    expected = sum(distance(x, y) for x, y in permutations(everything, 2)) / (n - 1)
    return 1 - observed / expected


def test_cohens_kappa_is_scikit_learns():
    rows = random_rows(0)
    made = agreement(votes_of(rows))
    for one, other in combinations(["h0", "h1", "h2", "h3"], 2):
        mine, theirs = ({u: p for u, a, p in rows if a == who} for who in (one, other))
        common = sorted(set(mine) & set(theirs))
        labels = [[str(side[u]) for u in common] for side in (mine, theirs)]
        row = measured(made, "cohen_kappa_votes", f"human:{one} & human:{other}")
        assert row["value"] == pytest.approx(cohen_kappa_score(*labels))
        assert row["n"] == len(common)


def test_fleiss_kappa_of_the_published_example():
    rows = [
        (unit, f"{who}", (1 + category) / 5)
        for unit, counts in enumerate(FLEISS)
        for who, category in enumerate(np.repeat(range(5), counts))
    ]
    made = agreement(None, ratings_of([(f"c{u}", a, r) for u, a, r in rows]))
    row = measured(made, "fleiss_kappa_ratings")
    assert row["value"] == pytest.approx(0.210, abs=5e-4)
    assert row["n"] == 10


def test_krippendorffs_alpha_of_the_published_example():
    rows = [
        (f"c{unit:02}", f"h{who}", int(value) / 5)
        for who, line in enumerate(KRIPPENDORFF)
        for unit, value in enumerate(line.split())
        if value != "."
    ]
    made = agreement(None, ratings_of(rows))
    nominal = measured(made, "krippendorff_alpha_ratings")
    interval = measured(made, "krippendorff_alpha_interval_ratings")
    ordinal = measured(made, "krippendorff_alpha_ordinal_ratings")
    assert ordinal["value"] == pytest.approx(0.815, abs=5e-4)
    assert nominal["value"] == pytest.approx(0.743, abs=5e-4)
    assert interval["value"] == pytest.approx(0.849, abs=5e-4)
    assert nominal["n"] == interval["n"] == 11


def test_gwets_coefficient_of_the_published_example():
    """Gwet (2008): 118 and 0 agreements, 5 and 2 disagreements; kappa is below 0, AC1 is not."""
    cells = [(1.0, 1.0)] * 118 + [(1.0, 0.0)] * 5 + [(0.0, 1.0)] * 2
    rows = [(u, who, each[w]) for u, each in enumerate(cells) for w, who in enumerate(("h0", "h1"))]
    made = agreement(votes_of(rows))
    kappa = measured(made, "cohen_kappa_votes", "human:h0 & human:h1")["value"]
    assert kappa == pytest.approx(-0.0234, abs=1e-4)
    assert measured(made, "gwet_ac1_votes")["value"] == pytest.approx(0.9408, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_and_fleiss_are_those_of_a_plain_sum(seed):
    rows = random_rows(seed)
    units = [[p for u, _, p in rows if u == unit] for unit in range(60)]
    made = agreement(votes_of(rows), ratings_of([(f"c{u}", a, r) for u, a, r in rows]))
    nominal = plain_alpha(units, lambda x, y: float(x != y))
    assert measured(made, "krippendorff_alpha_votes")["value"] == pytest.approx(nominal)
    assert measured(made, "krippendorff_alpha_ratings")["value"] == pytest.approx(nominal)
    interval = plain_alpha(units, lambda x, y: (x - y) ** 2)
    found = measured(made, "krippendorff_alpha_interval_ratings")["value"]
    assert found == pytest.approx(interval)
    several = [values for values in units if len(values) > 1]
    same = np.mean([np.mean([x == y for x, y in permutations(v, 2)]) for v in several])
    share = np.mean([[v.count(c) / len(v) for c in (0.0, 0.5, 1.0)] for v in several], axis=0)
    kappa = (same - (share**2).sum()) / (1 - (share**2).sum())
    assert measured(made, "fleiss_kappa_votes")["value"] == pytest.approx(kappa)


def test_alpha_is_crowd_kits():
    crowdkit = pytest.importorskip("crowdkit.metrics.data")
    import pandas as pd

    rows = random_rows(7)
    frame = pd.DataFrame(rows, columns=["task", "worker", "label"]).astype({"label": str})
    theirs = crowdkit.alpha_krippendorff(frame)
    found = measured(agreement(votes_of(rows)), "krippendorff_alpha_votes")["value"]
    assert found == pytest.approx(theirs)


def test_standard_errors_are_the_spread_over_repeated_data():
    """Each coefficient's error against its standard deviation over 200 planted data sets."""
    worlds = [
        votes_of([(u + 100 * seed, f"{a}of{seed:03}", p) for u, a, p in rows], f"world{seed:03}")
        for seed in range(200)
        for rows in [random_rows(seed, n_annotators=3, missing=0.2)]
    ]
    made = agreement(Votes(pl.concat(worlds)))
    of_two = pl.col("subject").str.contains("h0of.*h1of")
    of_world = pl.col("subject").str.starts_with("criterion:")
    for name, ours in (("cohen", of_two), ("fleiss", of_world), ("krippendorff", of_world)):
        found = made.filter(pl.col("measure").str.starts_with(name) & ours)
        assert found.height == 200
        assert 0.85 < found["stderr"].mean() / found["value"].std() < 1.15


def test_the_error_of_cohens_kappa_covers_the_planted_kappa():
    """Two annotators who agree with a fair truth with probability q: kappa is (2 q - 1) ** 2."""
    q, rows = 0.85, []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        for unit in range(150):
            truth = draw.random() < 0.5
            for who in ("h0", "h1"):
                said = float(truth == (draw.random() < q))
                rows.append((unit + 1000 * seed, f"{who}of{seed:03}", said))
    made = agreement(votes_of(rows)).filter(pl.col("measure") == "cohen_kappa_votes")
    inside = (made["value"] - (2 * q - 1) ** 2).abs() < 1.96 * made["stderr"]
    assert made.height == 200
    assert 180 <= inside.sum() <= 198


def test_a_single_class_is_undefined_and_not_perfect():
    rows = [(unit, who, 1.0) for unit in range(9) for who in ("h0", "h1")]
    made = agreement(votes_of(rows), ratings_of([(f"c{u}", a, r) for u, a, r in rows], "one"))
    assert made.height == 12
    for column in ("value", "stderr", "low", "high"):
        assert made[column].is_null().all()
    is_tau = pl.col("measure") == "kendall_tau_ratings"
    assert (made.filter(~is_tau)["n"] == 9).all()
    assert (made.filter(is_tau)["n"] == 36).all()
    assert (made["note"] == "undefined: there is one class only").all()


def test_one_annotator_agrees_with_nobody():
    """A judge's two orders or draws are no second opinion, on whatever units they are."""
    rows = [(u, "h0", float((u + k) % 3 > 0)) for u in range(20) for k in range(2)]
    made = agreement(votes_of(rows), ratings_of([(f"c{u}", a, r) for u, a, r in rows]))
    assert set(made["subject"]) == {"all"}
    assert made.height == 3 + 6
    assert made["value"].is_null().all()
    assert (made["n"] == 0).all()
    assert (made["note"] == "only one annotator has labels").all()
    apart = agreement(votes_of([(u, f"h{u % 2}", p) for u, _, p in rows]))
    assert apart["value"].is_null().all()
    assert (apart["note"] == "no unit has labels of two annotators").all()
    beside = [(99, who, p) for who, p in (("h0", 1.0), ("h1", 0.0))]
    alone = agreement(votes_of(beside))
    for name in ("fleiss_kappa_votes", "gwet_ac1_votes", "krippendorff_alpha_votes"):
        ours = measured(agreement(votes_of(rows + beside)), name)
        assert ours["value"] == pytest.approx(measured(alone, name)["value"])
        assert ours["n"] == 1


def test_perfect_and_opposite_annotators():
    rows = [(unit, who, float(unit % 2)) for unit in range(10) for who in ("h0", "h1")]
    opposite = [(u, a, p if a == "h0" else 1 - p) for u, a, p in rows]
    for name in ("cohen_kappa_votes", "fleiss_kappa_votes", "krippendorff_alpha_votes"):
        subject = "human:h0 & human:h1" if name.startswith("cohen") else "all"
        assert measured(agreement(votes_of(rows)), name, subject)["value"] == pytest.approx(1)
        assert measured(agreement(votes_of(opposite)), name, subject)["value"] < -0.8


def test_independent_annotators_agree_by_chance():
    draw = np.random.default_rng(0)
    rows = [(u, w, float(draw.random() < 0.7)) for u in range(20_000) for w in ("h0", "h1")]
    made = agreement(votes_of(rows))
    is_ac1 = pl.col("measure") == "gwet_ac1_votes"
    assert (made.filter(~is_ac1)["value"].abs() < 0.03).all()
    # Its chance is that of guesses, not of these annotators' habits: (0.58 - 0.42) / (1 - 0.42).
    assert made.filter(is_ac1)["value"][0] == pytest.approx(0.16 / 0.58, abs=0.02)


def test_unscored_votes_have_no_label():
    rows = random_rows(2)
    unscored = [(unit, "h9", None) for unit in range(60)]
    assert agreement(votes_of(rows + unscored)).equals(agreement(votes_of(rows)))


def test_both_orders_of_a_judge_are_labels_of_their_own():
    """A judge that contradicts itself on half of the units, beside a person."""
    rows = [(u, "person", float(u % 2)) for u in range(40)]
    rows += [(u, "judge", float(u % 2)) for u in range(40)]
    rows += [(u, "judge", float(u % 2) if u % 4 < 2 else 1 - float(u % 2)) for u in range(40)]
    made = agreement(votes_of(rows))
    kappa = measured(made, "cohen_kappa_votes", "human:judge & human:person")
    assert kappa["n"] == 40
    assert kappa["value"] == pytest.approx(0.5)
    units = [[p for u, _, p in rows if u == unit] for unit in range(40)]
    alpha = plain_alpha(units, lambda x, y: float(x != y))
    assert measured(made, "krippendorff_alpha_votes")["value"] == pytest.approx(alpha)


def test_invariance_to_row_order_to_names_and_to_swapped_sides():
    rows = random_rows(3)
    made = agreement(votes_of(rows))
    votes = votes_of(rows)
    assert agreement(Votes(votes.sample(fraction=1, shuffle=True, seed=1))).equals(made)
    swapped = agreement(Votes(votes.with_columns(preference=1 - pl.col("preference"))))
    assert np.allclose(swapped["value"], made["value"])
    other = [(u, {"h0": "h3", "h3": "h0"}.get(a, a), p) for u, a, p in rows]
    renamed = agreement(votes_of(other))
    for name in ("fleiss_kappa_votes", "krippendorff_alpha_votes"):
        assert measured(renamed, name)["value"] == pytest.approx(measured(made, name)["value"])
    kept, moved = (
        measured(m, "cohen_kappa_votes", s)
        for m, s in ((made, "human:h0 & human:h1"), (renamed, "human:h1 & human:h3"))
    )
    assert moved["value"] == pytest.approx(kept["value"])
    assert moved["stderr"] == pytest.approx(kept["stderr"])


def test_criteria_are_units_and_subjects_of_their_own():
    one, other = votes_of(random_rows(4)), votes_of(random_rows(5), "style")
    both = Votes(pl.concat([one, other]))
    made = agreement(both)
    alone = measured(agreement(other), "krippendorff_alpha_votes")
    beside = measured(made, "krippendorff_alpha_votes", "criterion:style")
    assert beside["value"] == pytest.approx(alone["value"])
    assert measured(made, "krippendorff_alpha_votes")["n"] > alone["n"]
    assert agreement(both, criteria=["style"]).equals(agreement(other))
    with pytest.raises(RecipeError, match="did you mean 'style'"):
        agreement(both, criteria=["stile"])


def test_the_table_keeps_its_schema_and_nothing_gives_nothing():
    made = agreement(votes_of(random_rows(6)))
    tables.check("measures", made, where="here")
    nothing = agreement(Votes(tables.empty("votes")), Ratings(tables.empty("ratings")))
    assert nothing.is_empty()
    assert tables.check("measures", nothing, where="here").is_empty()


def graded(seed, n_prompts=30, m=5, grades=4, who=3):
    """Ratings as an array (annotators, prompts, completions) of few grades, so that some tie."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n_prompts, m)) + draw.normal(size=(who, n_prompts, m))
    return np.digitize(z, np.linspace(-1.5, 1.5, grades - 1)) / (grades - 1)


def ratings_of_array(y):
    rows = [(f"p{p:02}c{c}", f"h{a}", y[a, p, c]) for a, p, c in np.ndindex(y.shape)]
    made = ratings_of(rows)
    return Ratings(made.with_columns(prompt_id=pl.col("completion_id").str.slice(0, 3)))


def rankings_of_array(y):
    """The same order as rankings, each list in an order of its own."""
    rows = [
        (f"p{p:02}", f"human:h{a}", [f"p{p:02}c{c}" for c in by], rankdata(-y[a, p][by], "min"))
        for a, p in np.ndindex(y.shape[:2])
        for by in [np.argsort(-y[a, p], kind="stable")]
    ]
    frame = pl.DataFrame(
        {
            "prompt_id": [p for p, _, _, _ in rows],
            "annotator": [a for _, a, _, _ in rows],
            "ranking": [ids for _, _, ids, _ in rows],
            "ranks": [ranks.astype(int).tolist() for _, _, _, ranks in rows],
        }
    )
    return tables.typed(Rankings, frame.with_columns(criterion=pl.lit("quality"), draw=pl.lit(0)))


def test_kendalls_tau_of_a_prompt_is_scipys():
    y = graded(0, n_prompts=1, m=40)
    made = agreement(None, ratings_of_array(y), rankings_of_array(y))
    for one, other in combinations(range(3), 2):
        theirs = kendalltau(y[one, 0], y[other, 0], variant="b").statistic
        for table in ("ratings", "rankings"):
            row = measured(made, f"kendall_tau_{table}", f"human:h{one} & human:h{other}")
            assert row["value"] == pytest.approx(theirs)
            assert row["n"] == 40 * 39 / 2


def test_kendalls_tau_of_several_prompts_is_the_mean_of_theirs_where_nothing_ties():
    draw = np.random.default_rng(1)
    sizes = draw.integers(2, 9, 25)
    z = [draw.normal(size=m) for m in sizes]
    values = [[each + draw.normal(size=len(each)) for each in z] for _ in range(3)]
    rows = [
        (f"p{p:02}c{c}", f"h{a}", 1 / (1 + np.exp(-x)))
        for a, lists in enumerate(values)
        for p, each in enumerate(lists)
        for c, x in enumerate(each)
    ]
    ratings = ratings_of(rows).with_columns(prompt_id=pl.col("completion_id").str.slice(0, 3))
    made = agreement(None, Ratings(ratings))
    weight = sizes * (sizes - 1) / 2
    taus = {
        (i, j): [kendalltau(x, y).statistic for x, y in zip(values[i], values[j], strict=True)]
        for i, j in combinations(range(3), 2)
    }
    for (i, j), each in taus.items():
        row = measured(made, "kendall_tau_ratings", f"human:h{i} & human:h{j}")
        assert row["value"] == pytest.approx(np.average(each, weights=weight))
    everyone = np.average(list(taus.values()), axis=1, weights=weight).mean()
    assert measured(made, "kendall_tau_ratings")["value"] == pytest.approx(everyone)


def test_kendalls_tau_of_ratings_is_that_of_the_same_rankings_and_of_other_scales():
    y = graded(2)
    made = agreement(None, ratings_of_array(y), rankings_of_array(y))
    bent = agreement(None, ratings_of_array(y**3 / 2))
    tau = {
        name: rows.filter(pl.col("measure") == f"kendall_tau_{table}").drop("measure")
        for name, rows, table in (("x", made, "ratings"), ("y", made, "rankings"))
    }
    assert tau["x"].equals(tau["y"])
    assert tau["x"].height == 4
    assert bent.filter(pl.col("measure") == "kendall_tau_ratings").drop("measure").equals(tau["x"])
    turned = agreement(None, ratings_of_array(np.stack([y[0], 1 - y[1], y[2]])))
    of_two = "human:h0 & human:h1"
    there, back = (measured(m, "kendall_tau_ratings", of_two) for m in (made, turned))
    assert back["value"] == pytest.approx(-there["value"])


def test_draws_of_ratings_and_of_rankings_are_one_order():
    """Two draws that cancel tie the two completions; a third decides."""
    sure = np.array([[[1.0, 0.0]]])
    for draws, expected in (([0, 1], None), ([0, 1, 0], 1.0), ([0, 1, 1], -1.0)):
        flips = [np.stack([sure[0], sure[0] if not d else 1 - sure[0]]) for d in draws]
        for make, table in ((ratings_of_array, "ratings"), (rankings_of_array, "rankings")):
            rows = pl.concat(
                make(y).with_columns(draw=pl.lit(at, pl.Int64)) for at, y in enumerate(flips)
            )
            given = {table: rows}
            found = measured(agreement(**given), f"kendall_tau_{table}")["value"]
            # Where all that one says is tied only the other's pair is left: 0, not undefined.
            assert found == (0 if expected is None else expected)


def test_labels_of_the_same_draws_are_paired_draw_by_draw():
    """Two rows of a file on the same two completions are two comparisons, as scikit-learn sees."""
    random = np.random.default_rng(4)
    one, other = random.integers(0, 2, (2, 60)).astype(float)
    rows = [
        (i // 2, who, value) for i in range(60) for who, value in (("x", one[i]), ("y", other[i]))
    ]
    kappa = measured(agreement(votes_of(rows)), "cohen_kappa_votes", "human:x & human:y")
    assert kappa["n"] == 60
    assert kappa["value"] == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)


def test_names_with_the_sign_between_two_names_stay_apart():
    """ "x & y" beside "z" is not "x" beside "y & z"."""
    names = ["x", "x & y", "y & z", "z"]
    labels = {"x": [1, 0, 1, 0], "x & y": [1, 1, 1, 0], "y & z": [0, 1, 0, 1], "z": [1, 1, 0, 0]}
    rows = [(at, name, float(labels[name][at])) for name in names for at in range(4)]
    made = agreement(votes_of(rows)).filter(pl.col("measure") == "cohen_kappa_votes")
    found = dict(made.select("subject", "value").iter_rows())
    assert len(found) == 6

    def told(name):
        return "human:" + name.replace("&", "&&")

    for one, other in combinations(names, 2):
        kappa = cohen_kappa_score(labels[one], labels[other])
        assert found[f"{told(one)} & {told(other)}"] == pytest.approx(kappa)
