"""Rules of choice: known elections, what each rule promises, and what each is known to break."""

import itertools

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.special import expit

from prefdata import tables
from prefdata.aggregate.majority_vote import majority_vote
from prefdata.aggregate.social_choice import (
    ON_PAIRS,
    ON_RATINGS,
    VALUES,
    rank_centrality,
    social_choice,
)
from prefdata.errors import RecipeError
from prefdata.tables import Ratings, Votes

# Tennessee chooses its capital: far from Memphis, near to Nashville (a textbook example).
TENNESSEE = {"MNCK": 42, "NCKM": 26, "CKNM": 15, "KCNM": 17}


def votes_of(orders, prompt="p"):
    """Everyone votes on each two by its order: {order of letters: number of people}."""
    rows, who = [], itertools.count()
    for order, n in orders.items():
        for _ in range(n):
            person = f"human:{next(who)}"
            for a, b in itertools.combinations(sorted(order), 2):
                first = float(order.index(a) < order.index(b))
                rows.append((prompt, f"{prompt}{a}", f"{prompt}{b}", person, first))
    return typed_votes(rows)


def typed_votes(rows):
    columns = ["prompt_id", "completion_a", "completion_b", "annotator", "preference"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    return tables.typed(Votes, frame.with_columns(criterion=pl.lit("quality"), draw=0))


def ratings_of(y, prompt="p"):
    """Ratings from a matrix (completions, people); NaN is none."""
    at, who = np.nonzero(np.isfinite(y))
    frame = pl.DataFrame(
        {
            "completion_id": [f"{prompt}{n}" for n in at],
            "prompt_id": prompt,
            "annotator": [f"human:{n}" for n in who],
            "criterion": "quality",
            "draw": 0,
            "rating": y[at, who],
        }
    )
    return tables.typed(Ratings, frame)


def chosen(votes, rule, **options):
    """Completions from the best, and their values."""
    made = social_choice(votes, rule=rule, **options)[0].sort("strength", descending=True)
    return dict(made.select(pl.col("completion_id").str.slice(1), "strength").iter_rows())


def first(values):
    return next(iter(values))


def test_tennessee():
    """Nashville beats each other city; Memphis is the first of most, and the last of more."""
    votes = votes_of(TENNESSEE)
    assert chosen(votes, "copeland") == {"N": 1, "C": 2 / 3, "K": 1 / 3, "M": 0}
    assert chosen(votes, "borda")["N"] == pytest.approx((0.58 + 0.68 + 0.68) / 3)
    assert chosen(votes, "maximin") == pytest.approx({"N": 0.58, "M": 0.42, "C": 0.32, "K": 0.17})
    assert first(chosen(votes, "schulze")) == first(chosen(votes, "rank_centrality")) == "N"
    rank = {order: len(order) - np.arange(len(order)) for order in TENNESSEE}
    y = np.array(
        [
            [rank[order][order.index(city)] / 4 for order, n in TENNESSEE.items() for _ in range(n)]
            for city in "MNCK"
        ]
    )
    made = social_choice(ratings=ratings_of(y), rule="plurality")[0].sort("completion_id")
    assert made["strength"].to_list() == pytest.approx([0.42, 0.26, 0.15, 0.17])


def test_schulzes_own_example():
    """45 people and five candidates, who beat each other in circles: E > A > C > B > D."""
    orders = {
        "ACBED": 5, "ADECB": 5, "BEDAC": 8, "CABED": 3, "CAEBD": 7, "CBADE": 2, "DCEBA": 7,
        "EBADC": 8,
    }  # fmt: skip
    values = chosen(votes_of(orders), "schulze")
    assert "".join(values) == "EACBD"
    assert list(values.values()) == [1, 0.75, 0.5, 0.25, 0]


def random_orders(seed, n=4, people=15):
    draw = np.random.default_rng(seed)
    orders: dict[str, int] = {}
    for _ in range(people):
        order = "".join(draw.permutation(list("ABCDEF"[:n])))
        orders[order] = orders.get(order, 0) + 1
    return orders


def winner_of_all(orders):
    """Who beats each other by a majority, counted from the orders themselves."""
    letters = sorted(next(iter(orders)))
    total = sum(orders.values())
    for one in letters:
        if all(
            2 * sum(n for o, n in orders.items() if o.index(one) < o.index(other)) > total
            for other in letters
            if other != one
        ):
            return one
    return None


def test_who_beats_all_others_is_chosen_by_the_rules_that_promise_it():
    missed = dict.fromkeys(("copeland", "schulze", "maximin", "borda"), 0)
    n = 0
    for seed in range(60):
        orders = random_orders(seed)
        winner = winner_of_all(orders)
        if winner is None:
            continue
        n += 1
        votes = votes_of(orders)
        for rule in missed:
            missed[rule] += first(chosen(votes, rule)) != winner
    assert n > 30
    assert missed["copeland"] == missed["schulze"] == missed["maximin"] == 0
    assert missed["borda"] > 0


@pytest.mark.parametrize("rule", ["borda", "copeland", "schulze"])
def test_turning_every_vote_turns_the_order(rule):
    orders = random_orders(3, n=5)
    turned = {order[::-1]: n for order, n in orders.items()}
    one, other = chosen(votes_of(orders), rule), chosen(votes_of(turned), rule)
    assert {k: 1 - v for k, v in one.items()} == pytest.approx(other)


@pytest.mark.parametrize("rule", ON_PAIRS)
def test_names_and_order_of_rows_do_not_matter(rule, shuffled):
    orders = random_orders(4, n=5)
    votes = votes_of(orders)
    one = social_choice(votes, rule=rule)
    again = social_choice(shuffled(votes, 2), rule=rule)
    assert all(
        a.sort(a.columns[0]).equals(b.sort(b.columns[0])) for a, b in zip(one, again, strict=True)
    )
    swap = str.maketrans("ABCDE", "EDCBA")
    renamed = chosen(votes_of({order.translate(swap): n for order, n in orders.items()}), rule)
    mine = {k.translate(swap): v for k, v in chosen(votes, rule).items()}
    assert mine == pytest.approx(renamed)


@pytest.mark.parametrize("rule", ON_PAIRS)
def test_elections_of_any_size_are_apart(rule):
    """One prompt alone or among others, of its size or not, is the same."""
    parts = [votes_of(random_orders(at, n=2 + at % 4), f"{at}") for at in range(9)]
    together = social_choice(tables.typed(Votes, pl.concat(parts)), rule=rule)[0]
    for part in parts:
        alone = social_choice(part, rule=rule)[0]
        mine = together.join(alone, on="completion_id")
        assert mine.height == alone.height
        assert mine["strength"].to_list() == pytest.approx(mine["strength_right"].to_list())


def test_rank_centrality_finds_planted_strengths():
    """A normaliser of index lists that are no transposes of each other is right at three and wrong
    from four on; so both are asked for."""
    for n, least in ((3, 0.9), (4, 0.9), (21, 0.93)):
        taus = []
        for seed in range(5):
            draw = np.random.default_rng(seed)
            theta = np.sort(draw.normal(size=n))
            theta = theta if n > 4 else np.arange(n) * 0.7
            wins = np.zeros((1, n, n))
            for i, j in itertools.combinations(range(n), 2):
                wins[0, i, j] = draw.binomial(100, expit(theta[i] - theta[j]))
                wins[0, j, i] = 100 - wins[0, i, j]
            taus.append(stats.kendalltau(theta, rank_centrality(wins)[0]).statistic)
        assert np.mean(taus) >= least, n


def test_rank_centrality_of_exact_chances_is_bradley_terry():
    theta = np.array([0.0, 0.4, 1.1, 1.5, 2.0])
    wins = 1e9 * expit(theta[:, None] - theta)[None]
    wins[0][np.diag_indices(5)] = 0
    assert np.allclose(rank_centrality(wins)[0], theta - theta.mean(), atol=1e-6)


def test_everybody_counts_once_however_often_it_votes():
    votes = votes_of({"AB": 1, "BA": 2})
    often = votes.filter(pl.col("preference") == 1)
    again = [often.with_columns(draw=pl.lit(at, pl.Int64)) for at in range(1, 9)]
    more = tables.typed(Votes, pl.concat([votes, *again]))
    assert chosen(more, "borda") == pytest.approx({"B": 2 / 3, "A": 1 / 3})


def test_preferences_are_those_of_majority_vote():
    votes = votes_of(random_orders(5))
    mine, its = social_choice(votes, rule="copeland")[1], majority_vote(votes)[1]
    both = mine.join(its, on=["subject_id", "score"])
    assert both.height == 6
    assert np.allclose(both["value"], both["value_right"])
    assert np.allclose(both["stderr"], both["stderr_right"])


def test_ratings_within_the_band_are_ties():
    """Of 100 points a difference of 5 is a tie, one of 6 is none."""
    for points, share in ((5, 0.5), (6, 1.0)):
        y = np.array([[(50 + points) / 100], [0.5]])
        made = social_choice(ratings=ratings_of(y), rule="borda", of="ratings", tie_band=0.05)[0]
        assert made.sort("completion_id")["strength"][0] == share


def test_rules_on_ratings_are_what_they_say():
    y = np.array([[0.9, 0.9, 0.05, 0.9], [0.5, 0.6, 0.5, 0.5], [0.1, np.nan, 0.9, 0.9]])

    def of(rule):
        return social_choice(ratings=ratings_of(y), rule=rule)[0].sort("completion_id")["strength"]

    assert of("plurality").to_list() == pytest.approx([2.5 / 4, 0, 1.5 / 3])
    assert of("veto").to_list() == pytest.approx([3 / 4, 1, 2 / 3])
    assert of("egalitarian").to_list() == pytest.approx([0.05, 0.5, 0.1])
    kept = [row[np.isfinite(row)] for row in y]
    assert of("nash").to_list() == pytest.approx([stats.gmean(row) for row in kept])
    y[0, 0] = 0
    assert of("nash")[0] == 0


def test_votes_across_prompts_are_no_election():
    rows = [(None, "pA", "qA", "human:1", 1.0), ("p", "pA", "pB", "human:1", 1.0)]
    assert set(chosen(typed_votes(rows), "borda")) == {"A", "B"}


def test_what_cannot_be_meant_is_refused():
    votes = votes_of(TENNESSEE)
    with pytest.raises(RecipeError, match=r"rule = 'bored'; one of borda"):
        social_choice(votes, rule="bored")
    for rule in ON_RATINGS:
        with pytest.raises(RecipeError, match=f"{rule} needs ratings"):
            social_choice(votes, rule=rule)
    with pytest.raises(RecipeError, match="no votes are there"):
        social_choice(rule="borda")
    with pytest.raises(RecipeError, match="tie_band = 1"):
        social_choice(votes, rule="borda", tie_band=1)
    with pytest.raises(RecipeError, match="of = 'both'"):
        social_choice(votes, rule="borda", of="both")
    for rule in VALUES:
        assert social_choice(Votes(tables.empty("votes")), rule=rule)[0].is_empty()
