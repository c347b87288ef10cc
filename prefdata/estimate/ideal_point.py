"""People as mixtures of ideal points among the completions: nearer is better.

Completions have one place each, x, for all people. There are K prototypes p_k, a person u has
weights w_u on the simplex, its ideal is a_u = sum_k w_uk p_k, and it prefers the nearer one:

    log-odds(a over b) = beta (|x_b - a_u|^2 - |x_a - a_u|^2)
                       = beta (|x_b|^2 - |x_a|^2) + (x_a - x_b) . sum_k w_uk q_k,  q_k = 2 beta p_k

with beta >= 0. Where beta is 0 the ideals are infinitely far and tastes are directions. What
people share, the places, beta and q, is fitted to all votes together, so that a person needs no
more votes than its few weights do: somebody new is placed with all else held as it is.

The weights are a softmax of numbers with a normal prior around those of the average person. How
many prototypes there are is asked of held-out votes, as in em_groups.
"""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize
from scipy.cluster import vq
from scipy.special import expit, log_expit

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._people import (
    FOLDS,
    Choices,
    choices,
    held_out_users,
    n_parts,
    rewards,
    scores,
)
from prefdata.estimate._sums import sums
from prefdata.estimate.em_groups import fewest
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Measures, Scores, Votes, pair_ids

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
OPTIMIZE: Any = optimize
VQ: Any = vq

STARTS = 3
TOLERANCE = 1e-7  # of the loss, relative
# Precision of the prior on how far a person's numbers are from the average person's.
AROUND = 0.2
# Votes from which new people are placed, and how many more they must have to be asked about.
SHOTS = (0, 2, 5, 10, 20)
ASKED = 5
WHERE = "estimate.ideal_point"


def ideal_point(
    votes: Votes,
    completions: Completions,
    *,
    model: Model,
    n_groups: int | None = None,
    most_groups: int = 4,
    few: int = 5,
    annotators: str = "human:*",
    precision: float = 1.0,
    seed: int = 0,
) -> Asks[tuple[Scores, Measures]]:
    """Score each person's weights, what each prototype thinks, and each person's own preferences.

    Of annotators: `ideal_weight` in [0, 1] under "group:<k>", of sum 1; `ideal_group`, the k of
    the largest (0 is the largest group); `ideal_entropy` of the weights in nats: 0 for a person of
    one kind. Of completions: `ideal_reward` under "group:<k>", log-odds of mean 0 in a prompt. Of
    pairs: `ideal_preference` under each voter's name, P(completion_a preferred) by that person as
    its votes, this one among them, and other people explain it: its own soft label.

    Measures, subjects beginning with "ideal_point: ": `n_groups` ("supported" by held-out votes,
    and "fitted"), `held_out_log_loss` of "<k> groups", `group_share` (mean weight) of "group:<k>",
    and `few_shot_accuracy` of "<n> votes", the share of votes foretold of people whom nothing was
    fitted to, from n votes each, with its standard error over people.

    Options:
    - `model`: one that embeds completions.
    - `n_groups`: how many prototypes; default what the held-out votes support.
    - `most_groups`: the most that are tried; at least 1.
    - `few`: people with fewer votes are placed among the prototypes and do not shape them.
    - `annotators`: whose votes: one, or a kind as `human:*`.
    - `precision`: of the prior on prototypes; above 0.
    - `seed`: of starts and of what is held out.

    Of fewer than two votes nothing can be held out: they give no row.

    Raises `RecipeError` for an option out of range and annotators without votes.

    Source: Chen et al. (2024), PAL: Pluralistic Alignment Framework for Learning from
    Heterogeneous Preferences (its model A, in the metric of the embedding).
    """
    if most_groups < 1 or (n_groups is not None and n_groups < 1) or precision <= 0 or few < 0:
        raise RecipeError(
            f"{WHERE}: n_groups = {n_groups}, most_groups = {most_groups}, precision = "
            f"{precision}, few = {few}; expected at least 1, at least 1, above 0, at least 0"
        )
    seen = yield from choices(
        votes, completions, model=model, annotators=annotators, where=WHERE, squares=True
    )
    if len(seen.x) < 2:
        return Scores(tables.empty("scores")), Measures(tables.empty("measures"))
    draw = np.random.default_rng(seed)
    known = np.bincount(seen.user) >= few
    shaping = people(seen, known) if known.any() else seen
    part = draw.permutation(len(shaping.x)) % FOLDS
    tried = range(1, min(most_groups, len(shaping.names)) + 1)
    losses = {k: held_out(shaping, k, precision, part, draw) for k in tried}
    supported = fewest(losses, held_out_users(shaping, part))
    fitted = n_groups or supported
    found = fit_ideal_points(shaping, fitted, precision, draw)
    weights = place(seen, found)
    shots = few_shot(shaping, fitted, precision, draw)
    return _scores(seen, found, weights), _measures(weights, losses, supported, shots)


