"""Whether a dataset covers what a policy writes: enough for offline training, or only near home.

On samples y of the policy pi, with mu what gave the dataset and ref the reference model,

    KL(pi | ref) = E_pi[log pi(y) - log ref(y)],      w = pi(y) / mu(y),
    ESS = (sum w)^2 / sum w^2,      C >= max w .

Offline contrastive training needs global coverage, a bounded w for whatever a policy may write;
training with fresh samples and a KL penalty needs it only within a ball of KL around the reference.
All is measured on the policy's own samples: a mean over the dataset's completions would be no KL.
That a w is finite says nothing of completions that the dataset lacks, so support is looked at
itself: a sample is off support where its nearest completion of the dataset, among those of the same
prompt, is farther than 95 % of the dataset's own are from theirs.

Source: Song et al. (2024), The Importance of Online Data: Understanding Preference Fine-tuning via
Coverage (arXiv 2406.01462).
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.estimate._sides import completions_in
from prefdata.measure._likelihoods import averages, by_model, draws, log_ratios, number
from prefdata.measure._means import means
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Measures, Pairs, Prompts, Requests, Samples, Scores

Floats = NDArray[np.floating[Any]]

SCOPE = "all"
# The share of the dataset's own completions that is off its support by definition.
BEYOND = 0.05
# Vectors that are held at once.
AT_ONCE = 4096
NO_SUPPORT = "the dataset has no prompt with two completions: what is near is not known"


def coverage(
    completions: Completions,
    samples: Samples,
    scores: Scores,
    prompts: Prompts | None = None,
    pairs: Pairs | None = None,
    *,
    generator: str,
    reference: str,
    policy: str | None = None,
    behaviour: str | None = None,
    radius: float = 10.0,
    model: Model | None = None,
) -> Asks[Measures]:
    """Measure how far the dataset and the reference cover a policy's samples.

    Reads `logp` of estimate.log_likelihood, of the policy's samples under the models named. The
    subject is the generator; `n` counts its draws.

    - `coverage_kl`: KL(policy | reference), nats a completion, with its interval by prompt groups.
    - `coverage_outside_ball`: the share of prompts where it is above `radius`, in [0, 1].
    - `coverage_log_ratio_max`, `coverage_log_ratio_q95`: of log w, nats; the first is a lower
      bound of the log of the coverage coefficient, whatever it is.
    - `coverage_ess`: ESS as a share of the draws, in (0, 1].
    - `coverage_unsupported`: the share of draws off the dataset's support, in [0, 1]; 0.05 is what
      the dataset itself has. Needs `model`. The dataset is the sides of pairs where there are
      pairs, else what all other generators drew; draws for prompts that it has not are left out,
      as `n` says.
    - `coverage_global`: 0 where the share off support is surely above 0.05, else 1; null where
      support is not known. `coverage_local`: 1 where the KL is at most `radius`, else 0.

    Options:
    - `generator`: whose samples in `samples` are the policy's.
    - `reference`: the reference model, by its name in `scores`.
    - `policy`: the policy's name in `scores`; default that of the generator.
    - `behaviour`: the model that gave the dataset (mu); default the reference.
    - `radius`: of the ball, nats a completion, above 0.
    - `model`: embeds completions, for the support.

    Raises `RecipeError` for a generator without samples or a model without log-probabilities.
    """
    where = "measure.coverage"
    drawn = draws(samples, prompts, generator, where=where)
    known = {
        name: by_model(scores, "logp", name, where=where)
        for name in {policy or generator, reference, behaviour or reference}
    }
    ours = known[policy or generator]
    to_reference = log_ratios(drawn, ours, known[reference])
    to_dataset = log_ratios(drawn, ours, known[behaviour or reference])["log_ratio"].to_numpy()
    made = [averages(to_reference, "log_ratio", "coverage_kl"), _outside(to_reference, radius)]
    n = len(to_dataset)
    if n:
        made += [
            number(
                "coverage_log_ratio_max",
                generator,
                float(to_dataset.max()),
                n,
                "the largest seen: a lower bound",
            ),
            number("coverage_log_ratio_q95", generator, float(np.quantile(to_dataset, 0.95)), n),
            number("coverage_ess", generator, effective_share(to_dataset), n),
        ]
        kl = float(to_reference["log_ratio"].mean())  # pyright: ignore[reportArgumentType]
        said = f"KL {kl:.4g}, radius {radius:g}"
        made.append(number("coverage_local", generator, float(kl <= radius), n, said))
    if model is None:
        note = "support is not known without a model that embeds; a finite ratio does not show it"
        made.append(number("coverage_global", generator, None, drawn.height, note))
    else:
        dataset = _dataset(completions, samples, pairs, generator)
        made += yield from _support(drawn, dataset, completions, model, generator)
    return Measures(pl.concat(made).sort("measure", "subject"))


def effective_share(log_ratio: Floats) -> float:
    """(sum w)^2 / (n sum w^2) from log w, without leaving the range of numbers."""
    w = np.exp(log_ratio - log_ratio.max())
    return float(w.sum() ** 2 / (w**2).sum() / len(w))


def _outside(rows: pl.DataFrame, radius: float) -> pl.DataFrame:
    by_prompt = rows.group_by("subject", "group", "prompt_id").agg(
        out=(pl.col("log_ratio").mean() > radius).cast(pl.Float64)
    )
    return means(by_prompt, "out", "coverage_outside_ball")


def _dataset(
    completions: Completions, samples: Samples, pairs: Pairs | None, generator: str
) -> pl.DataFrame:
    """`completion_id, times`: the dataset's completions and how often each was drawn."""
    others = samples.filter(pl.col("generator") != generator)
    times = others.group_by("completion_id").agg(times=pl.len())
    if pairs is not None and pairs.height:
        whole = completions_in(pairs, completions).select("completion_id")
    else:
        whole = times.select("completion_id")
    whole = whole.join(times, on="completion_id", how="left").with_columns(
        pl.col("times").fill_null(1)
    )
    return whole.join(completions.select("completion_id", "prompt_id"), on="completion_id")


