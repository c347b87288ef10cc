"""What `aggregate.reliability` computes on arrays: the fit, and how far its votes share errors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse import linalg as sparse_linalg
from scipy.special import expit, ndtr

from prefdata.errors import ConvergenceError

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

# These modules come without types.
GRAPHS: Any = csgraph
SPARSE: Any = sparse
SOLVERS: Any = sparse_linalg

# Strengths and the effects of annotators are of the order of 1 on the log scale; before any vote an
# annotator is taken to see a difference of 1 as odds of e.
PRIOR_SLOPE = 1.0
# A gold vote is as many votes, each of this discrimination, as leave no doubt.
GOLD_VOTES, GOLD_SLOPE = 20.0, 2.0
# Matrices of components up to this size are inverted, in stacks of at most so many numbers.
LARGE, STACK = 2000, 1 << 20
# Until it was seen on so many comparisons, a repeatability is mostly that of all annotators.
FEW = 10
# A change of parameters from which on the bound has done its work.
NEAR = 0.02
LEAST_REPEATABILITY = 0.02


@dataclass(frozen=True)
class Evidence:
    """Votes as arrays. `pair_one` and `pair_other` are the items of each pair; `pair` and `unit`
    (who voted, on which criterion) of each vote; `y` its preference for the first item; `effects`
    (votes, columns) what else may have moved it, positive where it favours the first item;
    `weight` what it counts, `worth` of that what is due to
    the unit; `gold` which units are the truth."""

    pair_one: Ints
    pair_other: Ints
    n_items: int
    pair: Ints
    unit: Ints
    n_units: int
    y: Floats
    effects: Floats
    weight: Floats
    worth: Floats
    gold: NDArray[np.bool_]

    @property
    def n_pairs(self) -> int:
        return len(self.pair_one)


@dataclass(frozen=True)
class Fit:
    """`coefficients` (units, 1 + columns): the discrimination, then the effects. `mean` and
    `variance` of the difference of each pair, `strength` and `strength_variance` of each item."""

    coefficients: Floats
    errors: Floats
    strength: Floats
    strength_variance: Floats
    mean: Floats
    variance: Floats
    iterations: int


@dataclass(frozen=True)
class _State:
    coefficients: Floats
    mean: Floats
    variance: Floats


@dataclass(frozen=True)
class _Cells:
    """The distinct (pair, unit) of votes, and which of them each vote is in."""

    pair: Ints
    unit: Ints
    count: Ints
    of_vote: Ints

    @classmethod
    def of(cls, pair: Ints, unit: Ints, n_units: int) -> "_Cells":
        code, inverse, count = np.unique(
            pair * n_units + unit, return_inverse=True, return_counts=True
        )
        return cls(code // n_units, code % n_units, count, inverse)

    def sum(self, values: Floats) -> Floats:
        return _count(self.of_vote, values, len(self.pair))


def repeatability(seen: Evidence) -> Floats:
    """The correlation of a unit's own votes on one pair, its liking of the first place removed.

    Units that never vote twice on a pair are taken to be as repeatable as the others are, and all
    as 1 where nobody repeats.
    """
    signed = 2 * seen.y - 1
    place = seen.effects[:, 0]
    shown = np.bincount(seen.unit, np.abs(place), seen.n_units)
    liking = np.bincount(seen.unit, signed * place, seen.n_units) / np.maximum(shown, 1)
    z = signed - liking[seen.unit] * place
    own = _Cells.of(seen.pair, seen.unit, seen.n_units)
    total, squares = own.sum(z), own.sum(z * z)
    many = own.count > 1
    together = np.bincount(own.unit[many], (total**2 - squares)[many], seen.n_units)
    apart = np.bincount(own.unit[many], ((own.count - 1) * squares)[many], seen.n_units)
    n = np.bincount(own.unit[many], minlength=seen.n_units)
    known = n > 0
    if not known.any() or apart.sum() <= 0:
        return np.ones(seen.n_units)
    raw = np.divide(together, apart, out=np.zeros(seen.n_units), where=apart > 0)
    common = float((n * raw).sum() / n.sum())
    return np.clip((n * raw + FEW * common) / (n + FEW), LEAST_REPEATABILITY, 1.0)


def validity(seen: Evidence, repeat: Floats) -> Floats:
    """What a vote counts: the share of its variance that is about the truth.

    Repeatability is the most that this can be (Spearman, 1904). Where a unit voted on pairs with a
    gold vote, the square of its correlation with gold says it outright, and takes the place of
    repeatability in proportion to the number of those pairs.
    """
    gold = seen.gold[seen.unit]
    truth = np.bincount(seen.pair[gold], 2 * seen.y[gold] - 1, seen.n_pairs)
    told = np.bincount(seen.pair[gold], minlength=seen.n_pairs)
    truth = truth / np.maximum(told, 1)
    checked = ~gold & (truth[seen.pair] != 0)
    cells = _Cells.of(seen.pair[checked], seen.unit[checked], seen.n_units)
    agreed = cells.sum(((2 * seen.y - 1) * truth[seen.pair])[checked]) / cells.count
    n = np.bincount(cells.unit, minlength=seen.n_units)
    raw = np.bincount(cells.unit, agreed, seen.n_units) / np.maximum(n, 1)
    squared = np.clip(raw, 0, 1) ** 2
    return np.clip((n * squared + FEW * repeat) / (n + FEW), LEAST_REPEATABILITY, 1.0)


def fit_reliability(seen: Evidence, *, max_iterations: int = 500, tolerance: float = 1e-4) -> Fit:
    """Fit discriminations, effects and strengths by variational EM, differences being normal.

    The bound of Jaakkola and Jordan (2000), safe and too flat, leads near the optimum; expectations
    of the model itself end there. Extrapolated (Varadhan and Roland, 2008) where that leads nearer.
    Done when a step moves no parameter by more than `tolerance`; raises `ConvergenceError` after
    `max_iterations` steps.
    """
    solver = _Solver(seen)
    columns = 1 + seen.effects.shape[1]
    start = np.zeros((seen.n_units, columns))
    start[:, 0] = PRIOR_SLOPE
    start[seen.gold, 0] = GOLD_SLOPE
    state = _State(start, np.zeros(seen.n_pairs), np.ones(seen.n_pairs))
    steps, change, near = 0, np.inf, False
    while steps < max_iterations:
        one = _step(seen, solver, state, near)
        two = _step(seen, solver, one, near)
        steps += 2
        change = _distance(two, one)
        if near and change <= tolerance:
            return _finished(seen, solver, two, steps)
        near = near or change <= NEAR
        ahead = _extrapolate(state, one, two)
        beyond = _step(seen, solver, ahead, near)
        steps += 1
        state = beyond if _distance(beyond, ahead) <= 2 * change else two
    raise ConvergenceError(
        f"aggregate.reliability did not converge: a step still moves a parameter by {change:.3g} "
        f"after {steps} iterations; allow more iterations"
    )


def tempered(seen: Evidence, fit: Fit, effect: Floats, *, steps: int = 200) -> Fit:
    """The strengths under the fitted coefficients, the votes of a pair counting 1 / `effect`."""
    weight = np.where(seen.gold[seen.unit], seen.weight, seen.weight / effect[seen.pair])
    lighter = replace(seen, weight=weight)
    solver = _Solver(lighter)
    state = _State(fit.coefficients, fit.mean, fit.variance)
    for _ in range(steps):
        mean, variance = solver.difference(*_pull(lighter, state, True))
        moved = float(np.abs(mean - state.mean).max(initial=0.0))
        state = _State(fit.coefficients, mean, variance)
        if moved < 1e-6:
            break
    strength, spread = solver.items(*_pull(lighter, state, True))
    return replace(
        fit, strength=strength, strength_variance=spread, mean=state.mean, variance=state.variance
    )


def shared_error(seen: Evidence, fit: Fit) -> tuple[float, Floats]:
    """The root mean square correlation of two units' residuals, and each pair's design effect.

    The effect is 1 + rho ((sum w)^2 - sum w^2) / sum w^2 over the weights w of the units that voted
    on a pair (Kish, 1965), times the same of a unit's own votes on it, with their own correlation.
    What chance and the fit itself put into residuals is taken off: a fit that follows the votes
    leaves them negatively correlated.
    """
    used = ~seen.gold[seen.unit]
    unit, pair, weight = seen.unit[used], seen.pair[used], seen.weight[used]
    effects = np.ones(seen.n_pairs)
    if not len(unit):
        return 0.0, effects
    linear = _linear(seen, fit.coefficients, fit.mean)[used]
    p = expit(linear)
    root = np.sqrt(np.maximum(p * (1 - p), 1e-6))
    residual = np.clip((seen.y[used] - p) / root, -4, 4)
    slope = fit.coefficients[unit, 0] * root
    cells = _Cells.of(pair, unit, seen.n_units)
    r, s = cells.sum(residual), cells.sum(slope)
    own_weight = cells.sum(weight)
    v = fit.variance[cells.pair]
    total = np.bincount(cells.pair, cells.sum(weight**2 * slope**2), seen.n_pairs)[cells.pair]
    mean_weight = own_weight / cells.count

    def gram(left: Floats, right: Floats) -> Any:
        shape = (seen.n_pairs, seen.n_units)
        one = SPARSE.csr_array((left, (cells.pair, cells.unit)), shape=shape)
        other = SPARSE.csr_array((right, (cells.pair, cells.unit)), shape=shape)
        return one.T @ other

    crossed = gram(s * v, s * mean_weight)
    own = gram(s * v * v * total, s)
    together = (gram(r, r) + crossed + crossed.T - own).tocoo()
    own_rho = _own_correlation(cells, residual, slope, v * mean_weight, v * v * total)
    i, j = together.coords
    off = i < j
    i, j, together = i[off], j[off], together.data[off]
    size = np.sqrt(np.bincount(cells.unit, r * r, seen.n_units))
    # A sparse matrix cannot be asked for no entries.
    common: Any = gram(np.ones(len(r)), np.ones(len(r))).tocsr()
    n = np.asarray(common[i, j]).ravel() if len(i) else np.zeros(0)
    votes = np.sqrt(np.bincount(cells.unit, minlength=seen.n_units))
    enough = (n > 1) & (size[i] > 0) & (size[j] > 0)
    rho = 0.0
    if enough.any():
        i, j, together, n = i[enough], j[enough], together[enough], n[enough]
        expected = size[i] / votes[i] * size[j] / votes[j] * n
        z = np.clip(together / expected, -1, 1)
        level = np.bincount(cells.unit, mean_weight, seen.n_units) / np.maximum(votes, 1) ** 2
        worth = level[i] * level[j] * n
        rho = float(np.sqrt(max(0.0, (worth * (z * z - 1 / n)).sum() / worth.sum())))
    sums = np.bincount(cells.pair, own_weight, seen.n_pairs)
    squares = np.bincount(cells.pair, own_weight**2, seen.n_pairs)
    more = np.divide(sums**2, squares, out=np.ones(seen.n_pairs), where=squares > 0) - 1
    repeated = np.bincount(cells.pair, own_weight * (cells.count - 1), seen.n_pairs)
    votes_each = np.divide(repeated, sums, out=np.zeros(seen.n_pairs), where=sums > 0)
    return rho, (effects + rho * more) * (1 + own_rho * votes_each)


def _own_correlation(
    cells: _Cells, residual: Floats, slope: Floats, crossed: Floats, own: Floats
) -> float:
    """The correlation of the residuals of a unit's own votes on one pair, at least 0."""
    total, squares = cells.sum(residual), cells.sum(residual**2)
    slopes, slopes_squared = cells.sum(slope), cells.sum(slope**2)
    of_fit = (2 * crossed - own) * (slopes**2 - slopes_squared)
    apart = ((cells.count - 1) * squares).sum()
    together = (total**2 - squares + of_fit)[cells.count > 1].sum()
    return float(np.clip(together / apart, 0, 1)) if apart > 0 else 0.0


