"""The posterior of weights of differences, with a Laplace prior.

    P(chosen preferred) = sigmoid(sum_i alpha_i x_ui),   alpha_i ~ Laplace(0, scale)

The posterior is drawn from, in two steps. The log-likelihood's quadratic expansion makes it that of
the Bayesian lasso, whose Gibbs sampler draws alpha from a normal and 1 / tau_i^2 from an inverse
Gaussian distribution; the draws are then weighted by likelihood over expansion, so that they are of
the model above.

Source: Park and Casella 2008, "The Bayesian Lasso".
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from prefdata.explain._predict import fit_weights

Floats = NDArray[np.float64]
SPECIAL: Any = special
LINALG: Any = np.linalg
CHAINS, WARM_UP, DRAWS = 80, 40, 80
# Numbers held at once.
BLOCK = 1 << 22


def fit_posterior(x: Floats, scale: float, seed: int = 0) -> tuple[Floats, float]:
    """Posterior mean, standard deviation, 2.5 % and 97.5 % quantile of each weight: (4, features).

    x is of the chosen less the rejected completion. Also how many of the draws are effective after
    weighting, as a share.
    """
    about = fit_weights(x, np.ones((len(x), 1)), 1 / (2 * scale**2))[:, 0]
    drawn, weight = _draws(x, about, scale, seed)
    mean = weight @ drawn
    spread = np.sqrt(weight @ (drawn - mean) ** 2)
    order = np.argsort(drawn, axis=0)
    below = np.cumsum(weight[order], axis=0)
    ordered = np.take_along_axis(drawn, order, 0)
    low, high = (
        np.array([ordered[np.searchsorted(c, q), i] for i, c in enumerate(below.T)])
        for q in (0.025, 0.975)
    )
    return np.stack([mean, spread, low, high]), 1 / float((weight**2).sum()) / len(weight)


def _draws(x: Floats, about: Floats, scale: float, seed: int) -> tuple[Floats, Floats]:
    """Draws under the expansion at `about`, and their weights: (draws, features), (draws,)."""
    random = np.random.default_rng(seed)
    n_features = x.shape[1]
    p = SPECIAL.expit(x @ about)
    gradient = x.T @ (1 - p)
    inside = (x * (p * (1 - p))[:, None]).T @ x
    toward = gradient + inside @ about
    at: NDArray[np.int64] = np.arange(n_features, dtype=np.int64)
    alpha: Floats = np.tile(about, (CHAINS, 1))
    kept: list[Floats] = []
    for step in range(WARM_UP + DRAWS):
        size = np.maximum(np.abs(alpha), 1e-8)
        precision = np.broadcast_to(inside, (CHAINS, n_features, n_features)).copy()
        precision[:, at, at] += random.wald(1 / (scale * size), scale**-2)
        root: Floats = LINALG.cholesky(precision)
        # With precision L L': its inverse times `toward`, and noise of covariance that inverse.
        half: Floats = LINALG.solve(root, np.broadcast_to(toward[:, None], (*alpha.shape, 1)))
        noise = random.standard_normal((*alpha.shape, 1))
        alpha = LINALG.solve(root.transpose(0, 2, 1), half + noise)[..., 0]
        if step >= WARM_UP:
            kept.append(alpha)
    drawn = np.concatenate(kept)
    away = drawn - about
    excess = -(away @ gradient) + ((away @ inside) * away).sum(1) / 2
    at_once = max(1, BLOCK // len(drawn))
    for start in range(0, len(x), at_once):
        excess += SPECIAL.log_expit(x[start : start + at_once] @ drawn.T).sum(0)
    weight = np.exp(excess - excess.max())
    return drawn, weight / weight.sum()