def _support(
    drawn: pl.DataFrame,
    dataset: pl.DataFrame,
    completions: Completions,
    model: Model,
    generator: str,
) -> Asks[list[pl.DataFrame]]:
    wanted = pl.concat([drawn["completion_id"], dataset["completion_id"]]).unique()
    there = completions.filter(pl.col("completion_id").is_in(wanted.implode()))
    # What must be near: prompts of which both the policy and the dataset have something.
    both = set(drawn["prompt_id"]) & set(dataset["prompt_id"])
    there = there.filter(pl.col("prompt_id").is_in(list(both))).sort("prompt_id", "completion_id")
    own: list[pl.DataFrame] = []
    away: list[pl.DataFrame] = []
    for part in _parts(there):
        asked = requests(model, "embedding", part["completion"])
        heard = yield Requests(asked.unique("request_id", maintain_order=True))
        told = (
            part.select("completion_id", "prompt_id")
            .with_columns(asked["request_id"])
            .join(heard, on="request_id", how="left", maintain_order="left")
            .drop_nulls("vector")
            .join(dataset.select("completion_id", "times"), on="completion_id", how="left")
            # A prompt of whose dataset no vector is known has no support to be off.
            .filter(pl.col("times").is_not_null().any().over("prompt_id"))
        )
        for (_,), rows in told.group_by("prompt_id", maintain_order=True):
            near, far = _distances(rows)
            own.append(near)
            away.append(far)
    distances = _repeated(own)
    of_draws = drawn.join(_stacked(away), on="completion_id", maintain_order="left")
    if not len(distances) or of_draws.is_empty():
        nothing = [("coverage_unsupported", 0), ("coverage_global", 0)]
        return [number(name, generator, None, n, NO_SUPPORT) for name, n in nothing]
    edge = float(np.quantile(distances, 1 - BEYOND))
    # Two roundings of one vector are no distance.
    of_draws = of_draws.with_columns(off=(pl.col("away") > edge + 1e-6).cast(pl.Float64))
    found = means(of_draws, "off", "coverage_unsupported")
    row = found.row(0, named=True)
    low = row["value"] if row["low"] is None else row["low"]
    said = f"{row['value']:.3g} of the draws are off the dataset's support"
    return [
        found,
        number("coverage_global", generator, float(low <= BEYOND), of_draws.height, said),
    ]


def _parts(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Whole prompts, about `AT_ONCE` completions together."""
    at = rows.select(pl.int_range(pl.len()).min().over("prompt_id") // AT_ONCE).to_series()
    return rows.with_columns(at=at).partition_by("at", maintain_order=True, include_key=False)


def _distances(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of one prompt: how far each completion of the dataset is from its next, and all from it."""
    vectors = np.array(rows["vector"].to_list(), dtype=float)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    times = rows["times"].fill_null(0).to_numpy()
    there = times > 0
    apart = np.sqrt(np.maximum(2 - 2 * vectors @ vectors[there].T, 0.0))
    away = rows.select("completion_id", away=pl.Series(apart.min(1)))
    among = apart[there].copy()
    # Drawn twice, it is its own neighbour.
    np.fill_diagonal(among, np.where(times[there] > 1, 0.0, np.inf))
    near = pl.DataFrame({"near": among.min(1), "times": times[there]})
    return near.filter(pl.col("near").is_finite()), away


def _repeated(own: list[pl.DataFrame]) -> Floats:
    if not own:
        return np.empty(0)
    rows = pl.concat(own)
    return np.repeat(rows["near"].to_numpy(), rows["times"].to_numpy())


def _stacked(away: list[pl.DataFrame]) -> pl.DataFrame:
    columns = {"completion_id": pl.String, "away": pl.Float64}
    return pl.concat([pl.DataFrame(schema=columns), *away])
