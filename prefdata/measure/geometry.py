"""Where the best completions lie for the reference model: whether old data suffice.

Where the peak of the reward is in a region that the reference model hardly ever samples, data drawn
from it cannot teach the way there, and fresh samples of the current policy, with the rejected ones
kept, help most. With q the score that the best of 64 completions of a prompt reach,

    peak mass = P_{y ~ ref}(score(y) >= q)

and fresh samples are advised where it is below 1/64 or where Spearman's correlation of log ref(y)
and the score is below 0.

Source: Tajwar et al. (2024), Preference Fine-Tuning of LLMs Should Leverage Suboptimal, On-Policy
Data; the rule is our own.
"""

from collections.abc import Sequence

import polars as pl

from prefdata.errors import RecipeError, nearest
from prefdata.measure._likelihoods import draws, number, of_completions
from prefdata.measure._means import means, with_groups
from prefdata.tables import Completions, Measures, Pairs, Prompts, Samples, Scores

SCOPE = "all"
BEST_OF = 64


def geometry(
    completions: Completions,
    samples: Samples,
    scores: Scores,
    prompts: Prompts | None = None,
    pairs: Pairs | None = None,
    *,
    reference: str,
    score: str = "reward",
    model: str | None = None,
    policies: Sequence[str] = (),
) -> Measures:
    """Measure how the score of completions stands to their likelihood under the reference model.

    Reads a score of completions, and `logp` and `n_tokens` of estimate.log_likelihood. All is
    within prompts, so a constant added to the scores of a prompt changes nothing. The candidates of
    a prompt are all its completions with both; the more of them are not the reference's own, the
    more can be seen of where its samples do not reach.

    - `peak_mass`: the share of the reference's draws at the best scores, in [0, 1]. These are those
      that the best of 64 candidates reach: of fewer candidates the best one's.
    - `reference_rank_of_best`: the share of a prompt's other candidates that the reference finds
      likelier than the best one, in [0, 1]; 0: the best is the likeliest.
    - `likelihood_score_correlation`, `length_score_correlation`: Spearman's of the score with log
      ref(y) and with the number of tokens, the mean over prompts, in [-1, 1].
    - `on_policy_share`: of the sides of the pairs, those that a policy drew, in [0, 1].
    - `collect_on_policy`: 1 where fresh samples are advised, else 0; the note says why.

    The subject is the reference; intervals are over groups of prompts.

    Options:
    - `reference`: the generator whose samples are the reference model's.
    - `score`: the score of completions; `name@model` where several models gave it.
    - `model`: the reference's name in `scores`; default that of the generator.
    - `policies`: the generators that are the policy to be trained.

    Raises `RecipeError` for a score, model or generator that is not there.
    """
    where = "measure.geometry"
    rows = _candidates(completions, scores, prompts, score, model or reference, where)
    rows = rows.with_columns(subject=pl.lit(reference))
    drawn = draws(samples, prompts, reference, where=where)
    reached = drawn.join(rows.select("completion_id", "score", "peak"), on="completion_id")
    reached = reached.with_columns(at_peak=(pl.col("score") >= pl.col("peak")).cast(pl.Float64))
    mass = means(reached, "at_peak", "peak_mass")
    by_prompt = _by_prompt(rows)
    along = means(by_prompt, "likelihood", "likelihood_score_correlation", low=-1)
    made = [
        mass,
        along,
        means(by_prompt, "length", "length_score_correlation", low=-1),
        means(by_prompt, "rank", "reference_rank_of_best"),
        _advice(mass, along, reference),
    ]
    if policies and pairs is not None:
        made.append(_on_policy(pairs, samples, prompts, policies, reference, where))
    return Measures(pl.concat(made).sort("measure", "subject"))


def _candidates(
    completions: Completions,
    scores: Scores,
    prompts: Prompts | None,
    score: str,
    model: str,
    where: str,
) -> pl.DataFrame:
    """`completion_id, prompt_id, group, score, logp, n_tokens, peak` of what has all of them."""
    rows = with_groups(completions.select("completion_id", "prompt_id"), prompts)
    for name in ("logp", "n_tokens"):
        known = of_completions(scores, name, model, where=where).rename({"value": name})
        rows = rows.join(known, on="completion_id")
    rows = rows.join(_of_score(scores, score, where), on="completion_id")
    place = pl.min_horizontal((pl.len() / BEST_OF).ceil() - 1, pl.len() - 1).cast(pl.Int64)
    peak = pl.col("score").sort(descending=True).get(place)
    return rows.sort("prompt_id", "completion_id").with_columns(peak=peak.over("prompt_id"))


def _of_score(scores: Scores, score: str, where: str) -> pl.DataFrame:
    name, _, by = score.partition("@")
    about = scores.filter(pl.col("subject") == "completion")
    found = about.filter(pl.col("score") == name)
    if by:
        found = found.filter(pl.col("model") == by)
    if found.is_empty() and scores.height:
        there = about["score"].unique().sort().to_list()
        raise RecipeError(f"{where}: no completion has a score {score!r}; {nearest(name, there)}")
    if found["subject_id"].is_duplicated().any():
        models = ", ".join(sorted(str(each) for each in found["model"].unique()))
        raise RecipeError(f"{where}: {name!r} is by {models}; say which, as in {name}@<model>")
    return found.select(completion_id="subject_id", score="value")


def _by_prompt(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each prompt with several candidates, the correlations and the rank of the best."""
    best = pl.col("score") == pl.col("score").max()
    of_best = pl.col("logp").filter(best).max()
    above = (pl.col("logp") > of_best).sum() / (pl.len() - 1)

    def along(column: str) -> pl.Expr:
        return pl.corr(pl.col(column).rank(), pl.col("score").rank()).fill_nan(None)

    return (
        rows.group_by("subject", "group", "prompt_id", maintain_order=True)
        .agg(n=pl.len(), rank=above, likelihood=along("logp"), length=along("n_tokens"))
        .filter(pl.col("n") > 1)
    )


def _advice(mass: pl.DataFrame, along: pl.DataFrame, reference: str) -> pl.DataFrame:
    reached, together = (each["value"][0] if each.height else None for each in (mass, along))
    if reached is None:
        return number("collect_on_policy", reference, None, 0, "no draw of the reference is scored")
    n = int(mass["n"][0])
    if reached < 1 / BEST_OF:
        why = "the reference hardly ever reaches the best: draw fresh samples, keep the rejected"
    elif together is not None and together < 0:
        why = "the likelier, the worse: draw fresh samples, keep the rejected"
    else:
        why = "the reference reaches the best: its own samples suffice"
        return number("collect_on_policy", reference, 0.0, n, why)
    return number("collect_on_policy", reference, 1.0, n, why)


def _on_policy(
    pairs: Pairs,
    samples: Samples,
    prompts: Prompts | None,
    policies: Sequence[str],
    reference: str,
    where: str,
) -> pl.DataFrame:
    own = [draws(samples, prompts, each, where=where)["completion_id"] for each in policies]
    sides = pl.concat(
        pairs.select("prompt_id", completion_id=f"{side}_id") for side in ("chosen", "rejected")
    )
    is_own = pl.col("completion_id").is_in(pl.concat(own).unique().implode())
    rows = with_groups(sides, prompts).with_columns(
        own=is_own.cast(pl.Float64), subject=pl.lit(reference)
    )
    return means(rows, "own", "on_policy_share")
