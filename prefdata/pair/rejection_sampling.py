"""Pairs of completions that are drawn as the best policy near the generator would draw them.

The policy of greatest reward r at divergence beta from the generator pi is

    pi_r(y | x) proportional to pi(y | x) exp(r(x, y) / beta).

Of a prompt's N completions (draws of pi) k are kept, without replacement, by one of two ways:

- "exact": each by r / beta plus Gumbel noise, the k greatest; the same as drawing one after the
  other with probabilities proportional to exp(r / beta).
- "paper": passes over the pool in a random order; a completion of reward r is accepted with
  probability exp((r - r_max) / beta), r_max the greatest in the pool as the pass began.

On few completions "paper" is biased upwards. Small beta is the best k of N, great beta any k.
"""

from typing import Literal

import numpy as np
import polars as pl

from prefdata.errors import RecipeError
from prefdata.pair._candidates import label, ranked
from prefdata.tables import Dropped, Pairs, Scores, Strengths, Votes, digest

# An estimator that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"

Mode = Literal["exact", "paper"]


def drawn(
    rewards: np.ndarray, k: int, beta: float, rng: np.random.Generator, mode: Mode
) -> list[int]:
    """The places of `k` accepted rewards, or of all where there are no more, in turn."""
    k = min(k, len(rewards))
    if mode == "exact":
        noisy = rewards / beta + rng.gumbel(size=len(rewards))
        return [int(at) for at in np.argsort(-noisy, kind="stable")[:k]]
    pool, accepted = np.arange(len(rewards)), list[int]()
    while len(accepted) < k:
        pool = rng.permutation(pool)
        chance = np.exp((rewards[pool] - rewards[pool].max()) / beta)
        hits = pool[rng.random(len(pool)) < chance][: k - len(accepted)]
        accepted += [int(at) for at in hits]
        pool = np.setdiff1d(pool, hits)
    return accepted


def rejection_sampling(
    strengths: Strengths,
    votes: Votes | None = None,
    scores: Scores | None = None,
    *,
    k: int = 8,
    beta: float = 0.5,
    mode: Mode = "exact",
    pairing: Literal["first_round", "tournament"] = "first_round",
    estimator: str | None = None,
    seed: int = 0,
) -> tuple[Pairs, Dropped]:
    """Draw `k` completions of each prompt by rejection sampling, and pair them.

    Within a pair the stronger is chosen; `margin`, `soft_label`, `n_votes` and what is dropped are
    as in pair.best_vs_worst. What is drawn comes from the seed and the prompt's id.

    Options:
    - `k`: how many are drawn; a prompt with fewer has all of them. At least 2.
    - `beta`: the divergence, in units of the strengths; above 0.
    - `mode`: "exact" or "paper"; see the module.
    - `pairing`: "first_round", k / 2 pairs without a common completion (of odd k one is left over);
      "tournament", winners go on until one is left: k - 1 pairs.
    - `estimator`: whose strengths; needed where `strengths` holds those of several.
    - `seed`: what draws and pairings come from.

    Raises `RecipeError` for an option out of range, an unknown estimator, and for several without a
    choice.

    Source: Liu et al. (2024), Statistical Rejection Sampling Improves Preference Optimization.
    """
    where = "pair.rejection_sampling"
    if k < 2 or not 0 < beta < float("inf"):
        raise RecipeError(f"{where}: k = {k}, beta = {beta}; k is at least 2, beta above 0")
    of_prompt = ranked(strengths, estimator, stage=where)
    played: list[tuple[str, str]] = []
    for (prompt_id,), own in of_prompt.group_by("prompt_id", maintain_order=True):
        rng = np.random.default_rng(int(digest(where, seed, prompt_id), 16))
        places = drawn(own["strength"].to_numpy(), k, beta, rng, mode)
        ids = own["completion_id"].to_list()
        better = dict(zip(ids, range(len(ids)), strict=True))
        left = [ids[at] for at in rng.permutation(places)]
        while len(left) > 1:
            games = list(zip(left[::2], left[1::2], strict=False))
            played += [tuple(sorted(game, key=better.__getitem__)) for game in games]
            byes = left[len(games) * 2 :]
            left = [min(game, key=better.__getitem__) for game in games] + byes
            if pairing == "first_round":
                break
    sides = pl.DataFrame(played, {"completion_id": pl.String, "completion_id_right": pl.String},
                         orient="row")  # fmt: skip
    known = of_prompt.select("completion_id", "prompt_id", "estimator", "strength", "tier")
    other = known.select("completion_id", "strength", "tier").rename(lambda name: f"{name}_right")
    candidates = sides.join(known, on="completion_id").join(other, on="completion_id_right")
    return label(candidates, votes, scores, stage=where)
