"""Annotators with planted habits: what is measured of them holds the truth as often as it says."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.measure.gold import gold
from prefdata.measure.position_bias import position_bias
from prefdata.tables import Votes

GOLD = "human:gold"
PROMPTS, EACH = 50, 3
# A judge ties at a rate, says the first shown on all of a prompt's comparisons at another, and is
# right else, on half of the prompts more often than on the others. So votes of a prompt go
# together, and an error that takes them as independent is too small.
TIES, BLIND = 0.15, 0.2
JUDGES = {"j": (0.6, 0.95), "k": (0.55, 0.75)}


# Of 200 worlds 90 to 99 of a hundred intervals may hold the truth, of 1000 there is less chance.
WORLDS = [
    pytest.param((200, 0.90, 0.99), id="seeds-0-to-199"),
    pytest.param(
        (1000, 0.93, 0.97), id="seeds-0-to-999", marks=(pytest.mark.slow, pytest.mark.long)
    ),
]


@pytest.fixture(scope="module", params=WORLDS)
def seen(request):
    """The votes of so many worlds, and what part of their intervals is to hold the truth."""
    return votes_of(request.param[0]), request.param


def votes_of(n_worlds):
    """Both orders by each judge of each world, and gold's votes."""
    frames = []
    for seed in range(n_worlds):
        draw = np.random.default_rng(seed)
        shape = (PROMPTS, EACH)
        truth = draw.random(shape) < 0.5
        columns = {"unit": np.arange(truth.size), "world": np.full(truth.size, seed)}
        frames.append(
            pl.DataFrame({**columns, "preference": truth.ravel().astype(float)}).with_columns(
                annotator=pl.lit(GOLD), a_first=pl.lit(None, pl.Boolean)
            )
        )
        for judge, accuracies in JUDGES.items():
            blind = draw.random((PROMPTS, 1)) < BLIND
            accuracy = draw.choice(accuracies, (PROMPTS, 1))
            for a_first in (True, False):
                right = draw.random(shape) < accuracy
                said = np.where(blind, a_first, truth == right).astype(float)
                said = np.where(draw.random(shape) < TIES, 0.5, said).ravel()
                frames.append(
                    pl.DataFrame({**columns, "preference": said}).with_columns(
                        annotator=pl.lit(f"llm:{judge}{seed:03}"), a_first=pl.lit(a_first)
                    )
                )
    name = pl.format("{}-{}", "world", "unit")
    return tables.typed(
        Votes,
        pl.concat(frames, how="vertical_relaxed").select(
            pl.format("a{}", name).alias("completion_a"),
            pl.format("b{}", name).alias("completion_b"),
            "annotator",
            "a_first",
            "preference",
            prompt_id=pl.format("p{}-{}", "world", pl.col("unit") // EACH),
            criterion=pl.lit("quality"),
            draw=pl.lit(0),
        ),
    )


def truths(accuracies):
    """What is measured of a judge, by the probability of each two verdicts in the two orders.

    Verdicts are 1 for gold's side, 0 for the other, 1/2 for a tie.
    """
    both = dict.fromkeys(product((0.0, 0.5, 1.0), repeat=2), 0.0)
    for accuracy in accuracies:
        sides = {1.0: accuracy, 0.0: 1 - accuracy}
        seeing = {(x, y): sides[x] * sides[y] for x, y in product(sides, repeat=2)}
        saying = {
            two: (1 - BLIND) * p + BLIND * (two[0] != two[1]) / 2 for two, p in seeing.items()
        }
        for (x, y), p in saying.items():
            orders = (((0.5, TIES), (said, 1 - TIES)) for said in (x, y))
            for (one, t), (other, s) in product(*orders):
                both[one, other] += p * t * s / len(accuracies)

    def share(holds):
        return sum(p for two, p in both.items() if holds(*two))

    return {
        "gold_accuracy": sum(p * sum(two) / 2 for two, p in both.items()),
        "gold_verdict_accuracy": share(lambda x, y: x + y > 1),
        "gold_both_orders": share(lambda x, y: x == y == 1),
        "swap_consistency": share(lambda x, y: x == y),
        "position_bias": (1 - TIES) * BLIND,
        "first_shown_wins": (1 + (1 - TIES) * BLIND) / 2,
        "tie_rate": TIES,
    }


def check_cover(made, measure, subject, truth, bounds):
    n_worlds, least, most = bounds
    mine = made.filter((pl.col("measure") == measure) & pl.col("subject").str.contains(subject))
    assert mine.height == n_worlds
    inside = mine.filter(pl.lit(truth).is_between("low", "high")).height
    assert least <= inside / n_worlds <= most, (measure, subject, inside)
    # The spread of so many worlds is itself known to one in the root of twice their number.
    apart = mine["stderr"].mean() / mine["value"].std() - 1
    assert abs(apart) < 4 / np.sqrt(2 * n_worlds), (measure, subject, apart)
    assert abs(mine["value"].mean() - truth) < 4 * mine["value"].std() / np.sqrt(n_worlds)


def test_accuracies_and_their_difference_are_covered(seen):
    votes, bounds = seen
    made = gold(votes, annotator=GOLD)
    of = {judge: truths(accuracies) for judge, accuracies in JUDGES.items()}
    for judge, measure in product(JUDGES, ("accuracy", "verdict_accuracy", "both_orders")):
        truth = of[judge][f"gold_{measure}"]
        check_cover(made, f"gold_{measure}", rf"^llm:{judge}\d+$", truth, bounds)
    apart = of["j"]["gold_accuracy"] - of["k"]["gold_accuracy"]
    check_cover(made, "gold_accuracy_difference", "&", apart, bounds)


def test_ties_and_the_place_shown_are_covered(seen):
    votes, bounds = seen
    made = position_bias(Votes(votes.filter(pl.col("annotator") != GOLD)))
    for judge, accuracies in JUDGES.items():
        truth = truths(accuracies)
        for measure in ("tie_rate", "position_bias", "first_shown_wins", "swap_consistency"):
            check_cover(made, measure, f"^llm:{judge}", truth[measure], bounds)
