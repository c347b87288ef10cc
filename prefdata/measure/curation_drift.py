"""What choosing the best of K again and again would do to the next datasets.

Who trains on chosen completions and samples anew samples from a moved distribution. Where one of K
samples is chosen with probability in proportion to e^r, a prompt's distribution p_t moves to

    p_{t+1}(x) = rho p_0(x) + (1 - rho) p_t(x) H_K(x),
    H_K(x) = E[K e^{r(x)} / (e^{r(x)} + sum_{i<K} e^{r(x_i)})],   x_i from p_t,

with rho the share of original data in each round. H_K is taken exactly, as the integral

    H_K(x) = K e^{r(x)} int_0^inf e^{-t e^{r(x)}} (E e^{-t e^r})^{K-1} dt .

For K to infinity p_t H_K becomes p_t e^r / E[e^r]. The expected e^r rises by at least
(K - 1) / K Var(e^r) / max e^r a round; without original data all goes to what scores highest.

Source: Ferbach, Bertrand, Bose, Gidel (2024), Self-Consuming Generative Models with Curated Data
Provably Optimize Human Preferences.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize, special

from prefdata.errors import RecipeError
from prefdata.estimate._named import named
from prefdata.measure._likelihoods import averages, number
from prefdata.measure._means import with_groups
from prefdata.tables import Completions, Measures, Pairs, Prompts, Samples, Scores

Floats = NDArray[np.float64]

SCOPE = "all"
OPTIMIZE: Any = optimize
SPECIAL: Any = special
STEP = 0.25  # of log t: the trapezoid rule is exact to rounding for such integrands
LARGEST = 300.0  # of a reward: e^r has to be a number
LOWEST = -60.0  # below a prompt's best: what is less likely than that counts as this
ALWAYS = "the chosen side always scores {}: the choice follows the score without chance"


class Pool(NamedTuple):
    """The completions of all prompts, one prompt after the other: p_0, r, where prompts begin."""

    start: Floats
    reward: Floats
    begins: NDArray[np.int64]

    def sums(self, values: Floats) -> Floats:
        """Of each prompt."""
        return np.add.reduceat(values, self.begins, axis=0)

    def spread(self, of_prompts: Floats) -> Floats:
        """A value of each prompt for its completions."""
        sizes = np.diff([*self.begins, len(self.start)])
        return np.repeat(of_prompts, sizes, axis=0)


def curation_drift(
    completions: Completions,
    scores: Scores,
    samples: Samples | None = None,
    pairs: Pairs | None = None,
    prompts: Prompts | None = None,
    *,
    score: str = "reward",
    k: int | None = None,
    real: float = 0.0,
    rounds: int = 5,
) -> Measures:
    """Predict how rewards, variety and shares of generators move when what is chosen is trained on.

    Of prompts with two completions or more that have the score; `n` counts them. A prompt's first
    distribution is how often each completion was drawn. The subject is "round <t>", 0 is the data.

    - `drift_reward`: the mean over prompts of E[r]; `drift_exp_reward`: of E[e^r].
    - `drift_exp_reward_bound`, of round 1: what E[e^r] is at least without original data.
    - `drift_entropy`: the mean entropy of a prompt's distribution, nats.
    - `drift_share`, subject "round <t>: <generator>" (with `samples`): the mean share of a
      generator's completions, in [0, 1]; of a completion that several drew each has its part.
    - `drift_chosen_exp_reward`, subject "pairs" (with `pairs`): the mean e^r of chosen sides. Far
      above round 1, the choice follows the score more closely than by e^r.
    - `drift_selection_strength`, subject "pairs": beta of P(chosen) = sigmoid(beta (r(chosen) -
      r(rejected))), by maximum likelihood: 1 is the choice that is predicted. Null where the side
      that scores higher is always, or never, chosen.

    Options:
    - `score`: the reward r, a score about completions, on a log scale; `name@model` where several
      models gave one.
    - `k`: of how many samples one is chosen, at least 2; default infinitely many.
    - `real`: the share of original data in each round, in [0, 1].
    - `rounds`: how many rounds to look ahead, at least 1.

    Raises `RecipeError` for numbers out of these bounds, and for a score that no completion has or
    that several models gave.
    """
    where = "measure.curation_drift"
    if (k is not None and k < 2) or not 0 <= real <= 1 or rounds < 1:
        raise RecipeError(
            f"{where}: k = {k}, real = {real}, rounds = {rounds}; expected at least 2 samples, a "
            "share in [0, 1] and at least 1 round"
        )
    values = named(scores, score, where=where, subject="completion")
    rows = _pool(completions, values.rename({"subject_id": "completion_id"}), samples)
    if rows.is_empty():
        return Measures(number("drift_reward", "round 0", None, 0, "no prompt has two scored"))
    if (most := float(np.abs(rows["value"].to_numpy()).max())) > LARGEST:
        raise RecipeError(
            f"{where}: a {score!r} is as far from 0 as {most:.4g}; the choice goes by its "
            "exponential, so scale it to log odds first"
        )
    begins = rows["prompt_id"].rle_id().to_numpy()
    pool = Pool(
        rows["start"].to_numpy(),
        rows["value"].to_numpy(),
        np.flatnonzero(np.diff(begins, prepend=-1)),
    )
    about = with_groups(rows[pool.begins.tolist()].select("prompt_id"), prompts)
    trail = retrained(pool, k=k, real=real, rounds=rounds)
    made = [bound(pool, about, k)]
    gains = np.exp(pool.reward)
    for t, p in enumerate(trail):
        told = {
            "drift_reward": pool.sums(p * pool.reward),
            "drift_exp_reward": pool.sums(p * gains),
            "drift_entropy": pool.sums(SPECIAL.entr(p)),
        }
        frame = about.with_columns(pl.lit(f"round {t}").alias("subject"), **_columns(told))
        made += [averages(frame, name, name) for name in told]
    if samples is not None:
        made.append(_shares(rows, samples, trail, about))
    if pairs is not None and pairs.height:
        made += _chosen(pairs, values, prompts)
    return Measures(pl.concat(made).sort("measure", "subject"))


def retrained(pool: Pool, *, k: int | None, real: float, rounds: int) -> list[Floats]:
    """p_0, p_1, ... of all prompts, as the rounds go on."""
    trail = [pool.start]
    for _ in range(rounds):
        p = trail[-1]
        moved = p * favour(pool, p, k)
        moved /= pool.spread(pool.sums(moved))  # else an error of rounding grows K times a round
        trail.append(real * pool.start + (1 - real) * moved)
    return trail


def favour(pool: Pool, p: Floats, k: int | None) -> Floats:
    """H_K of every completion: how many times likelier it is after one choice."""
    r = pool.reward - pool.spread(np.maximum.reduceat(pool.reward, pool.begins))
    r = np.maximum(r, LOWEST)
    a = np.exp(r)
    if k is None:
        return a / pool.spread(pool.sums(p * a))
    ends = -37 - np.log(k), 6.7 - r.min()
    made = np.zeros_like(a)
    for t in np.exp(np.arange(ends[0], ends[1], STEP)):
        fallen = np.exp(-a * t)
        made += t * fallen * pool.spread(pool.sums(p * fallen)) ** (k - 1)
    return k * a * STEP * made


def bound(pool: Pool, about: pl.DataFrame, k: int | None) -> pl.DataFrame:
    """E_0[e^r] + (K - 1) / K Var_0(e^r) / max e^r."""
    e = np.exp(pool.reward)
    mean = pool.sums(pool.start * e)
    variance = pool.sums(pool.start * e**2) - mean**2
    share = 1.0 if k is None else (k - 1) / k
    least = mean + share * variance / np.maximum.reduceat(e, pool.begins)
    frame = about.with_columns(pl.lit("round 1").alias("subject"), **_columns({"least": least}))
    return averages(frame, "least", "drift_exp_reward_bound")


def _columns(values: dict[str, Floats]) -> dict[str, pl.Series]:
    return {name: pl.Series(each) for name, each in values.items()}


def _pool(completions: Completions, values: pl.DataFrame, samples: Samples | None) -> pl.DataFrame:
    """`prompt_id, completion_id, value, start` of prompts with two scored completions or more."""
    rows = completions.select("prompt_id", "completion_id").join(values, on="completion_id")
    if samples is None:
        rows = rows.with_columns(times=pl.lit(1, pl.UInt32))
    else:
        drawn = samples.group_by("completion_id").agg(times=pl.len())
        rows = rows.join(drawn, on="completion_id", how="left").with_columns(
            pl.col("times").fill_null(1)
        )
    several = rows.filter(pl.len().over("prompt_id") > 1).sort("prompt_id", "completion_id")
    return several.with_columns(start=pl.col("times") / pl.col("times").sum().over("prompt_id"))


def _shares(
    rows: pl.DataFrame, samples: Samples, trail: list[Floats], about: pl.DataFrame
) -> pl.DataFrame:
    """`drift_share` of each generator in each round."""
    drawn = samples.group_by("completion_id", "generator").agg(times=pl.len())
    part = pl.col("times") / pl.col("times").sum().over("completion_id")
    parts = drawn.select("completion_id", "generator", part=part)
    each = about.join(parts.select("generator").unique(), how="cross")
    made: list[pl.DataFrame] = []
    for t, p in enumerate(trail):
        own = rows.select("prompt_id", "completion_id", p=pl.Series(p)).join(
            parts, on="completion_id"
        )
        by = own.group_by("prompt_id", "generator").agg(
            share=(pl.col("p") * pl.col("part")).sort().sum()
        )
        whole = each.join(by, on=["prompt_id", "generator"], how="left").with_columns(
            pl.col("share").fill_null(0.0),
            subject=pl.format("round {}: {}", pl.lit(t), "generator"),
        )
        made.append(averages(whole, "share", "drift_share"))
    return pl.concat(made)


def _chosen(pairs: Pairs, values: pl.DataFrame, prompts: Prompts | None) -> list[pl.DataFrame]:
    """What the pairs' own choice did, and how closely it follows the score."""
    rows = pairs
    for side in ("chosen", "rejected"):
        of = values.select(pl.col("subject_id").alias(f"{side}_id"), pl.col("value").alias(side))
        rows = rows.join(of, on=f"{side}_id")
    rows = with_groups(rows, prompts).with_columns(
        subject=pl.lit("pairs"),
        gain=pl.col("chosen").exp(),
        ahead=pl.col("chosen") - pl.col("rejected"),
    )
    return [averages(rows, "gain", "drift_chosen_exp_reward"), _strength(rows.sort("pair_id"))]


def _strength(rows: pl.DataFrame) -> pl.DataFrame:
    """beta by maximum likelihood, with its error over groups of prompts."""
    name, ahead = "drift_selection_strength", rows["ahead"].to_numpy()
    if not (ahead < 0).any() or not (ahead > 0).any():
        way = "higher" if (ahead > 0).any() else "lower" if (ahead < 0).any() else "the same"
        return number(name, "pairs", None, rows.height, ALWAYS.format(way))

    def slope(beta: float) -> float:
        return float((ahead * SPECIAL.expit(-beta * ahead)).sum())

    reach = 1.0
    while slope(reach) > 0 or slope(-reach) < 0:
        reach *= 2
    beta = float(OPTIMIZE.brentq(slope, -reach, reach, xtol=1e-12))
    wrong = SPECIAL.expit(-beta * ahead)
    known = float((ahead**2 * wrong * (1 - wrong)).sum())
    pulls = rows.select("group", pull=pl.Series(ahead * wrong)).group_by("group").agg(
        pl.col("pull").sort().sum()
    )["pull"]  # fmt: skip
    error = float((pulls.sort() ** 2).sum()) ** 0.5 / known
    return number(name, "pairs", beta, rows.height).with_columns(stderr=pl.lit(error))
