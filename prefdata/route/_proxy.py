"""How good a reward model would be that learnt from a mix of labels, told on a CPU in a moment.

Or in hours by a function of one's own, such as one that trains a reward model and evaluates it.

A preference head on the differences of two completions' vectors, trained on the pairs of the mix,
linear (ridge logistic: Bradley-Terry) or a small network, and scored by how often it prefers the
side that people prefer, on held-out pairs that are in no mix.

Source: Miranda et al. 2024, "Hybrid Preferences: Learning to Route Instances for Human vs. AI
Feedback", train a reward model on each mix; that a head on embeddings may stand for it is our own.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import log_expit

from prefdata.errors import RecipeError
from prefdata.estimate._evidence import folds
from prefdata.estimate._held_out import fit_ridge
from prefdata.estimate.mc_dropout import fit_network
from prefdata.export._texts import with_texts
from prefdata.stage import PlugIn
from prefdata.tables import Completions, Pairs, Prompts, with_sides

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Head = Literal["linear", "mlp"]
# The pairs of a mix and those held out, to the performance of what learns from the mix.
Evaluate = Callable[[Pairs, Pairs], float]

PRECISIONS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
DROPOUT = 0.1


def preference_head(
    ids: pl.Series, x: Floats, groups: Ints, *, sure: Pairs, head: Head = "linear", seed: int = 0
) -> Evaluate:
    """A performance by heads on `x`, (pairs, columns), completion_a less completion_b by `pair_id`.

    `sure` are pairs that are in mixes, with people's labels: they say how strong the prior is.
    """
    place = pl.DataFrame({"pair_id": ids, "at": np.arange(len(ids))})

    def read(pairs: Pairs) -> tuple[Ints, Floats]:
        found = with_sides(pairs).join(place, on="pair_id").sort("at")
        return found["at"].to_numpy(), np.where(found["a_chosen"].to_numpy(), 1.0, -1.0)

    at, sign = read(sure)
    precision = _precision(x[at] * sign[:, None], groups[at], seed) if head == "linear" else 0.0

    def evaluate(mix: Pairs, held_out: Pairs) -> float:
        at, sign = read(mix)
        gold, gold_sign = read(held_out)
        if head == "linear":
            slope = _slope(x[at] * sign[:, None], precision)
            z = x[gold] @ slope
        else:
            z = _network(x[at], sign, groups[at], x[gold], seed)
        # A margin of 0 is right half of the time.
        return float((np.sign(z * gold_sign) + 1).mean() / 2)

    return evaluate


def plugged_in(plug_in: PlugIn, prompts: Prompts, completions: Completions) -> Evaluate:
    """A performance by a function of rows `pair_id, prompt, chosen, rejected`, messages in each.

    Raises `RecipeError` where it gives no finite number, or fails.
    """

    def evaluate(mix: Pairs, held_out: Pairs) -> float:
        rows = [
            with_texts(each, prompts, completions, "chosen", "rejected")
            .select("pair_id", "prompt", "chosen", "rejected")
            .sort("pair_id")
            for each in (mix, held_out)
        ]
        place = f"{plug_in.name}, given a mix of {mix.height} pairs and {held_out.height} held out,"
        try:
            value = plug_in.function(*rows)
        except Exception as error:
            raise RecipeError(f"{place} failed: {type(error).__name__}: {error}") from error
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise RecipeError(f"{place} said {value!r:.80}; expected its performance, a number")
        return float(value)

    return evaluate


def _precision(d: Floats, groups: Ints, seed: int) -> float:
    """Of the prior with the least loss on held-out groups, d being oriented to the labels."""
    numbers = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    fold = folds(numbers, min(5, int(numbers.max(initial=0)) + 1), seed)
    losses: list[float] = []
    for precision in PRECISIONS:
        lost = 0.0
        for part in np.unique(fold):
            inside = fold != part
            slope = _slope(d[inside], precision)
            lost -= float(log_expit(d[~inside] @ slope).sum())
        losses.append(lost)
    return PRECISIONS[int(np.argmin(losses))]


def _slope(d: Floats, precision: float) -> Floats:
    every: Any = np.full(d.shape[1], precision)
    return fit_ridge(d, every, 0 * every)


def _network(x: Floats, sign: Floats, groups: Ints, asked: Floats, seed: int) -> Floats:
    """Log-odds of a small network that treats both sides alike."""
    labels = np.concatenate([sign > 0, sign < 0]).astype(np.float64)
    both, twice = np.concatenate([x, -x]), np.concatenate([groups, groups])
    network = fit_network(both, labels, twice, DROPOUT, np.random.default_rng(seed))
    return (network.log_odds(asked) - network.log_odds(-asked)) / 2