def probability(seen: Evidence, fit: Fit) -> tuple[Floats, Floats]:
    """P(the first item of each pair is the stronger), and its error from the discriminations'."""
    spread = np.sqrt(fit.variance)
    z = fit.mean / spread
    state = _State(fit.coefficients, fit.mean, fit.variance)
    _, p, curve = _expected(seen, state)
    toward = fit.coefficients[seen.unit, 0] * fit.mean[seen.pair]
    moved = seen.weight * (seen.y - p - curve * toward)
    by_unit = _Cells.of(seen.pair, seen.unit, seen.n_units)
    moved = by_unit.sum(moved) * fit.errors[by_unit.unit, 0] * spread[by_unit.pair]
    variance = np.bincount(by_unit.pair, moved**2, seen.n_pairs)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return ndtr(z), density * np.sqrt(variance)


def _count(places: Ints, values: Floats, n: int) -> Floats:
    return np.bincount(places, values, n).astype(np.float64, copy=False)


def _linear(seen: Evidence, coefficients: Floats, mean: Floats) -> Floats:
    """The log-odds of each vote at the mean difference."""
    own = coefficients[seen.unit]
    return own[:, 0] * mean[seen.pair] + np.einsum("ij,ij->i", own[:, 1:], seen.effects)


def _expected(seen: Evidence, state: _State) -> tuple[Floats, Floats, Floats]:
    """Of each vote's log-odds under the present normal difference: their mean, the expected
    probability sigmoid(odds), and its derivative by the mean (MacKay, 1992)."""
    spread = state.coefficients[seen.unit, 0] ** 2 * state.variance[seen.pair]
    linear = _linear(seen, state.coefficients, state.mean)
    narrow = 1 / np.sqrt(1 + np.pi / 8 * spread)
    p = expit(narrow * linear)
    return linear, p, narrow * p * (1 - p)


