"""A latent vector for each person, with how sure one can be of it from the votes that it gave.

What a person u prefers is a direction, the mean one and what differs between people:

    P(u prefers a to b) = sigmoid((e_a - e_b) . (m + B z_u)),    z_u ~ N(0, I) of a few numbers.

z_u is inferred from the person's own votes (its context) as a normal q(z_u), whose mean is its
place and whose deviations shrink with every vote that tells something. m and B are fitted to all
people by variational expectation maximisation: with Jaakkola and Jordan's bound, quadratic in the
log-odds, both steps are linear systems and the bound on the likelihood never falls. There is no
table of known people: somebody new is inferred from its first votes like anyone else, and a person
without votes is the mean.

Wide vectors are first brought to their principal columns. How many latent numbers there are, none
included, is asked of votes that are held out; none means that people agree.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._people import FOLDS, Choices, choices, held_out_users, scores
from prefdata.estimate._sums import sums
from prefdata.estimate.em_groups import fewest
from prefdata.estimate.em_groups import held_out as held_out_of_groups
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Measures, Scores, Votes, pair_ids

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
LINALG: Any = np.linalg

# Gain of the bound by vote below which the fit is done.
TOLERANCE = 1e-5
MOST_STEPS = 200
WHERE = "estimate.user_latent"


def user_latent(
    votes: Votes,
    completions: Completions,
    *,
    model: Model,
    n_dimensions: int | None = None,
    most_dimensions: int = 4,
    most_groups: int = 4,
    most_columns: int = 64,
    annotators: str = "human:*",
    precision: float = 1.0,
    seed: int = 0,
) -> Asks[tuple[Scores, Measures]]:
    """Score where people stand, what they would each say, and which pairs part them.

    Of annotators: `latent` under "dimension:<k>", in deviations of people, `stderr` that of q:
    1 for somebody of whom nothing is known. Of pairs: `latent_preference` under each voter's name,
    P(completion_a preferred) by that person, its uncertainty averaged over; `controversy` >= 0, the
    standard deviation over people of the log-odds: 0 where all agree. Dimensions are in the order
    of how much people differ along them; with none there are no `latent` scores.

    Measures, subjects beginning with "user_latent: ": `n_dimensions` ("supported" by held-out
    votes, and "fitted"); `n_groups` "supported", 1 where no dimension is, else by em_groups on the
    same votes; `held_out_log_loss` of "<k> dimensions" and "<k> groups", to be compared: people who
    come in kinds are better told by groups, people who differ by degrees by dimensions.

    Options:
    - `model`: one that embeds completions.
    - `n_dimensions`: of the latent vector; default what the held-out votes support.
    - `most_dimensions`: the most that are tried; at least 0.
    - `most_groups`: the most groups that are tried; at least 1.
    - `most_columns`: principal columns of the vectors that are kept; at least 1.
    - `annotators`: whose votes: one, or a kind as `human:*`.
    - `precision`: of the prior on m and B; above 0.
    - `seed`: of what is held out.

    Of fewer than two votes nothing can be held out: they give no row.

    Raises `RecipeError` for an option out of range and annotators without votes.

    Source: Poddar et al. (2024), Personalizing RLHF with Variational Preference Learning, with a
    linear reward whose posterior is inferred instead of an encoder that guesses it; Jaakkola and
    Jordan (2000), Bayesian parameter estimation via variational methods.
    """
    least = min(n_dimensions or 0, most_dimensions)
    if least < 0 or most_groups < 1 or most_columns < 1 or precision <= 0:
        raise RecipeError(
            f"{WHERE}: n_dimensions = {n_dimensions}, most_dimensions = {most_dimensions}, "
            f"most_groups = {most_groups}, most_columns = {most_columns}, precision = {precision}; "
            "expected at least 0, at least 0, at least 1, at least 1, above 0"
        )
    seen = yield from choices(votes, completions, model=model, annotators=annotators, where=WHERE)
    if len(seen.x) < 2:
        return Scores(tables.empty("scores")), Measures(tables.empty("measures"))
    seen = principal(seen, most_columns)
    draw = np.random.default_rng(seed)
    part = draw.permutation(len(seen.x)) % FOLDS
    most = min(most_dimensions, len(seen.names) - 1, len(seen.x.T))
    losses = {k: held_out(seen, k, precision, part) for k in range(most + 1)}
    supported = fewest(losses, seen.user)
    fitted = supported if n_dimensions is None else min(n_dimensions, len(seen.x.T))
    found = fit_latents(seen, fitted, precision)
    groups: dict[int, Floats] = {}
    if supported:
        tried = range(1, min(most_groups, len(seen.names)) + 1)
        groups = {k: held_out_of_groups(seen, k, precision, part, draw) for k in tried}
    n_groups = fewest(groups, held_out_users(seen, part)) if groups else 1
    told = {f"{k} dimensions": loss for k, loss in losses.items()}
    told |= {f"{k} groups": loss for k, loss in groups.items()}
    numbers = (supported, fitted, n_groups)
    return _scores(seen, found), _measures(len(seen.names), told, numbers)


def principal(seen: Choices, most: int) -> Choices:
    """The votes in the columns along which completions differ most, of size 1 in the mean."""
    if len(seen.x.T) <= most:
        return seen
    _, vectors = LINALG.eigh(seen.x.T @ seen.x)
    turned: Floats = vectors[:, ::-1][:, :most]
    x: Floats = seen.x @ turned
    size = float(np.sqrt((x**2).mean())) or 1.0
    return Choices(
        seen.names, seen.user, seen.pair, x / size, seen.prefers_a, seen.completions,
        seen.vectors @ turned / size, seen.sides,
    )  # fmt: skip


class Latents(NamedTuple):
    """`mean` direction m; `basis` B (columns, dimensions), the longest column first; `place`
    (people, dimensions) and `cover` (people, dimensions, dimensions), mean and covariance of q;
    `trace`, the bound after each step, which never falls."""

    mean: Floats
    basis: Floats
    place: Floats
    cover: Floats
    trace: list[float]


def fit_latents(seen: Choices, n_dimensions: int, precision: float) -> Latents:
    """m and B of the greatest bound on the likelihood, by expectation maximisation."""
    theta = np.column_stack([np.zeros(len(seen.x.T)), _begin(seen, n_dimensions)])
    xi = np.ones(len(seen.x))
    trace: list[float] = []
    place, cover = _infer(seen, theta, xi)
    for _ in range(MOST_STEPS):
        theta = _theta(seen, place, cover, xi, precision)
        # One step of q and xi each; more of them would climb no higher.
        xi = _xi(seen, theta, place, cover)
        place, cover = _infer(seen, theta, xi)
        trace.append(_bound(seen, theta, place, cover, xi, precision))
        if len(trace) > 1 and trace[-1] - trace[-2] < TOLERANCE * len(seen.x):
            break
    return _turned(theta, place, cover, trace)


def _begin(seen: Choices, n_dimensions: int) -> Floats:
    """The directions in which the votes of people differ most from those of all."""
    lean = (seen.prefers_a - 0.5)[:, None] * seen.x
    count = np.maximum(np.bincount(seen.user, minlength=len(seen.names)), 1)
    own = sums(seen.user, lean, len(seen.names)) / count[:, None]
    apart = (own - lean.mean(0)) * np.sqrt(count)[:, None]
    _, _, directions = LINALG.svd(apart, full_matrices=False)
    begun: Floats = directions[:n_dimensions].T
    return begun


def _lambda(xi: Floats) -> Floats:
    return np.where(xi > 1e-4, np.tanh(xi / 2) / (4 * np.maximum(xi, 1e-4)), 0.125)


def infer(seen: Choices, mean: Floats, basis: Floats, *, steps: int = 20) -> tuple[Floats, Floats]:
    """q of people, whether or not m and B were fitted to them: `place` and `cover`."""
    theta = np.column_stack([mean, basis])
    xi = np.ones(len(seen.x))
    place, cover = _infer(seen, theta, xi)
    for _ in range(steps):
        xi = _xi(seen, theta, place, cover)
        place, cover = _infer(seen, theta, xi)
    return place, cover


def _infer(seen: Choices, theta: Floats, xi: Floats) -> tuple[Floats, Floats]:
    """q of each person: precision I + sum 2 lambda c c', c = B'x, of its votes."""
    n, d = len(seen.names), len(theta.T) - 1
    projected = seen.x @ theta
    alike, c = projected[:, 0], projected[:, 1:]
    twice = 2 * _lambda(xi)
    outer = (twice[:, None, None] * c[:, :, None] * c[:, None, :]).reshape(len(c), d * d)
    pull = ((seen.prefers_a - 0.5) - twice * alike)[:, None] * c
    if not d:
        return np.zeros((n, 0)), np.zeros((n, 0, 0))
    cover: Floats = LINALG.inv(np.eye(d) + sums(seen.user, outer, n).reshape(n, d, d))
    place = (cover @ sums(seen.user, pull, n)[:, :, None])[:, :, 0]
    return place, cover


def _moments(place: Floats, cover: Floats) -> Floats:
    """E[t t'] of t = (1, z), (people, 1 + dimensions, 1 + dimensions)."""
    t = np.column_stack([np.ones(len(place)), place])
    both = t[:, :, None] * t[:, None, :]
    both[:, 1:, 1:] += cover
    return both


def _xi(seen: Choices, theta: Floats, place: Floats, cover: Floats) -> Floats:
    """Where the bound touches: the root of E[log-odds^2]."""
    projected = seen.x @ theta
    both = _moments(place, cover)[seen.user]
    square = (projected[:, None, :] @ both @ projected[:, :, None])[:, 0, 0]
    return np.sqrt(np.maximum(square, 0))


def _theta(seen: Choices, place: Floats, cover: Floats, xi: Floats, precision: float) -> Floats:
    """m and B, (columns, 1 + dimensions): the maximum of a quadratic function of all of them."""
    width, k = len(seen.x.T), len(place.T) + 1
    both = _moments(place, cover)[seen.user]
    twice = 2 * _lambda(xi)
    system = np.zeros((k, width, k, width))
    for i in range(k):
        for j in range(i, k):
            block = seen.x.T @ ((twice * both[:, i, j])[:, None] * seen.x)
            system[i, :, j, :] = block
            system[j, :, i, :] = block
    t = both[:, 0, :]
    right = ((seen.prefers_a - 0.5)[:, None] * t).T @ seen.x
    square = system.reshape(k * width, k * width) + precision * np.eye(k * width)
    solved: Floats = LINALG.solve(square, right.ravel())
    return solved.reshape(k, width).T


def _bound(
    seen: Choices, theta: Floats, place: Floats, cover: Floats, xi: Floats, precision: float
) -> float:
    """What the likelihood of the votes and the prior are together at least, in nats."""
    projected = seen.x @ theta
    t = np.column_stack([np.ones(len(place)), place])[seen.user]
    mean = (projected * t).sum(1)
    square = _xi(seen, theta, place, cover) ** 2
    fit = (seen.prefers_a - 0.5) * mean - _lambda(xi) * (square - xi**2) + log_expit(xi) - xi / 2
    d = len(place.T)
    _, size = LINALG.slogdet(cover) if d else (0.0, 0.0)
    trace = np.trace(cover, axis1=1, axis2=2) if d else np.zeros(len(place))
    apart = (trace + (place**2).sum(1) - d - size) / 2
    return float(fit.sum() - np.sum(apart) - precision / 2 * (theta**2).sum())


def _turned(theta: Floats, place: Floats, cover: Floats, trace: list[float]) -> Latents:
    """The same with orthogonal columns of B, the longest first, each with its largest number
    positive: the fit itself leaves z free to turn."""
    mean, basis = theta[:, 0], theta[:, 1:]
    if not len(basis.T):
        return Latents(mean, basis, place, cover, trace)
    _, _, turn = LINALG.svd(basis, full_matrices=False)
    turned: Floats = basis @ turn.T
    largest = np.abs(turned).argmax(0)
    sign = np.where(turned[largest, np.arange(len(largest))] < 0, -1.0, 1.0)
    turn: Floats = turn.T * sign
    return Latents(mean, basis @ turn, place @ turn, turn.T @ cover @ turn, trace)


def preferred(seen: Choices, mean: Floats, basis: Floats, place: Floats, cover: Floats) -> Floats:
    """P(a preferred) of each vote by its person, averaged over q (MacKay's approximation)."""
    alike, c = seen.x @ mean, seen.x @ basis
    z = alike + (c * place[seen.user]).sum(1)
    spread = (c[:, None, :] @ cover[seen.user] @ c[:, :, None])[:, 0, 0] if len(c.T) else 0.0
    return expit(z / np.sqrt(1 + np.pi / 8 * spread))


def held_out(seen: Choices, n_dimensions: int, precision: float, part: Ints) -> Floats:
    """The log loss of each vote, foretold from votes of the other parts."""
    made = np.zeros(len(seen.x))
    for at in np.unique(part):
        found = fit_latents(seen.only(part != at), n_dimensions, precision)
        outside = seen.only(part == at)
        p = np.clip(preferred(outside, *found[:4]), 1e-12, 1 - 1e-12)
        y = outside.prefers_a
        made[part == at] = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return made


def _scores(seen: Choices, found: Latents) -> Scores:
    made = [tables.empty("scores")]
    for k, place in enumerate(found.place.T):
        one = scores("annotator", seen.names, "latent", place, f"dimension:{k}")
        made.append(one.with_columns(stderr=pl.Series(np.sqrt(found.cover[:, k, k]))))
    if seen.sides is not None:
        ids = seen.completions["completion_id"]
        pairs = pair_ids(ids[seen.sides[:, 0]], ids[seen.sides[:, 1]])
        own = scores("pair", pairs, "latent_preference", preferred(seen, *found[:4]))
        made.append(own.with_columns(model=pl.Series(seen.names)[seen.user]))
        apart = np.sqrt(((seen.x @ found.basis) ** 2).sum(1))
        about = scores("pair", pairs, "controversy", apart)
        made.append(about.unique("subject_id", keep="first", maintain_order=True))
    return Scores(pl.concat(made))


def _measures(n: int, losses: dict[str, Floats], numbers: tuple[int, int, int]) -> Measures:
    supported, fitted, n_groups = numbers
    rows: list[tuple[str, str, float, float | None, int]] = [
        ("n_dimensions", "supported", float(supported), None, n),
        ("n_dimensions", "fitted", float(fitted), None, n),
        ("n_groups", "supported", float(n_groups), None, n),
    ]
    for name, loss in losses.items():
        error = float(loss.std() / np.sqrt(len(loss)))
        rows.append(("held_out_log_loss", name, float(loss.mean()), error, len(loss)))
    names = ["measure", "subject", "value", "stderr", "n"]
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    frame = frame.with_columns(subject=pl.concat_str(pl.lit("user_latent: "), "subject"))
    return Measures(tables.check("measures", frame, where=WHERE))
