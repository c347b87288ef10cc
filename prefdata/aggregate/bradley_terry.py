"""Bradley-Terry strengths from votes: P(i preferred to j) = sigmoid(theta_i - theta_j).

Components of the comparison graph are independent problems. Small ones are solved many at once
as stacks of dense matrices, a large one on its own by conjugate gradients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import expit

from prefdata.aggregate import _graph, _positions
from prefdata.aggregate._conjugate import solved
from prefdata.aggregate._graph import SMALL, Block, Floats, Incidence, Ints
from prefdata.aggregate._tally import preferences, tally, with_prompts
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import SIDES, Completions, Scores, Strengths, Votes

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


@dataclass(frozen=True)
class Fit:
    """Fitted strengths of items, of mean 0 within each connected component.

    `anchor` is, for each item, the strength of the opponent that the prior stands for, so that
    the optimum condition reads, with n_ij the votes on i and j and w_i the wins of i,

        w_i + prior = sum_j n_ij sigmoid(theta_i - theta_j) + 2 prior sigmoid(theta_i - anchor_i)

    `residual` is the largest difference of its sides over all items, `iterations` the most Newton
    steps that a component took.
    """

    strengths: Floats
    anchor: Floats
    component: Ints
    residual: float
    iterations: int


def fit_bradley_terry(
    one: Ints,
    other: Ints,
    wins: Floats,
    losses: Floats,
    *,
    n_items: int,
    prior: float = 0.1,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
) -> Fit:
    """Maximise the likelihood of `wins[k]` of item `one[k]` over `other[k]` and `losses[k]`.

    Counts may be fractions. Each item also has `prior` wins and `prior` losses against an opponent
    of strength 0, which keeps the strengths of items that always win finite. Newton steps are
    shortened to log(1 + r) / r of their length, r being the largest change of a difference: this
    provably ascends, as the third derivative is at most r times the second (Bach, 2010). A
    component is done when a full step moves no difference by more than `tolerance`.

    Raises `ConvergenceError` after `max_iterations`, and with prior 0 where a finite optimum does
    not exist: some items of a component never lose to the others.
    """
    one, other, wins, losses = _graph.merged(one, other, wins, losses, n_items)
    component = _graph.components(one, other, n_items)
    if prior == 0:
        _check_optimum(one, other, wins, losses, component)
    theta, residual, iterations = np.zeros(n_items), 0.0, 0
    for block in _graph.blocks(component, one, other):
        found, left, steps = _maximise(block, wins, losses, prior, tolerance, max_iterations)
        theta[block.items] = found
        residual, iterations = max(residual, left), max(iterations, steps)
    strengths, mean = _graph.centred(theta, component)
    return Fit(strengths, -mean, component, residual, iterations)


def standard_errors(
    fit: Fit, one: Ints, other: Ints, wins: Floats, losses: Floats, *, prior: float = 0.1
) -> tuple[Floats, Floats]:
    """Standard errors of the strengths and of the differences one[k] - other[k].

    From the inverse of the observed information (with the prior's) at the optimum, projected on
    strengths of mean 0. NaN in components of more than `LARGE` items.
    """
    theta = fit.strengths - fit.anchor
    p = expit(theta[one] - theta[other])
    each = (wins + losses) * p * (1 - p)
    of_prior = 2 * prior * expit(theta) * expit(-theta)
    errors = _graph.standard_errors(fit.component, one, other, each, of_prior)
    return errors[:2]


def _check_optimum(one: Ints, other: Ints, wins: Floats, losses: Floats, component: Ints) -> None:
    """Without a prior, each component must have an optimum."""
    found = _graph.one_sided(one, other, wins, losses, component)
    if found is not None:
        n_strong, n_weak, first = found
        raise ConvergenceError(
            f"Bradley-Terry with prior 0 has no finite optimum: {n_strong} groups of items "
            f"never lose to others in {n_weak} components, first with items {first}; "
            "residual inf after 0 iterations; give a prior above 0"
        )


def _maximise(
    block: Block,
    wins: Floats,
    losses: Floats,
    prior: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[Floats, float, int]:
    """Strengths of a block's items on the scale where the prior's opponent has 0, the residual and
    the steps."""
    whole = _Block(block, wins, losses, prior)
    theta = whole.start()
    live, rest = np.arange(len(theta)).reshape(-1, block.size), whole
    for iteration in range(1, max_iterations + 1):
        step, gradient = rest.newton(theta[live.ravel()])
        low, high = step.min(1), step.max(1)
        if prior > 0:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        reach = np.maximum(high - low, 1e-300)
        theta[live] += step * (np.log1p(reach) / reach)[:, None]
        kept = (reach > tolerance) & (np.abs(gradient).max(1) > rest.noise)
        if not kept.any():
            return theta, float(np.abs(whole.slopes(theta)[0]).max()), iteration
        if not kept.all():
            live, rest = live[kept], _Block(rest.block.only(kept), wins, losses, prior)
    residual = float(np.abs(whole.slopes(theta)[0]).max())
    raise ConvergenceError(
        f"Bradley-Terry did not converge: residual {residual:.3g} votes after {max_iterations} "
        f"iterations in {len(live)} components, first with items "
        f"{rest.block.items[:3].tolist()}; allow more iterations or give a larger prior"
    )


class _Block:
    """The likelihood of a block, and with it that of the prior.

    With t = tanh(d / 2) of the difference d, P(one wins) is (1 + t) / 2: all that is needed is how
    many more votes one won than lost, and how many there were.
    """

    def __init__(self, block: Block, wins: Floats, losses: Floats, prior: float) -> None:
        self.block, self.prior = block, prior
        self.graph = Incidence(block.one, block.other, len(block.items))
        won, lost = wins[block.rows], losses[block.rows]
        self.half = (won + lost) / 2
        self.expected = np.empty(len(won))
        self.lead_of_items = self.graph.sums((won - lost) / 2)
        self.half_of_items = self.graph.sums(self.half, 1)
        # Where the likelihood is flat to the last bit no step can be told from noise.
        self.noise = 1e-15 * (2 * self.half_of_items + prior).reshape(-1, block.size).max(1)

    def start(self) -> Floats:
        """Near the optimum where all meet all: the log odds of each item's share of wins, spread
        by what meeting opponents of many strengths takes from them.

        Over normal z of variance v the mean of sigmoid(x - z) is sigmoid(x / sqrt(1 + pi v / 8)).
        """
        k, even = self.block.size, self.half_of_items + self.prior + 0.5
        odds = np.log((even + self.lead_of_items) / (even - self.lead_of_items)).reshape(-1, k)
        of_opponents = odds.var(1, keepdims=True) * max(k - 2, 0) / k
        wider = 1 / np.sqrt(np.maximum(1 - np.pi / 8 * of_opponents, 0.25))
        return (odds * wider * (k - 1) / k).ravel()

    def slopes(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Observed less expected wins of each item, and the information of each comparison and of
        the prior on each item."""
        t, own = self.graph.apart(theta / 2), np.tanh(theta / 2)
        np.tanh(t, out=t)
        np.multiply(t, self.half, out=self.expected)
        gradient = self.lead_of_items - self.graph.sums(self.expected) - self.prior * own
        # (half - expected t) / 2, in the room of t.
        np.multiply(t, self.expected, out=t)
        np.subtract(self.half, t, out=t)
        t /= 2
        return gradient, t, self.prior * (1 - own**2) / 2

    def newton(self, theta: Floats) -> tuple[Floats, Floats]:
        """The step and the gradient, (components, items); a large step by conjugate gradients."""
        gradient, each, of_prior = self.slopes(theta)
        k = self.block.size
        by_component = gradient.reshape(-1, k)
        if k <= SMALL:
            matrix = _graph.information(self.block, each, of_prior)
            return np.linalg.solve(matrix, by_component[:, :, None])[:, :, 0], by_component
        if not self.prior:
            # What rounding leaves along the ones has no solution, and would be sought for ever.
            gradient = gradient - gradient.mean()
        times, diagonal = self.graph.laplacian(each, of_prior)
        return solved(times, gradient, diagonal).reshape(-1, k), by_component


def bradley_terry(
    votes: Votes,
    completions: Completions | None = None,
    *,
    prior: float = 0.1,
    position_effects: bool = False,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    max_iterations: int = 200,
    estimator: str = "bradley_terry",
) -> tuple[Strengths, Scores]:
    """Estimate the strength of each completion on the log scale from all votes that connect it.

        P(a preferred to b) = sigmoid(theta_a - theta_b)

    by maximum likelihood with a weak prior. A vote adds its preference as wins of a and the rest
    as wins of b, so a tie is half a win for each and P is the expected share of a, wins and half
    of the ties. (Under a model with an own parameter for ties these strengths come out nearer to
    0; without the ties they would come out too far from it.) Unscored votes are left out. Votes
    are taken as independent, both orders of a judge too.

    A judge who always says the first leaves the order of strengths as it is, where it is asked in
    both orders, and pulls them together. With `position_effects` P is

        P(u prefers a) = sigmoid(theta_a - theta_b + beta_u z),  z = 1 if a was shown first, else -1

    (0 where the order is unknown) with an effect beta for each annotator u, and such votes are
    explained by beta and say next to nothing of strengths. It is off by default: it needs both
    orders, or an order by chance. Where the better completion is mostly shown first, as in a file
    that lists the chosen one first, beta takes what is quality's. And as differences do, effects
    come out too far from 0 where completions have few votes: by a seventh with 12 votes each.

    - `strengths`: theta, of mean 0 over the completions that votes connect, and its standard error
      from the inverse observed information on that scale. Votes without a prompt connect the
      completions of different prompts, and these then share one scale.
    - `scores`: for each compared two, score `preference`, P(the smaller completion_id wins), with
      the standard error P (1 - P) se(theta_a - theta_b). With `position_effects`, P of no place,
      and for each annotator with a vote of known order `position_effect`, beta in log-odds.

    Standard errors are null where votes connect more than 10,000 completions, and with
    `position_effects` of more than 67 million completions times annotators.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `prior`: wins, and as many losses, that each completion has against an opponent of strength
      0 before any vote. It keeps a completion that always wins finite, and puts completions of a
      prompt that no votes connect on one scale. 0 is maximum likelihood. An effect has as many,
      for the first and for the second of two equal ones.
    - `position_effects`: whether the place shown may be worth something to each annotator; needs a
      prior above 0, as an annotator who always says the first has no finite effect without.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `max_iterations`: Newton steps before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where there is no optimum or it was not reached; `RecipeError` for a
    criterion without votes, a weight not above 0 or a prior below 0; `TableError` where the prompt
    of a completion cannot be found.

    Source: Bradley and Terry (1952); Hunter (2004) for the conditions of an optimum; Bach (2010),
    Self-concordant analysis for logistic regression, for the length of a step; Davidson and Beaver
    (1977), On extending the Bradley-Terry model to incorporate within-pair order effects.
    """
    if not 0 <= prior < float("inf"):
        raise RecipeError(f"aggregate.bradley_terry: prior is {prior}; give 0 or a number above")
    if position_effects and prior == 0:
        raise RecipeError("aggregate.bradley_terry: position_effects need a prior above 0")
    by = ["annotator", "a_first"] if position_effects else []
    rows = tally(votes, criteria, weights, by)
    ids = pl.concat([rows["completion_a"], rows["completion_b"]]).unique().sort()
    one, other = (_graph.numbers(rows[side], ids) for side in ("completion_a", "completion_b"))
    n_items, about_effects = len(ids), list[pl.DataFrame]()
    if position_effects:
        shown, names = _positions.shown_of(rows, one, other)
        fit = _positions.fit_positions(
            shown,
            n_items=n_items,
            n_annotators=len(names),
            prior=prior,
            max_iterations=max_iterations,
        )
        of_item, of_difference, of_effect = _positions.standard_errors(fit, shown, prior=prior)
        about_effects.append(_positions.scores_of_effects(shown, fit, of_effect, names, estimator))
    else:
        counts = one, other, rows["wins"].to_numpy(), rows["losses"].to_numpy()
        fit = fit_bradley_terry(
            *counts, n_items=n_items, prior=prior, max_iterations=max_iterations
        )
        of_item, of_difference = standard_errors(fit, *counts, prior=prior)
    strengths = pl.DataFrame(
        {"completion_id": ids, "strength": fit.strengths, "stderr": of_item},
        schema_overrides={"completion_id": pl.String},
    )
    value = expit(fit.strengths[one] - fit.strengths[other])
    scored = rows.with_columns(value=value, stderr=value * (1 - value) * of_difference)
    pairs = scored.unique(SIDES, keep="first", maintain_order=True)
    return (
        with_prompts(strengths, votes, completions, estimator),
        Scores(pl.concat([preferences(pairs, estimator), *about_effects])),
    )