def _bounded(seen: Evidence, state: _State) -> tuple[Floats, Floats, Floats]:
    """The same under the bound of Jaakkola and Jordan, with which no step goes too far."""
    spread = state.coefficients[seen.unit, 0] ** 2 * state.variance[seen.pair]
    linear = _linear(seen, state.coefficients, state.mean)
    size = np.sqrt(np.maximum(linear * linear + spread, 1e-12))
    curve = np.tanh(size / 2) / (2 * size)
    return linear, 0.5 + curve * linear, curve


def _pull(seen: Evidence, state: _State, near: bool) -> tuple[Floats, Floats, Floats]:
    """What the votes on each pair add to the precision of its difference; and a precision, with
    what it pulls the mean to, by which a step ascends."""
    _, p, curve = (_expected if near else _bounded)(seen, state)
    # The bound is nowhere less curved than what is expected, so that its step does not overshoot.
    firm = _bounded(seen, state)[2] if near else curve
    slope = state.coefficients[seen.unit, 0]
    square = seen.weight * slope**2
    toward = seen.weight * slope * (seen.y - p + firm * slope * state.mean[seen.pair])
    return (
        _count(seen.pair, square * curve, seen.n_pairs),
        _count(seen.pair, square * firm, seen.n_pairs) if near else np.zeros(0),
        _count(seen.pair, toward, seen.n_pairs),
    )


