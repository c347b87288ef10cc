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

from prefdata.estimate._named import of_completions
from prefdata.measure._likelihoods import averages, by_model, draws, number
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
    - `data_age`: of these, the mean number of policies that came after the latest that drew it: 0
      where all are of the last one.
    - `reuse_count`: in how many pairs a completion is that is in any, the mean, at least 1. The
      higher, the more often training sees it again without a fresh sample.
    - `collect_on_policy`: 1 where fresh samples are advised, else 0; the note says why.

    The subject is the reference; intervals are over groups of prompts.

    Options:
    - `reference`: the generator whose samples are the reference model's.
    - `score`: the score of completions; `name@model` where several models gave it.
    - `model`: the reference's name in `scores`; default that of the generator.
    - `policies`: the generators that are the policy to be trained, from its first state to its
      last.

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
    if pairs is not None:
        sides = _sides(pairs, prompts).with_columns(subject=pl.lit(reference))
        made.append(_reuse(sides))
        if policies:
            own = [draws(samples, prompts, each, where=where) for each in policies]
            made += _freshness(sides, [each["completion_id"].unique() for each in own])
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
        known = by_model(scores, name, model, where=where).rename({"value": name})
        rows = rows.join(known, on="completion_id")
    of_score = of_completions(scores, score, where=where).rename({"value": "score"})
    rows = rows.join(of_score, on="completion_id")
    place = pl.min_horizontal((pl.len() / BEST_OF).ceil() - 1, pl.len() - 1).cast(pl.Int64)
    peak = pl.col("score").sort(descending=True).get(place)
    return rows.sort("prompt_id", "completion_id").with_columns(peak=peak.over("prompt_id"))


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


def _sides(pairs: Pairs, prompts: Prompts | None) -> pl.DataFrame:
    """`completion_id, prompt_id, group`: a row for each side of each pair."""
    sides = pl.concat(
        pairs.select("prompt_id", completion_id=f"{side}_id") for side in ("chosen", "rejected")
    )
    return with_groups(sides, prompts)


def _reuse(sides: pl.DataFrame) -> pl.DataFrame:
    each = sides.group_by("subject", "group", "completion_id").agg(n=pl.len().cast(pl.Float64))
    return averages(each, "n", "reuse_count")


def _freshness(sides: pl.DataFrame, drawn: Sequence[pl.Series]) -> list[pl.DataFrame]:
    """The share of sides that a policy drew, and how many policies came after it."""
    is_by = [pl.col("completion_id").is_in(each.implode()) for each in reversed(drawn)]
    age = pl.coalesce(pl.when(its).then(float(at)) for at, its in enumerate(is_by))
    rows = sides.with_columns(age=age)
    own = pl.col("age").is_not_null().cast(pl.Float64)
    return [
        means(rows.with_columns(own=own), "own", "on_policy_share"),
        averages(rows, "age", "data_age"),
    ]
