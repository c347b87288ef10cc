"""Which pairs are likely labelled the wrong way round, told without looking at their own labels.

A ridge logistic model of the labels, on differences between the two completions (traits of the
texts and their spelling; embeddings, scores and votes where they are given), is fitted on some
prompt groups and asked about the others, so that no pair, nor a sibling of it, teaches the model
its own label. What a fitted model says of pairs that it was fitted on is worth nothing here: it
learns the wrong labels by heart.

With z the log-odds that it holds out and e the rate of flips (`fit_margins` of flip_rate, on z), a
label is taken to follow

    P(label) = (1 - e) sigmoid(u z) + e sigmoid(-u z),      z oriented to the label,

and so a pair was flipped with probability P(flipped | label, z) = e sigmoid(-u z) / P(label).

Source: the out-of-fold use follows Northcutt, Jiang, Chuang (2021), Confident Learning; that an
over-fitted scorer hides flips is shown by Wang et al. (2024), Secrets of RLHF in Large Language
Models Part II. The model of e is that of flip_rate; the combination is own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, log_expit

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._evidence import Evidence, folds, gather
from prefdata.estimate._margins import Rate, fit_margins
from prefdata.estimate.flip_rate import measures
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Measures, Pairs, Prompts, Scores, Votes

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
OPTIMIZE: Any = optimize

# Precisions of the prior on the coefficients of a block; infinity leaves the block out.
PRECISIONS = (1e5, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 1.0)
# A rate of 0 would tell no two pairs apart.
LEAST = 1e-4


def label_error(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    scores: Scores | None = None,
    votes: Votes | None = None,
    *,
    model: Model | None = None,
    with_prompt: bool = False,
    margins: Sequence[str] = (),
    annotators: Sequence[str] = (),
    n_folds: int = 10,
    seed: int = 0,
) -> Asks[tuple[Scores, Measures]]:
    """Score each pair's `label_error`, P(the label is the wrong way round), in [0, 1].

    Measures, of subject "label_error": `flip_rate` with its interval; `labels_against_evidence`,
    the expected share of labels that go against the likelier side, flips and honest ambiguity
    together; `held_out_accuracy` and `held_out_log_loss` (nats) of the model on the labels as they
    are. Where the flip rate is not identifiable it is null, and pairs are scored with its best
    guess: their order is still right, their level is not to be trusted.

    The pairs of one prompt, or of prompts that share a `group`, are in one fold. With a single
    group nothing can be held out: no score, and measures that say so.

    Options:
    - `model`: one that embeds; without it only the texts are seen, their traits and spelling.
    - `with_prompt`: embed prompt and completion together, not the completion alone.
    - `margins`: scores of pairs, higher where the chosen side is better, to use as evidence.
    - `annotators`: those whose votes are evidence; not those whose votes made the labels.
    - `n_folds`: parts of which each is judged by a model of the others.
    - `seed`: of the folds.

    Raises `RecipeError` for fewer than 2 folds and for a score or annotator that is not there.
    """
    if n_folds < 2:
        raise RecipeError(f"estimate.label_error: n_folds = {n_folds}; it is at least 2")
    seen = yield from gather(
        pairs, prompts, completions, scores, votes,
        model=model, with_prompt=with_prompt, margins=margins, annotators=annotators,
    )  # fmt: skip
    n_groups = len(np.unique(seen.groups))
    if n_groups < 2:
        note = f"{n_groups} prompt groups: nothing can be held out"
        nothing = Rate(np.nan, 0.0, 0.5, len(seen.x), note)
        told = measures("flip_rate", [("label_error", nothing)])
        return Scores(tables.union("scores", scores, where="estimate.label_error")), told
    z = fit_held_out(seen, n_folds=min(n_folds, n_groups), seed=seed).z
    found = fit_errors(z)
    made = _scores(seen, found.flipped, model)
    both = tables.union("scores", scores, made, where="estimate.label_error")
    return Scores(both), _measures(z, found)


class HeldOut(NamedTuple):
    """`z`: the log-odds that the labelled side is the better one, each by a model of other
    groups; `fold`: the part that each pair was held out in; `precision`: of each column's prior,
    the one with the least loss on what was held out."""

    z: Floats
    fold: Ints
    precision: Floats


def fit_held_out(seen: Evidence, *, n_folds: int, seed: int) -> HeldOut:
    """Log-odds of the labels, each by a model of other groups; see `HeldOut`."""
    fold = folds(seen.groups, n_folds, seed)
    d = seen.x * seen.sign[:, None]
    n_blocks = int(seen.block.max(initial=-1)) + 1
    precision = np.full(n_blocks, np.inf)
    best, z = len(d) * np.log(2), np.zeros(len(d))

    def attempt(block: int, tried: float, starts: list[Floats]) -> None:
        nonlocal best, z, precision
        candidate = precision.copy()
        candidate[block] = tried
        guess = _held_out(d, fold, candidate[seen.block], starts)
        loss = -float(log_expit(guess).sum())
        if loss < best:
            best, z, precision = loss, guess, candidate

    for block in range(n_blocks):
        starts: list[Floats] = [np.zeros(d.shape[1]) for _ in range(n_folds)]
        for tried in PRECISIONS:
            attempt(block, tried, starts)
    for block in np.flatnonzero(np.isfinite(precision)):
        # What was of use alone may be of none beside what came after it.
        attempt(int(block), np.inf, [np.zeros(d.shape[1]) for _ in range(n_folds)])
    return HeldOut(z, fold, precision[seen.block])


def _held_out(d: Floats, fold: Ints, precision: Floats, starts: list[Floats]) -> Floats:
    z, used = np.zeros(len(d)), np.isfinite(precision)
    for part in range(len(starts)):
        inside = fold != part
        fitted = fit_ridge(d[np.ix_(inside, used)], precision[used], starts[part][used])
        starts[part][used] = fitted
        z[~inside] = d[np.ix_(~inside, used)] @ fitted
    return z


def fit_ridge(d: Floats, precision: Floats, start: Floats, weight: Floats | None = None) -> Floats:
    """Maximise sum weight log sigmoid(d w) - sum precision w^2 / 2 over w.

    There is no intercept: swapping a and b changes the sign of z and nothing else.
    """
    of = np.ones(len(d)) if weight is None else weight

    def loss(w: Floats) -> tuple[float, Floats]:
        z = d @ w
        value = -(of * log_expit(z)).sum() + (precision * w * w).sum() / 2
        return float(value), precision * w - d.T @ (of * expit(-z))

    return OPTIMIZE.minimize(loss, start, jac=True, method="L-BFGS-B").x


class Errors(NamedTuple):
    """What held-out log-odds say of labels.

    `flipped` is each label's probability to be flipped, `against` the probability of the side
    that is less likely to be chosen again, `rate` that of flips.
    """

    flipped: Floats
    against: Floats
    rate: Rate


def fit_errors(z: Floats) -> Errors:
    """From held-out log-odds, oriented to the labels, to the probability of each label's flip."""
    rate, guess, u = fit_margins(z[:, None])
    e = max(guess, LEAST)
    right, wrong = expit(u * z), expit(-u * z)
    observed = (1 - e) * right + e * wrong
    return Errors(e * wrong / observed, np.minimum(observed, 1 - observed), rate)


def _scores(seen: Evidence, flipped: Floats, model: Model | None) -> Scores:
    return Scores(
        seen.pairs.select(
            subject_id="pair_id",
            subject=pl.lit("pair"),
            score=pl.lit("label_error"),
            model=pl.lit(model.name if model else None, pl.String),
            value=pl.Series(flipped),
            stderr=pl.lit(None, pl.Float64),
            request_id=pl.lit(None, pl.String),
        )
    )


def _measures(z: Floats, found: Errors) -> Measures:
    means = {
        "labels_against_evidence": found.against,
        "held_out_accuracy": (np.sign(z) + 1) / 2,
        "held_out_log_loss": -log_expit(z),
    }
    rows = [
        {"measure": name, "subject": "label_error", "value": float(each.mean()), "n": len(each)}
        for name, each in means.items()
    ]
    told = pl.DataFrame(rows, schema=tables.schema("measures").dtypes)
    return Measures(pl.concat([measures("flip_rate", [("label_error", found.rate)]), told]))