def _step(seen: Evidence, solver: "_Solver", state: _State, near: bool) -> _State:
    """New differences, then one Newton step of each unit's coefficients."""
    mean, variance = solver.difference(*_pull(seen, state, near))
    state = _State(state.coefficients, mean, variance)
    _, p, curve = (_expected if near else _bounded)(seen, state)
    left, bend = seen.weight * (seen.y - p), seen.weight * curve
    firm = seen.weight * _bounded(seen, state)[2] if near else bend
    matrix = _moments(seen, state, firm)
    columns = [mean[seen.pair], *seen.effects.T]
    slope = np.stack([_count(seen.unit, left * c, seen.n_units) for c in columns], 1)
    # By Stein's lemma E[sigmoid(odds) difference] has this second part.
    slope[:, 0] -= _count(
        seen.unit,
        bend * state.variance[seen.pair] * state.coefficients[seen.unit, 0],
        seen.n_units,
    )
    prior = _prior(seen, len(columns))
    slope -= prior * state.coefficients
    slope[:, 0] += PRIOR_SLOPE
    matrix += prior[:, :, None] * np.eye(len(columns))
    found = state.coefficients + np.linalg.solve(matrix, slope[:, :, None])[:, :, 0]
    found[seen.gold] = state.coefficients[seen.gold]
    return _State(found, mean, variance)


