"""Groups of people with tastes of their own: a mixture of reward functions, by users.

A user u belongs to group k with probability pi_k, and all its votes follow that group's reward:

    P(u prefers a to b | k) = sigmoid(w_k . (e_a - e_b)) .

Fitted by expectation maximisation with a normal prior on each w_k: the E-step weighs groups by all
votes of a user together, the M-step fits each group to the votes of its users. It is users that
are grouped, not votes: a single vote says next to nothing about who gave it.

How many groups there are is asked of votes that are held out, fifths of all (of many votes one, of
few all in turn), foretold from the groups that a user's others show. The fewest groups are taken
that no larger number beats by more than two of its standard errors, so people who agree are one
group.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from prefdata import tables
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.estimate._held_out import fit_ridge
from prefdata.estimate._people import (
    FOLDS,
    Choices,
    choices,
    held_out_users,
    n_parts,
    rewards,
    scores,
)
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Measures, Scores, Votes

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

RESTARTS = 6
TOLERANCE = 1e-5
MOST_STEPS = 1000


class Groups(NamedTuple):
    """`weights` (groups, columns), `share` of each, `belongs` (users, groups), log-posteriors of
    every step, which never fall."""

    weights: Floats
    share: Floats
    belongs: Floats
    trace: list[float]


def em_groups(
    votes: Votes,
    completions: Completions,
    *,
    model: Model,
    n_groups: int | None = None,
    most_groups: int = 4,
    annotators: str = "human:*",
    precision: float = 1.0,
    seed: int = 0,
) -> Asks[tuple[Scores, Measures]]:
    """Score who is in which group, and what each group thinks of every completion.

    Of annotators: `group` (0 is the largest) and `group_probability` in [0, 1], one for each
    group, under the model "group:<k>". Of completions: `group_reward` (log-odds, of mean 0 within
    a prompt) under "group:<k>", and `worst_group_reward`, the least of them: what to raise where
    no group is to be left behind.

    Measures: `n_groups` (subject "supported": what held-out votes support; "fitted": what was
    taken); `held_out_log_loss` of subject "<k> groups"; `group_share` of "group:<k>"; and
    `group_distance` of "group:<k>", in [0, 1], how far its P(a preferred) is from that of all
    people on average.

    Options:
    - `model`: one that embeds completions.
    - `n_groups`: how many; default what the held-out votes support.
    - `most_groups`: the most that are tried; at least 1.
    - `annotators`: whose votes: one, or a kind as `human:*`.
    - `precision`: of the prior on each group's weights; above 0.
    - `seed`: of starts and of what is held out.

    Of fewer than two votes nothing can be held out: they give no row.

    Raises `RecipeError` for an option out of range or annotators without votes, and
    `ConvergenceError`.

    Source: Chakraborty et al. (2024), MaxMin-RLHF: Alignment with Diverse Human Preferences.
    """
    if most_groups < 1 or (n_groups is not None and n_groups < 1) or precision <= 0:
        raise RecipeError(
            f"estimate.em_groups: n_groups = {n_groups}, most_groups = {most_groups}, precision = "
            f"{precision}; expected at least 1, at least 1, above 0"
        )
    seen = yield from choices(
        votes, completions, model=model, annotators=annotators, where="estimate.em_groups"
    )
    if len(seen.x) < 2:
        return Scores(tables.empty("scores")), Measures(tables.empty("measures"))
    draw = np.random.default_rng(seed)
    part = draw.permutation(len(seen.x)) % FOLDS
    tried = range(1, min(most_groups, len(seen.names)) + 1)
    losses = {k: held_out(seen, k, precision, part, draw) for k in tried}
    supported = fewest(losses, held_out_users(seen, part))
    found = fit_groups(seen, n_groups or supported, precision, draw)
    return _scores(seen, found), _measures(seen, found, losses, supported)


def fit_groups(seen: Choices, n_groups: int, precision: float, draw: np.random.Generator) -> Groups:
    """The best of several starts, the largest group first."""
    starts = RESTARTS if n_groups > 1 else 1
    fits = [_climb(seen, n_groups, precision, draw) for _ in range(starts)]
    best = max(fits, key=lambda fit: fit.trace[-1])
    order = np.argsort(-best.share, kind="stable")
    return Groups(best.weights[order], best.share[order], best.belongs[:, order], best.trace)


def _climb(seen: Choices, n_groups: int, precision: float, draw: np.random.Generator) -> Groups:
    n_users = len(seen.names)
    belongs = draw.dirichlet(np.full(n_groups, 0.3), n_users)
    weights = np.zeros((n_groups, seen.x.shape[1]))
    trace: list[float] = []
    for _ in range(MOST_STEPS):
        share = (belongs.sum(0) + 1) / (n_users + n_groups)
        weights = np.stack(
            [_fit(seen, belongs[:, k], precision, weights[k]) for k in range(n_groups)]
        )
        joint = np.log(share) + likelihood(seen, weights)
        total = _log_sum(joint)
        belongs = np.exp(joint - total[:, None])
        prior = np.log(share).sum() - precision / 2 * (weights**2).sum()
        trace.append(float(total.sum() + prior))
        if len(trace) > 1 and trace[-1] - trace[-2] < TOLERANCE * len(seen.x) ** 0.5:
            return Groups(weights, share, belongs, trace)
    raise ConvergenceError(
        f"estimate.em_groups: {n_groups} groups still gain {trace[-1] - trace[-2]:.3g} nats after "
        f"{MOST_STEPS} iterations; ask for fewer groups or a larger precision"
    )


def _log_sum(joint: Floats) -> Floats:
    most = joint.max(1)
    return most + np.log(np.exp(joint - most[:, None]).sum(1))


def _fit(seen: Choices, belongs: Floats, precision: float, start: Floats) -> Floats:
    """One group's weights. A soft vote counts for both sides, by its parts."""
    weight = belongs[seen.user]
    both = np.concatenate([seen.x, -seen.x])
    parts = np.concatenate([weight * seen.prefers_a, weight * (1 - seen.prefers_a)])
    used = parts > 1e-9
    return fit_ridge(both[used], np.full(len(start), precision), start, parts[used])