class Ideals(NamedTuple):
    """`q` (prototypes, columns), whose last column is beta; `weights` (people, prototypes);
    `average`, the numbers whose softmax are the weights of the average person; the `loss`."""

    q: Floats
    weights: Floats
    average: Floats
    loss: float


def people(seen: Choices, kept: NDArray[np.bool_]) -> Choices:
    """These people alone, renumbered."""
    own = seen.only(kept[seen.user])
    number = np.cumsum(kept) - 1
    names = [name for name, keep in zip(seen.names, kept, strict=True) if keep]
    return replace(own, names=names, user=number[own.user])


def fit_ideal_points(
    seen: Choices, n_groups: int, precision: float, draw: np.random.Generator
) -> Ideals:
    """The likeliest prototypes and weights of several starts, the largest weight first.

    The last column of `seen.x` is |x_b|^2 - |x_a|^2.
    """
    starts = _starts(seen, n_groups, draw)
    best = min((_fit(seen, n_groups, precision, start) for start in starts), key=lambda f: f.loss)
    order = np.argsort(-best.weights.mean(0), kind="stable")
    return Ideals(best.q[order], best.weights[:, order], best.average[order], best.loss)


def _starts(seen: Choices, n_groups: int, draw: np.random.Generator) -> list[tuple[Floats, Floats]]:
    """Prototypes and people's numbers to begin with: people who lean the same way together."""
    lean = sums(seen.user, (seen.prefers_a - 0.5)[:, None] * seen.x[:, :-1], len(seen.names))
    if n_groups == 1:
        return [(lean.sum(0, keepdims=True) / len(seen.x), np.zeros((len(seen.names), 1)))]
    size = np.maximum(np.linalg.norm(lean, axis=1, keepdims=True), 1e-12)
    made: list[tuple[Floats, Floats]] = []
    for _ in range(STARTS):
        # People who all lean the same way are fewer groups than asked for, which is no fault.
        with np.errstate(invalid="ignore"), warnings.catch_warnings(action="ignore"):
            centres, label = VQ.kmeans2(lean / size, n_groups, minit="++", rng=draw, missing="warn")
        numbers = np.where(label[:, None] == np.arange(n_groups), 1.5, -1.5)
        made.append((np.nan_to_num(centres), numbers))
    return made