def _prior(seen: Evidence, n: int) -> Floats:
    """The precision of each coefficient's prior, (units, n).

    Votes that count little for strengths show what moves them as well as any, so the prior of an
    effect counts as little as the votes do. That of a discrimination is for all the same.
    """
    prior = np.ones((seen.n_units, n))
    prior[:, 1:] = seen.worth[:, None]
    return prior


def _moments(seen: Evidence, state: _State, weight: Floats) -> Floats:
    """Each unit's expected sum of products of the difference and the effects."""
    mean = state.mean[seen.pair]
    columns = [mean, *seen.effects.T]
    k = len(columns)
    matrix = np.zeros((seen.n_units, k, k))
    for i in range(k):
        for j in range(i, k):
            product = columns[i] * columns[j]
            if i == j == 0:
                product = product + state.variance[seen.pair]
            matrix[:, i, j] = matrix[:, j, i] = np.bincount(
                seen.unit, weight * product, seen.n_units
            )
    return matrix


def _finished(seen: Evidence, solver: "_Solver", state: _State, steps: int) -> Fit:
    strength, spread = solver.items(*_pull(seen, state, True))
    _, p, curve = _expected(seen, state)
    prior = _prior(seen, state.coefficients.shape[1])[:, :, None]
    eye = np.eye(prior.shape[1])
    seen_of_it = _moments(seen, state, seen.weight * curve)
    bread = np.linalg.inv(seen_of_it - _missing(seen, state, p, curve) + prior * eye)
    meat = _moments(seen, state, seen.weight**2 * curve) + prior**2 * eye
    errors = np.sqrt(np.einsum("uij,ujk,uki->ui", bread, meat, bread))
    errors[seen.gold] = 0
    return Fit(state.coefficients, errors, strength, spread, state.mean, state.variance, steps)


def _missing(seen: Evidence, state: _State, p: Floats, curve: Floats) -> Floats:
    """What a unit's information loses as differences are not known (Louis, 1982)."""
    slope = state.coefficients[seen.unit, 0]
    moved = [seen.y - p - curve * slope * state.mean[seen.pair]]
    moved += [-curve * slope * column for column in seen.effects.T]
    scale = seen.weight**2 * state.variance[seen.pair]
    rows = [[_count(seen.unit, scale * x * y, seen.n_units) for x in moved] for y in moved]
    return np.moveaxis(np.array(rows), 2, 0)


def _distance(one: _State, other: _State) -> float:
    """The most that a coefficient moved, or a tenth of the most that a difference did: of those
    there are many more, and each is known much worse."""
    moved = np.abs(one.coefficients - other.coefficients).max(initial=0.0)
    return float(max(moved, np.abs(one.mean - other.mean).max(initial=0.0) / 10))


def _extrapolate(zero: _State, one: _State, two: _State) -> _State:
    def flat(state: _State) -> Floats:
        return np.concatenate([state.coefficients.ravel(), state.mean, np.log(state.variance)])

    x, y, z = flat(zero), flat(one), flat(two)
    step, bend = y - x, z - 2 * y + x
    size = float(np.sqrt(bend @ bend))
    # Below 1 it halves a swing to and fro, above it lengthens small steps.
    length = min(max(float(np.sqrt(step @ step)) / max(size, 1e-300), 0.3), 32.0)
    made = x + 2 * length * step + length**2 * bend
    n, k = zero.coefficients.size, len(zero.mean)
    return _State(
        made[:n].reshape(zero.coefficients.shape),
        made[n : n + k],
        np.exp(np.clip(made[n + k :], -30, 0.7)),
    )