def likelihood(seen: Choices, weights: Floats) -> Floats:
    """The log-likelihood of each user's votes under each group, (users, groups)."""
    z = seen.x @ weights.T
    y = seen.prefers_a[:, None]
    each = y * log_expit(z) + (1 - y) * log_expit(-z)
    sums: list[Floats] = [np.bincount(seen.user, c, len(seen.names)) for c in each.T]  # pyright: ignore[reportAssignmentType]
    return np.stack(sums, 1)


def assign(seen: Choices, found: Groups) -> Floats:
    """The group probabilities, (users, groups), of people the groups were not fitted to."""
    joint = np.log(found.share) + likelihood(seen, found.weights)
    return np.exp(joint - _log_sum(joint)[:, None])


def held_out(
    seen: Choices, n_groups: int, precision: float, part: Ints, draw: np.random.Generator
) -> Floats:
    """The log loss of each vote of the first parts, foretold from its user's other votes."""
    made: list[Floats] = []
    for at in range(n_parts(part)):
        inside, outside = seen.only(part != at), seen.only(part == at)
        found = fit_groups(inside, n_groups, precision, draw)
        p = (expit(outside.x @ found.weights.T) * found.belongs[outside.user]).sum(1)
        p = np.clip(p, 1e-12, 1 - 1e-12)
        y = outside.prefers_a
        made.append(-(y * np.log(p) + (1 - y) * np.log1p(-p)))
    return np.concatenate(made)


def fewest(losses: dict[int, Floats], users: Ints) -> int:
    """The fewest groups that no larger number beats by more than two standard errors.

    The votes of one user are not independent, so the error is that of users.
    """
    for k in sorted(losses):
        gains = (losses[k] - losses[more] for more in losses if more > k)
        if not any(_is_sure(gain, users) for gain in gains):
            return k
    return max(losses)


def _is_sure(gain: Floats, users: Ints) -> bool:
    by_user = np.bincount(users, gain - gain.mean())
    n = int((np.bincount(users) > 0).sum())
    error = np.sqrt((by_user**2).sum() * n / max(n - 1, 1)) / len(gain)
    return bool(gain.mean() > 2 * error)


def _scores(seen: Choices, found: Groups) -> Scores:
    reward = rewards(seen, found.weights)
    ids = seen.completions["completion_id"]
    made = [
        scores("annotator", seen.names, "group", found.belongs.argmax(1).astype(float)),
        scores("completion", ids, "worst_group_reward", reward.min(1)),
    ]
    for k in range(len(found.share)):
        name = f"group:{k}"
        made.append(scores("annotator", seen.names, "group_probability", found.belongs[:, k], name))
        made.append(scores("completion", ids, "group_reward", reward[:, k], name))
    return Scores(pl.concat(made))


def _measures(seen: Choices, found: Groups, losses: dict[int, Floats], supported: int) -> Measures:
    n = len(seen.names)
    p = expit(seen.x @ found.weights.T)
    away = np.abs(p - (p * found.share).sum(1, keepdims=True)).mean(0)
    rows: list[tuple[str, str, float, float | None, int]] = [
        ("n_groups", "supported", float(supported), None, n),
        ("n_groups", "fitted", float(len(found.share)), None, n),
    ]
    for k, loss in losses.items():
        error = float(loss.std() / np.sqrt(len(loss)))
        rows.append(("held_out_log_loss", f"{k} groups", float(loss.mean()), error, len(loss)))
    for k, (share, distance) in enumerate(zip(found.share, away, strict=True)):
        rows.append(("group_share", f"group:{k}", float(share), None, n))
        rows.append(("group_distance", f"group:{k}", float(distance), None, len(seen.x)))
    names = ["measure", "subject", "value", "stderr", "n"]
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    return Measures(tables.check("measures", frame, where="estimate.em_groups"))
