"""How fast votes are aggregated, beside crowd-kit and choix on the same votes in the same run.

    python tests/benchmarks/bench_aggregate.py

100,000 votes on 10,000 pairs by 200 annotators; ours must be no less likely. Then a million votes,
fitted and as a stage from table to tables, and how right both are on public labels with gold. Not a
test: a ratio of two times of one run is all that it says. Bradley-Terry is in
bench_bradley_terry.py.
"""

import os
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from crowdkit.aggregation import GLAD, MACE, DawidSkene, MajorityVote, OneCoinDawidSkene

sys.path.insert(0, str(Path(__file__).parents[2]))
from prefdata.aggregate._labels import Labels
from prefdata.aggregate.dawid_skene import dawid_skene, fit_dawid_skene
from prefdata.aggregate.glad import fit_glad, glad
from prefdata.aggregate.mace import fit_mace, mace
from tests.aggregate.planted import votes_of
from tests.aggregate.test_real_votes import BEST, ours, theirs
from tests.conftest import larger


def world(n_items, n_annotators, each, seed=0):
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 2, n_items)
    right = draw.beta(6, 2, n_annotators)
    item = np.repeat(np.arange(n_items), each)
    annotator = draw.integers(0, n_annotators, len(item))
    label = np.where(draw.random(len(item)) < right[annotator], truth[item], 1 - truth[item])
    names = [f"human:{j:05}" for j in range(n_annotators)]
    none = np.zeros(len(item), bool)
    items = pl.DataFrame({"item": np.arange(n_items)})
    ones = np.ones(len(item))
    return Labels(items, names, item, annotator, label, ones, none, 2, 2, symmetric=False)


def timed(function):
    start = time.perf_counter()
    made = function()
    return made, time.perf_counter() - start


def likelihood(labels, log_prior, log_confusion):
    """Of labels by class shares and P(label | class) of each annotator."""
    of_votes = log_confusion[labels.annotator, :, labels.label]
    total = [np.bincount(labels.item, of_votes[:, k], labels.n_items) for k in range(2)]
    return np.logaddexp.reduce(np.stack(total, 1) + log_prior, axis=1).sum()


def beside_dawid_skene(labels, frame):
    found, ours = timed(
        lambda: fit_dawid_skene(labels, prior=0, right=0, class_prior=0, tolerance=1e-5)
    )
    other, theirs = timed(lambda: DawidSkene(n_iter=100).fit(frame))
    errors = other.errors_[[0, 1]].unstack("label").fillna(1e-12).sort_index()
    errors = errors[[(k, x) for k in range(2) for x in range(2)]].to_numpy().reshape(-1, 2, 2)
    prior = np.log(other.priors_.sort_index().to_numpy())
    reached = likelihood(labels, prior, np.log(np.maximum(errors, 1e-12)))
    report("Dawid-Skene", ours, theirs, found.log_likelihood, reached)


def beside_mace(labels, frame):
    found, ours = timed(lambda: fit_mace(labels)[0])
    other, theirs = timed(lambda: MACE(method="em", n_restarts=1).fit(frame))
    _, workers = pd.factorize(frame["worker"])
    _, names = pd.factorize(frame["label"])
    knows, spam = np.zeros(len(labels.annotators)), np.zeros((len(labels.annotators), 2))
    knows[workers] = other.spamming_[:, 1]
    spam[np.ix_(workers, names)] = other.thetas_
    confusion = knows[:, None, None] * np.eye(2) + ((1 - knows)[:, None] * spam)[:, None, :]
    reached = likelihood(labels, np.log([0.5, 0.5]), np.log(np.maximum(confusion, 1e-12)))
    report("MACE, one of crowd-kit's 10 starts", ours, theirs, found.log_likelihood, reached)


def beside_glad(labels, frame):
    found, ours = timed(lambda: fit_glad(labels))
    other, theirs = timed(lambda: GLAD(n_iter=5).fit(frame))
    alpha, log_beta = (s.sort_index().to_numpy() for s in (other.alphas_, other.betas_))
    z = alpha[labels.annotator] * np.exp(log_beta[labels.item])
    said = labels.label[:, None] == np.arange(2)
    of_votes = np.where(said, -np.logaddexp(0, -z)[:, None], -np.logaddexp(0, z)[:, None])
    total = [np.bincount(labels.item, of_votes[:, k], labels.n_items) for k in range(2)]
    reached = (np.logaddexp.reduce(np.stack(total, 1), axis=1) - np.log(2)).sum()
    reached -= ((alpha - 1) ** 2).sum() / 2 + ((log_beta - 1) ** 2).sum() / 2
    report("GLAD, crowd-kit stopped after 5 of 100 steps", ours, theirs, found.log_density, reached)


def report(name, ours, theirs, here, there):
    print(
        f"{name}: {ours:.3f} s, crowd-kit {theirs:.2f} s, ratio {theirs / ours:.0f}; "
        f"log likelihood {here:.2f} and {there:.2f}"
    )


def a_million():
    million = world(100_000, 2_000, 10)
    found, fitting = timed(lambda: fit_dawid_skene(million))
    votes = votes_of(million.item, million.annotator, 1.0 - million.label)
    for method in (dawid_skene, mace, glad):
        _, seconds = timed(lambda method=method: method(votes))
        print(f"a million votes, aggregate.{method.__name__}: {seconds:.2f} s from table to tables")
    print(f"of which Dawid-Skene's fit {fitting:.2f} s, {len(found.density)} points")


def on_real_labels():
    """Accuracy and seconds of each method on the public labels of `BEST`."""
    for file, best in BEST.items():
        if not (path := larger(f"{file}.parquet")):
            print(f"not at hand: {file} (PREFDATA_TEST_DATA names its folder)")
            continue
        data = pl.read_parquet(path)
        told = {}
        for method in (dawid_skene, mace, glad):
            told[f"prefdata {method.__name__}"] = timed(lambda m=method: ours(m, data))  # noqa: B023
        for method in (MajorityVote(), DawidSkene(), OneCoinDawidSkene(), MACE(), GLAD()):
            name = f"crowd-kit {type(method).__name__}"
            told[name] = timed(lambda m=method: theirs(m, data))  # noqa: B023
        print(f"{file}, {data.height:,} labels; the best that was known {best}")
        for name, (right, seconds) in told.items():
            print(f"    {name}: {right:.4f} in {seconds:.2f} s")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    fit_dawid_skene(world(100, 10, 5))  # so that no side pays for imports
    labels = world(10_000, 200, 10)
    frame = pd.DataFrame({"task": labels.item, "worker": labels.annotator, "label": labels.label})
    beside_dawid_skene(labels, frame)
    beside_mace(labels, frame)
    beside_glad(labels, frame)
    a_million()
    on_real_labels()
    print(f"load at the end {os.getloadavg()[0]:.2f}")
