"""What the votes of `aggregate.reliability` share: with votes of the same annotator, and others."""

from typing import Any

import numpy as np
from scipy import sparse

from prefdata.aggregate._reliability_grid import Evidence, Floats, Ints, cell_means
from prefdata.aggregate._reliability_model import PRIOR_SLOPE, Fit, pair_posteriors

SPARSE: Any = sparse

# Seen on so many comparisons, a unit's own correlation counts as much as that of all units.
FEW = 10
# A correlation between 0.95 and 1 says no more about where a search should start.
MOST = 0.95
# Full tables of so many times the numbers of sparse ones are multiplied faster.
FULL = 16
# A vote that is surer than this is no more of a surprise where it fails.
LEAST_CHANCE = 0.02


def crossed(one: Any, other: Any) -> Any:
    """The transpose of one sparse table times another, as full ones where these are little more."""
    if one.shape[0] * one.shape[1] <= FULL * one.nnz:
        return one.toarray().T @ other.toarray()
    return (one.T @ other).tocsr()


def repeatability(seen: Evidence) -> Floats:
    """The correlation of a unit's own votes on one pair, its liking of the first place removed;
    drawn to that of all units where it was seen on few, NaN of units that never voted twice."""
    signed = 2 * seen.y - 1
    place = seen.effects[:, 0]
    shown = np.bincount(seen.unit, np.abs(place), seen.n_units)
    liking = np.bincount(seen.unit, signed * place, seen.n_units) / np.maximum(shown, 1)
    z = signed - liking[seen.unit] * place
    total, squares = (np.add.reduceat(values, seen.cells) for values in (z, z * z))
    many = seen.cell_sizes > 1
    unit, others = seen.unit[seen.cells[many]], seen.cell_sizes[many] - 1
    together = np.bincount(unit, (total**2 - squares)[many], seen.n_units)
    apart = np.bincount(unit, others * squares[many], seen.n_units)
    n = np.bincount(unit, minlength=seen.n_units)
    raw = np.divide(together, apart, out=np.zeros(seen.n_units), where=apart > 0)
    common = float((n * raw).sum() / max(n.sum(), 1))
    return np.where(n > 0, np.clip((n * raw + FEW * common) / (n + FEW), 0, 1), np.nan)


def first_guess(seen: Evidence, repeat: Floats) -> Floats:
    """Where to look first for each discrimination, as there can be several optima.

    It is the one with which a unit would repeat itself as it does if all that it repeats were about
    the truth; where it voted on pairs with a gold vote, the one that would agree with gold as much.
    """
    known = np.minimum(repeat, MOST)
    found = np.where(np.isnan(repeat), PRIOR_SLOPE, np.sqrt(known / (1 - known)))
    gold = seen.gold[seen.unit]
    truth = np.bincount(seen.pair[gold], 2 * seen.y[gold] - 1, seen.n_pairs)
    checked = ~gold & (truth[seen.pair] != 0)
    agreed = np.where(checked, (2 * seen.y - 1) * np.sign(truth[seen.pair]), 0.0)
    told = checked[seen.cells]
    of_cell = (np.add.reduceat(agreed, seen.cells) / seen.cell_sizes)[told]
    unit = seen.unit[seen.cells[told]]
    n = np.bincount(unit, minlength=seen.n_units)
    mean = np.bincount(unit, of_cell, seen.n_units) / np.maximum(n, 1)
    mean = np.clip(mean, -MOST, MOST)
    return (n * mean / np.sqrt(1 - mean**2) + FEW * found) / (n + FEW)


def shared_error(seen: Evidence, fit: Fit) -> tuple[float, Floats]:
    """The root mean square correlation of two units' residuals, and each pair's design effect.

    The effect is 1 + rho ((sum w)^2 - sum w^2) / sum w^2, where w is what the vote of a unit moves
    a difference by, its weight times its discrimination (Kish, 1965). Expected under the posterior
    of a pair, products of residuals have mean 0 if the model holds; chance is taken off.
    """
    made: list[list[Floats]] = []
    pairs: list[Ints] = []
    units: list[Ints] = []
    weights: list[Floats] = []
    for found in pair_posteriors(seen, fit):
        block = found.block
        # Beside the mean, two directions in which a residual moves as the pair's d and s do.
        d = (found.grid.d - found.mean[:, None]) / np.sqrt(found.variance)[:, None]
        s = found.grid.s * np.ones_like(d)
        s = s - (found.weight * s).sum(1, keepdims=True)
        s = s - (found.weight * s * d).sum(1, keepdims=True) * d
        s = s / np.sqrt(np.maximum((found.weight * s * s).sum(1, keepdims=True), 1e-12))
        chance = found.expected(block.asked @ (found.p * (1 - found.p)))
        residual = found.expected(found.left(np.ones(len(block.unit))))
        residual = residual / np.sqrt(np.maximum(chance, LEAST_CHANCE))
        parts = [cell_means(found, found.weight * x, residual[None])[0] for x in (1.0, d, s)]
        unit = block.of[block.cell_pattern]
        kept = ~seen.gold[unit] & (block.cell_weight > 0)
        made.append([x[kept] for x in parts])
        pairs.append(block.cell_pair[kept])
        units.append(unit[kept])
        weights.append(block.cell_weight[kept])
    if not made or not sum(map(len, units)):
        return 0.0, np.ones(seen.n_pairs)
    pair, unit, weight = np.concatenate(pairs), np.concatenate(units), np.concatenate(weights)
    parts = [np.concatenate(each) for each in zip(*made, strict=True)]
    moves = weight * np.abs(fit.state.coefficients[unit, 0])
    rho = _mean_correlation(seen, pair, unit, moves, parts)
    sums = np.bincount(pair, moves, seen.n_pairs)
    squares = np.bincount(pair, moves**2, seen.n_pairs)
    more = np.divide(sums**2, squares, out=np.ones(seen.n_pairs), where=squares > 0) - 1
    return rho, 1 + rho * np.maximum(more, 0)


def _mean_correlation(
    seen: Evidence, pair: Ints, unit: Ints, moves: Floats, parts: list[Floats]
) -> float:
    """The root mean square of each two units' correlation, by one step from 0 (Rao, 1948): the sum
    of their products over the sum of their squares, of which chance makes one over that sum."""

    def gram(values: Floats) -> Any:
        table = SPARSE.csr_array((values, (pair, unit)), shape=(seen.n_pairs, seen.n_units))
        return crossed(table, table)

    common = SPARSE.coo_array(gram(np.ones(len(pair))))
    i, j = common.coords
    kept = (i < j) & (common.data > 1)
    i, j = i[kept], j[kept]
    if not len(i):
        return 0.0
    slope, size = np.zeros(len(i)), np.zeros(len(i))
    for a, one in enumerate(parts):
        slope += np.asarray(gram(one)[i, j]).ravel()
        for b, other in enumerate(parts[a:], a):
            size += (1 + (a != b)) * np.asarray(gram(one * other)[i, j]).ravel()
    level = np.bincount(unit, moves, seen.n_units) / np.maximum(
        np.bincount(unit, None, seen.n_units), 1
    )
    # rho^2 of each two is slope^2 / size^2 - 1 / size, and counts as much as its size. Chance makes
    # slope^2 / size 1 with variance 2; what is not clear of it is none.
    worth = level[i] * level[j]
    known = size > 0
    squared = np.divide(slope**2, size, out=np.zeros(len(i)), where=known) - known
    more, chance = (worth * squared).sum(), np.sqrt(2 * (worth**2).sum())
    return float(np.sqrt(min(1.0, more / (worth * size).sum()))) if more > 2 * chance else 0.0
