"""A second opinion on each label, and how sure it is: a small network under Monte-Carlo dropout.

A network of two hidden layers reads the vectors of prompt, a, b and a - b and gives the log-odds
z(a, b) that a is preferred. It is trained on the votes of annotators that are trusted, in both
orders, and asked T times about every pair, another random tenth of its units silent each time; the
two orders are averaged, z = (z(a, b) - z(b, a)) / 2, so that no side gains by its place. With
p_t = sigmoid(z_t) oriented to the chosen side,

    p = mean p_t,     BALD = H(p) - mean H(p_t)        (nats, in [0, ln 2])

H being the entropy of a yes or no. BALD is what more trusted votes could teach: high where the
passes disagree, low where each is unsure in the same way.

The labels to be checked never train it: an estimator of the same labels agrees with their noise.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import entr, expit

from prefdata import tables
from prefdata.aggregate._annotators import votes_by
from prefdata.errors import RecipeError
from prefdata.estimate._evidence import embed, folds, oriented
from prefdata.stage import Asks, Model
from prefdata.tables import SIDES, Completions, Pairs, Prompts, Scores, Votes

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

HIDDEN = 64
BATCH = 128
RATE, DECAY = 2e-3, 1e-3
# Training stops when what it does not see has not improved for so many epochs.
PATIENCE, MOST_EPOCHS = 4, 60


def mc_dropout(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    votes: Votes,
    *,
    model: Model,
    trusted: str,
    passes: int = 30,
    dropout: float = 0.1,
    n_folds: int = 5,
    seed: int = 0,
) -> Asks[Scores]:
    """Score each pair's `mc_dropout`, P(chosen preferred to rejected), in [0, 1], and its doubt.

    `stderr` of it is the standard deviation over the passes. Also scored: `bald` in [0, ln 2],
    and `mc_agreement`, the share of passes that side with the label. Labels that most passes
    oppose are dropped by `select.label_error` with score = "mc_dropout", above = -0.5.

    A pair is judged by a network that was trained on trusted votes of other prompt groups only.
    Pairs of which a vector is not known have no score; with trusted votes on fewer than two
    groups none has.

    Options:
    - `model`: one that embeds prompts and completions.
    - `trusted`: the annotator whose votes train, or a kind of them as `human:*`.
    - `passes`: stochastic passes, at least 2.
    - `dropout`: the share of hidden units that are silent in a pass; in (0, 1).
    - `n_folds`: parts of which each is judged by a network of the others.
    - `seed`: of folds, weights and silence.

    Raises `RecipeError` for an option out of its range and for a trusted annotator without votes.

    Source: Wang et al. (2024), Uncertainty-Aware Preference Optimization, for estimator and use;
    Gal, Ghahramani (2016), Dropout as a Bayesian Approximation; Houlsby et al. (2011), Bayesian
    Active Learning for Classification and Preference Learning, for BALD.
    """
    if passes < 2 or n_folds < 2 or not 0 < dropout < 1:
        raise RecipeError(
            f"estimate.mc_dropout: passes = {passes}, n_folds = {n_folds}, dropout = {dropout}; "
            "expected at least 2, at least 2, and a share between 0 and 1"
        )
    wanted = oriented(pairs, prompts).with_columns(preference=pl.lit(None, pl.Float64))
    taught = _trusted(votes, prompts, trusted)
    rows = pl.concat([wanted, taught], how="diagonal")
    vectors = yield from embed(_shown(rows, prompts, completions), model)
    rows, x, mirrored = _inputs(rows, vectors)
    z = fit_passes(
        x, mirrored, rows["preference"].to_numpy(),
        (rows["group"].rank("dense").to_numpy() - 1).astype(np.int64),
        passes=passes, dropout=dropout, n_folds=n_folds, seed=seed,
    )  # fmt: skip
    asked = rows.with_row_index("at").filter(pl.col("pair_id").is_not_null())
    if not z.size:
        return Scores(tables.empty("scores"))
    sign = np.where(asked["chose_a"].to_numpy(), 1.0, -1.0)
    return _scores(asked, model, summarise(expit(z[:, asked["at"].to_numpy()] * sign)))


class Opinion(NamedTuple):
    """Over the passes: `mean`, `deviation`, `bald` and the share that agrees with the label."""

    mean: Floats
    deviation: Floats
    bald: Floats
    agreement: Floats


def summarise(p: Floats) -> Opinion:
    """From p, (passes, pairs), to what the passes say together."""
    mean = p.mean(0)
    bald = np.maximum(_entropy(mean) - _entropy(p).mean(0), 0.0)
    return Opinion(mean, p.std(0), bald, (p > 0.5).mean(0))


def _entropy(p: Floats) -> Floats:
    return entr(p) + entr(1 - p)


def fit_passes(
    x: Floats,
    mirrored: Floats,
    preference: Floats,
    groups: Ints,
    *,
    passes: int,
    dropout: float,
    n_folds: int,
    seed: int,
) -> Floats:
    """Log-odds of a over b, (passes, rows), of each row by networks taught by other groups.

    `x` is what a row shows, `mirrored` the same with a and b swapped; `preference` is NaN where a
    row teaches nothing. Empty where fewer than two groups teach.
    """
    teaches = np.isfinite(preference)
    if len(np.unique(groups[teaches])) < 2:
        return np.zeros((0, 0))
    fold = folds(groups, n_folds, seed)
    z = np.zeros((passes, len(x)))
    for part in range(n_folds):
        inside, asked = teaches & (fold != part), fold == part
        draw = np.random.default_rng([seed, part])
        both = np.concatenate([x[inside], mirrored[inside]])
        labels = np.concatenate([preference[inside], 1 - preference[inside]])
        network = fit_network(both, labels, np.tile(groups[inside], 2), dropout, draw)
        for at in range(passes):
            silent = network.silent(draw)
            forth, back = (network.log_odds(each[asked], silent) for each in (x, mirrored))
            z[at, asked] = (forth - back) / 2
    return z


class Network:
    """Two hidden layers of rectified units; `weights` alternates matrices and offsets."""

    def __init__(self, width: int, dropout: float, draw: np.random.Generator) -> None:
        sizes = (width, HIDDEN, HIDDEN, 1)
        self.dropout = dropout
        self.weights: list[Floats] = []
        for one, next_one in pairwise(sizes):
            self.weights += [
                draw.normal(scale=np.sqrt(2 / one), size=(one, next_one)),
                np.zeros(next_one),
            ]

    def silent(self, draw: np.random.Generator, n: int = 1) -> list[Floats]:
        """Which units of both layers speak, and the louder for it."""
        keep = 1 - self.dropout
        return [(draw.random((n, HIDDEN)) < keep) / keep for _ in range(2)]

    def log_odds(self, x: Floats, silent: list[Floats] | None = None) -> Floats:
        return self._layers(x, silent)[-1][:, 0]

    def _layers(self, x: Floats, silent: list[Floats] | None) -> list[Floats]:
        a, first, b, second, c, third = self.weights
        masks = silent or [np.ones(1), np.ones(1)]
        one = np.maximum(x @ a + first, 0) * masks[0]
        two = np.maximum(one @ b + second, 0) * masks[1]
        return [x, one, two, two @ c + third]

    def gradients(self, x: Floats, y: Floats, silent: list[Floats]) -> list[Floats]:
        """Of the mean log loss by each weight."""
        x, one, two, z = self._layers(x, silent)
        back = (expit(z) - y[:, None]) / len(y)
        found: list[Floats] = []
        for below, layer in ((two, 4), (one, 2), (x, 0)):
            found = [below.T @ back, back.sum(0), *found]
            if layer:
                mask = silent[layer // 2 - 1]
                back = (back @ self.weights[layer].T) * mask * (below > 0)
        return found


def fit_network(
    x: Floats, y: Floats, groups: Ints, dropout: float, draw: np.random.Generator
) -> Network:
    """A network trained by Adam, as it was when a tenth of the groups was predicted best."""
    network = Network(x.shape[1], dropout, draw)
    some = draw.permutation(np.unique(groups))
    watched = np.isin(groups, some[: max(1, len(some) // 10)])
    train = np.flatnonzero(~watched) if not watched.all() else np.arange(len(y))
    first, second = ([np.zeros_like(w) for w in network.weights] for _ in range(2))
    best, waited, step, kept = np.inf, 0, 0, network.weights
    for _ in range(MOST_EPOCHS):
        for batch in np.array_split(draw.permutation(train), max(1, len(train) // BATCH)):
            step += 1
            found = network.gradients(x[batch], y[batch], network.silent(draw, len(batch)))
            for at, gradient in enumerate(found):
                first[at] = 0.9 * first[at] + 0.1 * gradient
                second[at] = 0.999 * second[at] + 0.001 * gradient**2
                size = np.sqrt(second[at] / (1 - 0.999**step)) + 1e-8
                change = first[at] / (1 - 0.9**step) / size + DECAY * network.weights[at]
                network.weights[at] = network.weights[at] - RATE * change
        loss = _log_loss(network.log_odds(x[watched]), y[watched])
        waited += 1
        if loss < best:
            best, waited, kept = loss, 0, list(network.weights)
        if waited == PATIENCE:
            break
    network.weights = kept
    return network


def _log_loss(z: Floats, y: Floats) -> float:
    return float((np.logaddexp(0, z) - y * z).mean())


def _trusted(votes: Votes, prompts: Prompts, trusted: str) -> pl.DataFrame:
    """What trusted votes say of each two completions of a prompt: the mean preference."""
    own = votes_by(votes, trusted, "estimate.mc_dropout")
    group = prompts.select("prompt_id", group=pl.coalesce("group", "prompt_id"))
    return (
        own.drop_nulls(["preference", "prompt_id"])
        .sort(*SIDES, "preference")
        .group_by("prompt_id", *SIDES, maintain_order=True)
        .agg(pl.mean("preference"))
        .join(group, on="prompt_id", maintain_order="left")
    )


def _shown(rows: pl.DataFrame, prompts: Prompts, completions: Completions) -> pl.DataFrame:
    """Every conversation that is to be embedded, once: `id, messages`."""
    ids = pl.concat([rows["completion_a"], rows["completion_b"]]).unique()
    own = completions.filter(pl.col("completion_id").is_in(ids.implode()))
    asked = prompts.filter(pl.col("prompt_id").is_in(rows["prompt_id"].unique().implode()))
    parts = [
        own.select(id="completion_id", messages="completion"),
        asked.select(id="prompt_id", messages="prompt"),
    ]
    return pl.concat(parts).sort("id")


def _inputs(rows: pl.DataFrame, vectors: pl.DataFrame) -> tuple[pl.DataFrame, Floats, Floats]:
    """The rows of which all vectors are known, what they show, and that with a and b swapped."""
    table = vectors.drop("id").to_numpy().astype(float)
    places = vectors.select("id").with_row_index("place")
    for column in ("prompt_id", *SIDES):
        named = places.rename({"id": column, "place": f"{column}_at"})
        rows = rows.join(named, on=column, how="inner", maintain_order="left")
    spread = table.std() if table.size else 1.0
    table = (table - (table.mean(0) if table.size else 0.0)) / (spread or 1.0)
    prompt, a, b = (table[rows[f"{each}_at"].to_numpy()] for each in ("prompt_id", *SIDES))
    x = np.concatenate([prompt, a, b, a - b], 1) / np.sqrt(max(table.shape[1], 1)) * 2
    mirrored = np.concatenate([prompt, b, a, b - a], 1) / np.sqrt(max(table.shape[1], 1)) * 2
    return rows, x, mirrored


def _scores(asked: pl.DataFrame, model: Model, opinion: Opinion) -> Scores:
    none = np.full(asked.height, np.nan)
    named = {
        "mc_dropout": (opinion.mean, opinion.deviation),
        "bald": (opinion.bald, none),
        "mc_agreement": (opinion.agreement, none),
    }
    made = [
        asked.select(
            subject_id="pair_id",
            subject=pl.lit("pair"),
            score=pl.lit(name),
            model=pl.lit(model.name),
            value=pl.Series(value),
            stderr=pl.Series(stderr).fill_nan(None),
            request_id=pl.lit(None, pl.String),
        )
        for name, (value, stderr) in named.items()
    ]
    return Scores(pl.concat(made))