def _fit(seen: Choices, n_groups: int, precision: float, start: tuple[Floats, Floats]) -> Ideals:
    n_people, width = len(seen.names), len(seen.x.T) - 1
    x, square, y, user = seen.x[:, :-1], seen.x[:, -1], seen.prefers_a, seen.user
    cuts = np.cumsum([n_groups * width, 1, n_groups, n_people * n_groups])

    def parts(flat: Floats) -> tuple[Floats, float, Floats, Floats]:
        q, beta, average, numbers = np.split(flat, cuts[:-1])
        return (
            q.reshape(n_groups, width),
            float(beta[0]),
            average,
            numbers.reshape(n_people, n_groups),
        )

    def loss(flat: Floats) -> tuple[float, Floats]:
        q, beta, average, numbers = parts(flat)
        w = _softmax(average + numbers)
        by_prototype = x @ q.T
        z = beta * square + (w[user] * by_prototype).sum(1)
        value = -(y * log_expit(z) + (1 - y) * log_expit(-z)).sum()
        value += precision / 2 * ((q**2).sum() + beta**2) + AROUND / 2 * (numbers**2).sum()
        slope = expit(z) - y
        by_q = (slope[:, None] * w[user]).T @ x + precision * q
        by_w = sums(user, slope[:, None] * by_prototype, n_people)
        by_softmax = w * (by_w - (w * by_w).sum(1, keepdims=True))
        by_beta = float(slope @ square) + precision * beta
        by_numbers = by_softmax + AROUND * numbers
        gradient = [by_q.ravel(), [by_beta], by_softmax.sum(0), by_numbers.ravel()]
        return float(value), np.concatenate(gradient)

    first = np.concatenate([start[0].ravel(), [0.1], np.zeros(n_groups), start[1].ravel()])
    bounds = [(None, None)] * (n_groups * width) + [(0, None)]
    bounds += [(None, None)] * (len(first) - len(bounds))
    options = {"maxiter": 500, "ftol": TOLERANCE}
    found = OPTIMIZE.minimize(
        loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    q, beta, average, numbers = parts(found.x)
    whole = np.column_stack([q, np.full(n_groups, beta)])
    return Ideals(whole, _softmax(average + numbers), average, float(found.fun))


def place(seen: Choices, found: Ideals) -> Floats:
    """The weights of people, (people, prototypes), everything else held as it was found.

    Somebody without votes is the average person.
    """
    n_people, n_groups = len(seen.names), len(found.q)
    by_prototype = seen.x @ found.q.T
    y, user = seen.prefers_a, seen.user

    def loss(flat: Floats) -> tuple[float, Floats]:
        numbers = flat.reshape(n_people, n_groups)
        w = _softmax(found.average + numbers)
        z = (w[user] * by_prototype).sum(1)
        value = -(y * log_expit(z) + (1 - y) * log_expit(-z)).sum()
        by_w = sums(user, (expit(z) - y)[:, None] * by_prototype, n_people)
        slope = w * (by_w - (w * by_w).sum(1, keepdims=True)) + AROUND * numbers
        return float(value + AROUND / 2 * (numbers**2).sum()), slope.ravel()

    start = np.zeros(n_people * n_groups)
    placed = OPTIMIZE.minimize(loss, start, jac=True, method="L-BFGS-B").x
    return _softmax(found.average + placed.reshape(n_people, n_groups))


def log_odds(seen: Choices, found: Ideals, weights: Floats) -> Floats:
    """Of completion_a in each vote, by its person."""
    return (weights[seen.user] * (seen.x @ found.q.T)).sum(1)


def _softmax(numbers: Floats) -> Floats:
    parts = np.exp(numbers - numbers.max(1, keepdims=True))
    return parts / parts.sum(1, keepdims=True)


def held_out(
    seen: Choices, n_groups: int, precision: float, part: Ints, draw: np.random.Generator
) -> Floats:
    """The log loss of each vote of the first parts, foretold from the others."""
    made: list[Floats] = []
    for at in range(n_parts(part)):
        found = fit_ideal_points(seen.only(part != at), n_groups, precision, draw)
        outside = seen.only(part == at)
        z, y = log_odds(outside, found, found.weights), outside.prefers_a
        made.append(-(y * log_expit(z) + (1 - y) * log_expit(-z)))
    return np.concatenate(made)


class Shots(NamedTuple):
    """The accuracy on new people who gave `n_votes` each, its error and how many people."""

    n_votes: int
    accuracy: float
    error: float
    n_people: int


def few_shot(
    seen: Choices, n_groups: int, precision: float, draw: np.random.Generator
) -> list[Shots]:
    """How well people are foretold that nothing was fitted to, a fifth of all."""
    is_new = draw.permutation(len(seen.names)) % FOLDS == 0
    if is_new.all() or not is_new.any():
        return []
    found = fit_ideal_points(people(seen, ~is_new), n_groups, precision, draw)
    new = people(seen, is_new)
    order = np.lexsort((draw.random(len(new.x)), new.user))
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - np.searchsorted(new.user[order], new.user[order])
    given = np.bincount(new.user)
    made: list[Shots] = []
    for n in SHOTS:
        can = (given >= n + ASKED)[new.user]
        asked = new.only(can & (turn >= n) & (new.prefers_a != 0.5))
        if not len(asked.x):
            continue
        weights = place(new.only(turn < n), found)
        right = (log_odds(asked, found, weights) > 0) == (asked.prefers_a > 0.5)
        count = np.bincount(asked.user)
        by_person = (np.bincount(asked.user, right) / np.maximum(count, 1))[count > 0]
        error = float(by_person.std(ddof=1) / np.sqrt(len(by_person))) if len(by_person) > 1 else 0
        made.append(Shots(n, float(by_person.mean()), error, len(by_person)))
    return made


def _scores(seen: Choices, found: Ideals, weights: Floats) -> Scores:
    reward = rewards(seen, found.q)
    ids = seen.completions["completion_id"]
    entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(1)
    made = [
        scores("annotator", seen.names, "ideal_group", weights.argmax(1).astype(float)),
        scores("annotator", seen.names, "ideal_entropy", np.maximum(entropy, 0)),
    ]
    for k in range(len(found.q)):
        name = f"group:{k}"
        made.append(scores("annotator", seen.names, "ideal_weight", weights[:, k], name))
        made.append(scores("completion", ids, "ideal_reward", reward[:, k], name))
    if seen.sides is not None:
        pairs = pair_ids(ids[seen.sides[:, 0]], ids[seen.sides[:, 1]])
        p = expit(log_odds(seen, found, weights))
        own = scores("pair", pairs, "ideal_preference", p)
        made.append(own.with_columns(model=pl.Series(seen.names)[seen.user]))
    return Scores(pl.concat(made))


def _measures(
    weights: Floats, losses: dict[int, Floats], supported: int, shots: list[Shots]
) -> Measures:
    n, n_groups = weights.shape
    rows: list[tuple[str, str, float, float | None, int]] = [
        ("n_groups", "supported", float(supported), None, n),
        ("n_groups", "fitted", float(n_groups), None, n),
    ]
    for k, loss in losses.items():
        error = float(loss.std() / np.sqrt(len(loss)))
        rows.append(("held_out_log_loss", f"{k} groups", float(loss.mean()), error, len(loss)))
    for k, share in enumerate(weights.mean(0)):
        rows.append(("group_share", f"group:{k}", float(share), None, n))
    for each in shots:
        subject = f"{each.n_votes} votes"
        rows.append(("few_shot_accuracy", subject, each.accuracy, each.error, each.n_people))
    names = ["measure", "subject", "value", "stderr", "n"]
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    frame = frame.with_columns(subject=pl.concat_str(pl.lit("ideal_point: "), "subject"))
    return Measures(tables.check("measures", frame, where=WHERE))
