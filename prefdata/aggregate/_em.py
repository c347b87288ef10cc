"""Expectation and maximisation where a label depends on the truth and on who gave it.

A model says how an annotator's label depends on the truth, by parameters in logarithms; the rest,
who said what of which item, is the same for all of them. Steps are extrapolated (SQUAREM, Varadhan
and Roland, 2008) where that raises the posterior density, so it rises from step to step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prefdata.aggregate._labels import Floats, Labels
from prefdata.errors import ConvergenceError

# A probability of 0 is kept at this, so that its logarithm is a number.
FLOOR = 1e-12


def log_sum(logs: Floats) -> Floats:
    """log sum exp over the last axis, which stays."""
    top = logs.max(-1, keepdims=True)
    return top + np.log(np.exp(logs - top).sum(-1, keepdims=True))


class Model(Protocol):
    """How labels depend on the truth; parameters are one array."""

    def confusion(self, parameters: Floats) -> Floats:
        """log P(label | truth) of each annotator, as (annotators, classes, labels)."""
        ...

    def estimate(self, counts: Floats, parameters: Floats | None) -> Floats:
        """Parameters under which expected `counts`, shaped alike, are no less likely."""
        ...

    def penalty(self, parameters: Floats) -> float:
        """The logarithm of the prior density, up to a constant."""
        ...


@dataclass(frozen=True)
class Found:
    """The posterior of each item's class, parameters, log P(label | truth) and log P(class).

    `density` is the log posterior density at the start of each step: it never falls.
    `log_likelihood` is that of the labels at the end.
    """

    posterior: Floats
    parameters: Floats
    confusion: Floats
    log_prior: Floats
    log_likelihood: float
    density: list[float]


def maximise(
    labels: Labels,
    model: Model,
    *,
    class_prior: float | None,
    tolerance: float,
    max_iterations: int,
    where: str,
    start: Floats | None = None,
) -> Found:
    """Fit a model by EM from the shares of labels, or from the posterior `start`.

    `class_prior` is the number of labels of each class that is put before the items' classes;
    None takes classes as equally likely. Done when a step moves no item's posterior by more than
    `tolerance`. Raises `ConvergenceError` after `max_iterations` steps.
    """
    n_classes = labels.n_classes
    straight, turned = labels.matrix(False), labels.matrix(True)
    to_straight, to_turned = straight.T.tocsr(), turned.T.tocsr()
    swap = np.arange(n_classes)
    swap[:2] = swap[:2][::-1].copy()  # of one class, itself
    shape = len(labels.annotators), labels.n_labels, n_classes

    def classes(posterior: Floats) -> Floats:
        if class_prior is None:
            return np.full(n_classes, -np.log(n_classes))
        share = posterior.sum(0) + class_prior
        if labels.symmetric:
            share = (share + share[swap]) / 2
        return np.log(np.maximum(share / share.sum(), FLOOR))

    def counts(posterior: Floats) -> Floats:
        found = to_straight @ posterior
        if turned.nnz:
            found = found + to_turned @ posterior[:, swap]
        return found.reshape(shape).transpose(0, 2, 1)

    def expect(confusion: Floats, log_prior: Floats) -> tuple[Floats, float]:
        flat = np.ascontiguousarray(confusion.transpose(0, 2, 1)).reshape(-1, n_classes)
        logits = straight @ flat + log_prior
        if turned.nnz:
            logits = logits + (turned @ flat)[:, swap]
        whole = log_sum(logits)
        return np.exp(logits - whole), float(whole.sum())

    def step(x: Floats) -> tuple[Floats, float, Floats]:
        """The next parameters, the density here and the posterior here."""
        log_prior = x[:n_classes] - log_sum(x[:n_classes])
        parameters = x[n_classes:]
        posterior, likelihood = expect(model.confusion(parameters), log_prior)
        density = likelihood + model.penalty(parameters)
        if class_prior is not None:
            density += class_prior * float(log_prior.sum())
        following = model.estimate(counts(posterior), parameters)
        return np.concatenate([classes(posterior), following]), density, posterior

    begin = labels.shares() if start is None else start
    x = np.concatenate([classes(begin), model.estimate(counts(begin), None)])
    x, path, moved = squarem(step, x, tolerance, max_iterations)
    if moved > tolerance:
        raise ConvergenceError(
            f"{where} did not converge: a step still moves a posterior by {moved:.3g} after "
            f"{max_iterations} iterations; allow more iterations or give a larger prior"
        )
    log_prior = x[:n_classes] - log_sum(x[:n_classes])
    confusion = model.confusion(x[n_classes:])
    posterior, likelihood = expect(confusion, log_prior)
    return Found(posterior, x[n_classes:], confusion, log_prior, likelihood, path)


def squarem(
    step: Callable[[Floats], tuple[Floats, float, Floats]],
    x: Floats,
    tolerance: float,
    max_iterations: int,
) -> tuple[Floats, list[float], float]:
    """Repeat a step that never lowers the density until what it returns last stands still.

    Gives the last point, the density at each point, and by how much the last step moved.
    """
    path: list[float] = []
    one, density, before = step(x)
    moved, taken = float("inf"), 1
    while taken < max_iterations:
        path.append(density)
        two, density_one, after = step(one)
        moved = float(np.abs(after - before).max(initial=0.0))
        taken += 2
        if moved <= tolerance:
            return two, [*path, density_one], moved
        change = one - x
        curve = two - one - change
        bend = float(np.linalg.norm(curve))
        length = max(float(np.linalg.norm(change)) / bend, 1.0) if bend > 0 else 1.0
        far = x + 2 * length * change + length**2 * curve
        beyond, density_far, there = step(far)
        if length > 1 and np.isfinite(density_far) and density_far >= density_one:
            x, one, density, before = far, beyond, density_far, there
        else:
            path.append(density_one)
            x = two
            one, density, before = step(x)
            taken += 1
    return one, path, moved
