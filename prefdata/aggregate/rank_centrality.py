"""Rank centrality: strengths from the random walk that goes from each item to those that beat it.

    rate(i -> j) = (w_ji + s) / (n_ij + 2 s)   for compared i, j;   strength_i = ln pi_i

where w_ji are the votes for j over i, n_ij the votes on both, s a smoothing and pi the walk's
stationary distribution. The rates of two directions sum to 1. Dividing all by a common bound makes
steps of them and leaves pi as it is. Where P(j over i) = w_j / (w_i + w_j) holds exactly, pi is w.

Source: Negahban, Oh and Shah (2017), "Rank Centrality: Ranking from Pairwise Comparisons"; Kirk et
al. (2024), "The PRISM Alignment Dataset", for the use with a smoothing of 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg
from scipy.special import expit

from prefdata.aggregate import _graph
from prefdata.aggregate._graph import SMALL, Block, Floats, Ints
from prefdata.aggregate._tally import preferences, tally, with_prompts
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Completions, Scores, Strengths, Votes

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"

# These modules come without types.
SPARSE: Any = sparse
SOLVERS: Any = sparse_linalg


def fit_rank_centrality(
    one: Ints,
    other: Ints,
    wins: Floats,
    losses: Floats,
    *,
    n_items: int,
    smoothing: float = 1.0,
) -> tuple[Floats, Ints]:
    """ln pi of each item, of mean 0 in each component, and the item's component.

    Each two items stand in one row. Raises `ConvergenceError` without smoothing where some items
    of a component never lose to others, so that the walk does not return from them.
    """
    component = _graph.components(one, other, n_items)
    if smoothing == 0:
        found = _graph.one_sided(one, other, wins, losses, component)
        if found is not None:
            raise ConvergenceError(
                "rank centrality with smoothing 0 has no finite strengths: some items never lose "
                f"to others, first in the component of items {found[2]}; residual inf after 0 "
                "iterations; give a smoothing above 0"
            )
    whole = wins + losses + 2 * smoothing
    to_one = (wins + smoothing) / whole
    strengths = np.zeros(n_items)
    for block in _graph.blocks(component, one, other):
        if block.size > 1:
            solve = _stationary_stack if block.size <= SMALL else _stationary
            pi = solve(block, to_one[block.rows])
            strengths[block.items] = np.log(np.maximum(pi, 1e-300))
    return _graph.centred(strengths, component)[0], component


def _stationary_stack(block: Block, to_one: Floats) -> Floats:
    """pi of each component: the outflow of each item is its inflow, the last sums them to 1."""
    k, n = block.size, len(block.items)
    # Row i, column j of the matrix is the rate j -> i.
    cells = block.one * k + block.other % k, block.other * k + block.one % k
    rates = np.bincount(np.concatenate(cells), np.concatenate([to_one, 1 - to_one]), n * k)
    flow = rates.astype(np.float64, copy=False).reshape(-1, k, k)
    np.einsum("cii->ci", flow)[:] = -flow.sum(1)
    flow[:, -1] = 1.0
    right = np.zeros((len(flow), k, 1))
    right[:, -1] = 1.0
    return np.linalg.solve(flow, right).ravel()


def _stationary(block: Block, to_one: Floats) -> Floats:
    """As of a stack, of one component by a sparse factorisation: pi_0 = 1, then normed."""
    n = len(block.items)
    leaves_one, leaves_other = 1 - to_one, to_one
    out = np.bincount(block.one, leaves_one, n) + np.bincount(block.other, leaves_other, n)
    row = np.concatenate([block.one, block.other, np.arange(n)])
    column = np.concatenate([block.other, block.one, np.arange(n)])
    data = np.concatenate([leaves_other, leaves_one, -out])
    flow = SPARSE.csc_array((data, (row, column)), shape=(n, n))
    rest = SOLVERS.spsolve(flow[1:, 1:], -flow[1:, :1].toarray().ravel())
    pi = np.concatenate([[1.0], rest])
    return pi / pi.sum()


def rank_centrality(
    votes: Votes,
    completions: Completions | None = None,
    *,
    smoothing: float = 1.0,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    estimator: str = "rank_centrality",
) -> tuple[Strengths, Scores]:
    """Estimate strengths by a random walk from each completion to those preferred to it.

    The walk goes from i to j at the share of votes that prefer j,

        (w_ji + smoothing) / (w_ij + w_ji + 2 smoothing)

    and a strength is the logarithm of how often it is there in the long run. Votes on each two
    compared count together however many they are, so one pair with many votes does not outweigh
    others. A tie is half a vote for each. Unscored votes are left out.

    - `strengths`: ln pi on the scale of Bradley-Terry's theta, of mean 0 over the completions that
      votes connect; those that no votes connect have no common scale. There is no `stderr`.
    - `scores`: for each compared two `preference`, pi_a / (pi_a + pi_b), in
      [0, 1], of the smaller completion_id, without `stderr`.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `smoothing`: votes for each side that are added to each two compared; 0 or above.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` with smoothing 0 where some completions never lose to others;
    `RecipeError` for a criterion without votes, a weight not above 0 or a smoothing below 0;
    `TableError` where the prompt of a completion cannot be found.
    """
    if not 0 <= smoothing < float("inf"):
        raise RecipeError(
            f"aggregate.{estimator}: smoothing is {smoothing}; give 0 or a number above"
        )
    pairs = tally(votes, criteria, weights)
    ids = pl.concat([pairs["completion_a"], pairs["completion_b"]]).unique().sort()
    one, other = (_graph.numbers(pairs[side], ids) for side in ("completion_a", "completion_b"))
    wins, losses = pairs["wins"].to_numpy(), pairs["losses"].to_numpy()
    theta, _ = fit_rank_centrality(one, other, wins, losses, n_items=len(ids), smoothing=smoothing)
    none = pl.lit(None, pl.Float64)
    strengths = pl.DataFrame(
        {"completion_id": ids, "strength": theta},
        schema_overrides={"completion_id": pl.String},
    ).with_columns(stderr=none)
    scored = pairs.with_columns(value=expit(theta[one] - theta[other]), stderr=none)
    return (
        with_prompts(strengths, votes, completions, estimator),
        preferences(scored, estimator),
    )
