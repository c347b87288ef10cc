"""Zermelo's strengths within each prompt as soft labels: log odds of every two completions.

Zermelo's iteration p_i <- W_i / sum_j n_ij / (p_i + p_j) has one fixed point, the maximum of the
Bradley-Terry likelihood, which is found here by Newton steps.

Source: Zermelo (1929), "Die Berechnung der Turnier-Ergebnisse als ein Maximumproblem der
Wahrscheinlichkeitsrechnung"; Le, Tran and Nguyen (2024), "iREPO: implicit Reward Pairwise
Difference based Empirical Preference Optimization", for the labels.
"""

from collections.abc import Mapping, Sequence

import polars as pl
from scipy.special import expit

from prefdata.aggregate import _graph
from prefdata.aggregate._tally import about, preferences, tally, with_prompts
from prefdata.aggregate.bradley_terry import fit_bradley_terry, standard_errors
from prefdata.errors import RecipeError
from prefdata.tables import SIDES, Completions, Scores, Strengths, Votes, pair_ids

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def zermelo_soft_labels(
    votes: Votes,
    completions: Completions | None = None,
    *,
    pseudo_votes: float = 0.5,
    max_logit: float = 4.6,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    max_iterations: int = 200,
    estimator: str = "zermelo_soft_labels",
) -> tuple[Strengths, Scores]:
    """Give every two completions of a prompt the log odds that a panel prefers the one.

        logit = ln p_a - ln p_b,    P(a preferred to b) = p_a / (p_a + p_b)

    with p the strengths of greatest likelihood of the votes and of `pseudo_votes` for either side
    of every two voted completions of a prompt. A tie is half a vote for each, a soft preference its
    parts. Unscored votes are left out. Votes across prompts join no strengths here and are left
    out. Pseudo-votes pull strengths together, the more the fewer votes there are: `n_votes` says
    how many stand behind a label.

    - `strengths`: ln p, of mean 0 over a prompt's voted completions, with standard error.
    - `scores`, for every two voted completions of a prompt, compared or not: `preference_logit`,
      the log odds of the smaller completion_id within +-`max_logit`, with the standard error of the
      log odds before that bound; `preference`, its sigmoid, in (0, 1), with standard error; and
      `n_votes`, the votes on these two by weight, without pseudo-votes.

    Standard errors take pseudo-votes for votes.

    `completions` is not needed, and is read only as other aggregates do.

    Options:
    - `pseudo_votes`: votes for each side that are added to every two; 0 or above. With 0, a prompt
      whose votes do not lead from each completion to each other has no finite strengths.
    - `max_logit`: the bound on log odds, above 0; 4.6 is 99 %.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `max_iterations`: Newton steps before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where there is no optimum, with `pseudo_votes` 0 also where votes do
    not connect the completions of a prompt; `RecipeError` for a criterion without votes or an
    option out of range.
    """
    where = f"aggregate.{estimator}"
    if not 0 <= pseudo_votes < float("inf"):
        raise RecipeError(f"{where}: pseudo_votes is {pseudo_votes}; give 0 or a number above")
    if not 0 < max_logit < float("inf"):
        raise RecipeError(f"{where}: max_logit is {max_logit}; give a number above 0")
    own = Votes(votes.filter(pl.col("prompt_id").is_not_null()))
    pairs = _every_two(own, tally(own, criteria, weights))
    ids = pl.concat([pairs[side] for side in SIDES]).unique().sort()
    one, other = (_graph.numbers(pairs[side], ids) for side in SIDES)
    wins, losses = ((pairs[name] + pseudo_votes).to_numpy() for name in ("wins", "losses"))
    counts = one, other, wins, losses
    # Two that share a prompt are one row each, so a prompt that votes do not connect is found.
    fit = fit_bradley_terry(*counts, n_items=len(ids), prior=0, max_iterations=max_iterations)
    of_item, of_difference = standard_errors(fit, *counts, prior=0)
    strengths = pl.DataFrame(
        {"completion_id": ids, "strength": fit.strengths, "stderr": of_item},
        schema_overrides={"completion_id": pl.String},
    )
    logit = (fit.strengths[one] - fit.strengths[other]).clip(-max_logit, max_logit)
    value = expit(logit)
    scored = pairs.with_columns(value=value, stderr=value * (1 - value) * of_difference)
    subject = pair_ids(pairs["completion_a"], pairs["completion_b"])
    n_votes = (pairs["wins"] + pairs["losses"]).to_numpy()
    logits = about("pair", subject, "preference_logit", logit, estimator)
    logits = logits.with_columns(stderr=pl.Series(of_difference, dtype=pl.Float64).fill_nan(None))
    return (
        with_prompts(strengths, own, completions, estimator),
        Scores(
            pl.concat(
                [
                    preferences(scored, estimator),
                    logits,
                    about("pair", subject, "n_votes", n_votes, estimator),
                ]
            )
        ),
    )


def _every_two(votes: Votes, counted: pl.DataFrame) -> pl.DataFrame:
    """Every two counted completions of a prompt, with their wins and losses, 0 where none."""
    known = pl.concat([votes.select("prompt_id", completion_id=pl.col(side)) for side in SIDES])
    there = pl.concat([counted[side] for side in SIDES]).unique()
    known = known.unique().filter(pl.col("completion_id").is_in(there.implode()))
    two = known.rename({"completion_id": "completion_a"}).join(
        known.rename({"completion_id": "completion_b"}), on="prompt_id"
    )
    return (
        two.filter(pl.col("completion_a") < pl.col("completion_b"))
        .select(SIDES)
        .join(counted, on=SIDES, how="left")
        .with_columns(pl.col("wins", "losses").fill_null(0.0))
        .sort(SIDES)
    )