class _Solver:
    """Strengths with a standard normal prior, from what pairs say about differences."""

    def __init__(self, seen: Evidence) -> None:
        self.one, self.other, self.n = seen.pair_one, seen.pair_other, seen.n_items
        edges = (np.ones(len(self.one)), (self.one, self.other))
        graph = SPARSE.coo_array(edges, shape=(self.n, self.n))
        _, component = GRAPHS.connected_components(graph, directed=False)
        self.size = np.bincount(component)[component] if self.n else component
        self.order = np.lexsort((component, self.size))
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(self.n)
        self.blocks = list(self._blocks())

    def _blocks(self) -> Iterator[tuple[int, Ints, Ints]]:
        """Size, items and pairs of components of one size, many to a block."""
        size = self.size[self.order]
        first = self.place[self.one]
        rows = np.argsort(first, kind="stable")
        start = 0
        while start < self.n:
            k = int(size[start])
            same = int(np.searchsorted(size, k, side="right")) - start
            many = min(same, k * max(1, STACK // k**2))
            low, high = np.searchsorted(first[rows], [start, start + many])
            yield k, self.order[start : start + many], rows[low:high]
            start += many

    def difference(self, precision: Floats, firm: Floats, toward: Floats) -> tuple[Floats, Floats]:
        """Means and variances; the means by a step of the firmer precision where there is one."""
        mean, variance = self._difference(precision, toward)
        return (self._difference(firm, toward)[0] if len(firm) else mean), variance

    def _difference(self, precision: Floats, toward: Floats) -> tuple[Floats, Floats]:
        mean, variance = np.empty(len(self.one)), np.empty(len(self.one))
        for k, items, pairs in self.blocks:
            if k == 2:
                variance[pairs] = 1 / (0.5 + precision[pairs])
                mean[pairs] = variance[pairs] * toward[pairs]
                continue
            theta, cover, i, j = self._solve(k, items, pairs, precision, toward)
            mean[pairs] = theta[i] - theta[j]
            if cover is None:
                local = self._diagonal(i, j, precision[pairs], len(items))
                variance[pairs] = 1 / local[i] + 1 / local[j]
            else:
                c, a, b = i // k, i % k, j % k
                variance[pairs] = cover[c, a, a] + cover[c, b, b] - 2 * cover[c, a, b]
        return mean, np.maximum(variance, 1e-12)

    def items(self, precision: Floats, firm: Floats, toward: Floats) -> tuple[Floats, Floats]:
        """Strengths of mean 0 within a component, and their variances; NaN in a large one."""
        strength, spread = np.zeros(self.n), np.full(self.n, np.nan)
        for k, items, pairs in self.blocks:
            theta = self._solve(k, items, pairs, firm if len(firm) else precision, toward)[0]
            cover = self._solve(k, items, pairs, precision, toward)[1]
            table = theta.reshape(-1, k)
            strength[items] = (table - table.mean(1, keepdims=True)).ravel()
            if cover is not None:
                mean = cover.mean(2)
                own = np.einsum("cii->ci", cover) - 2 * mean + mean.mean(1, keepdims=True)
                spread[items] = np.maximum(own, 0).ravel()
        return strength, spread

    def _diagonal(self, i: Ints, j: Ints, precision: Floats, n: int) -> Floats:
        return 1 + _count(i, precision, n) + _count(j, precision, n)

    def _solve(
        self, k: int, items: Ints, pairs: Ints, precision: Floats, toward: Floats
    ) -> tuple[Floats, Floats | None, Ints, Ints]:
        start = self.place[items[0]]
        i, j = self.place[self.one[pairs]] - start, self.place[self.other[pairs]] - start
        n, each = len(items), precision[pairs]
        right = np.bincount(i, toward[pairs], n) - np.bincount(j, toward[pairs], n)
        diagonal = self._diagonal(i, j, each, n)
        if k > LARGE:
            rows, columns = np.r_[i, j, np.arange(n)], np.r_[j, i, np.arange(n)]
            matrix = SPARSE.csr_array((np.r_[-each, -each, diagonal], (rows, columns)))
            scale = SPARSE.diags_array(1 / diagonal)
            return SOLVERS.cg(matrix, right, rtol=1e-8, M=scale)[0], None, i, j
        cells = np.r_[i * k + j % k, j * k + i % k]
        matrix = np.bincount(cells, np.r_[-each, -each], n * k).reshape(-1, k, k)
        np.einsum("cii->ci", matrix)[:] += diagonal.reshape(-1, k)
        cover = np.linalg.inv(matrix)
        theta = np.einsum("cij,cj->ci", cover, right.reshape(-1, k)).ravel()
        return theta, cover, i, j
