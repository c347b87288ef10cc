"""How long the sides of pairs are, what length alone tells of the labels, and how far policies are.

DPO's margin is a difference of sums, so it grows with length; normalised by length it is

    logratio(chosen) / |chosen| - logratio(rejected) / |rejected|,

each side by its own number of tokens, its end counted once. A length that tells the label teaches
length. KL(policy | reference) is the mean log ratio on the policy's own samples.

Source: Ahrabian et al. (2024), The Hitchhiker's Guide to Human Alignment with *PO; DeLong et al.
(1988) for the error of an area under the curve.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.estimate._sides import SIDES, beside
from prefdata.measure._likelihoods import averages, by_model, draws, log_ratios, number
from prefdata.measure._means import COLUMNS, means, student, with_groups
from prefdata.tables import Measures, Pairs, Prompts, Samples, Scores

Floats = NDArray[np.floating[Any]]

SCOPE = "all"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def length_and_kl(
    pairs: Pairs,
    scores: Scores,
    samples: Samples | None = None,
    prompts: Prompts | None = None,
    *,
    reference: str,
    policies: Sequence[str] = (),
) -> Measures:
    """Measure lengths of pairs' sides and of samples in tokens, and how far policies have gone.

    Reads `logp` and `n_tokens` of completions (estimate.log_likelihood), once for each model.

    - `tokens_q05` ... `tokens_q95`, subject "chosen", "rejected" or "drawn by <generator>":
      quantiles of lengths, tokens.
    - `longer_chosen`, subject "all": the share of pairs whose longer side is chosen, in [0, 1];
      a pair of equal lengths is 1/2. To say "the longer" is right as often as that.
    - `length_only_auc`: P(a chosen side is longer than the rejected side of any pair), equals 1/2.
    - `length_label_correlation`: Pearson's of tokens and being chosen, over all sides, in [-1, 1].
    - for each policy `kl_to_reference`, nats a completion, and `kl_to_reference_per_token`, on its
      own draws; and on the pairs `dpo_margin` and `ln_dpo_margin`, the mean of DPO's margin at
      beta 1, nats, and of that normalised by length, nats a token.

    Errors are over groups of prompts.

    Options:
    - `reference`: the reference model's name in `scores`; it counts the tokens.
    - `policies`: models that gave log-probabilities too; KL where they also drew samples.

    Raises `RecipeError` for a model without log-probabilities.
    """
    where = "measure.length_and_kl"
    length = by_model(scores, "n_tokens", reference, where=where)
    rows = beside(with_groups(pairs, prompts), length.rename({"value": "n"}))
    rows = rows.with_columns(subject=pl.lit("all"))
    made = [pl.DataFrame(schema=COLUMNS)]
    if rows.height:
        made += [*_quantiles(rows), *_told_by_length(rows)]
    if samples is not None:
        made += _of_draws(samples, length)
    at_home = by_model(scores, "logp", reference, where=where)
    for policy in policies:
        theirs = by_model(scores, "logp", policy, where=where)
        made += _margins(rows, theirs, at_home, policy)
        if samples is not None and policy in samples["generator"]:
            drawn = draws(samples, prompts, policy, where=where)
            ratios = log_ratios(drawn, theirs, at_home).join(length, on="completion_id")
            each = pl.col("log_ratio") / pl.col("value")
            made += [
                averages(ratios, "log_ratio", "kl_to_reference"),
                averages(ratios.with_columns(each=each), "each", "kl_to_reference_per_token"),
            ]
    return Measures(pl.concat(made).sort("measure", "subject"))


def area(one: Floats, other: Floats) -> tuple[float, Floats]:
    """P(one > other) + P(one = other) / 2, and how far each row i moves it, from both its sides.

    The mean of the second is 0, and n times the square of its mean over n^2 is the variance.
    """
    of_one = (_below(other, one) + _below(other, one, equal=True)) / 2 / len(other)
    of_other = 1 - (_below(one, other) + _below(one, other, equal=True)) / 2 / len(one)
    value = float(of_one.mean())
    return value, (of_one - value) + (of_other - value)


def _below(values: Floats, at: Floats, *, equal: bool = False) -> Floats:
    return np.searchsorted(np.sort(values), at, side="right" if equal else "left").astype(float)


def _quantiles(rows: pl.DataFrame) -> list[pl.DataFrame]:
    made: list[pl.DataFrame] = []
    for side in SIDES:
        made += _quantiles_of(rows[f"n_{side}"].to_numpy(), side)
    return made


def _quantiles_of(tokens: Floats, subject: str) -> list[pl.DataFrame]:
    found = np.quantile(tokens, QUANTILES)
    return [
        number(f"tokens_q{round(100 * q):02}", subject, float(value), len(tokens))
        for q, value in zip(QUANTILES, found, strict=True)
    ]


def _of_draws(samples: Samples, length: pl.DataFrame) -> list[pl.DataFrame]:
    drawn = samples.select("completion_id", "generator").join(length, on="completion_id")
    made: list[pl.DataFrame] = []
    for (who,), part in drawn.sort("generator").group_by("generator", maintain_order=True):
        made += _quantiles_of(part["value"].to_numpy(), f"drawn by {who}")
    return made


def _told_by_length(rows: pl.DataFrame) -> list[pl.DataFrame]:
    longer = ((pl.col("n_chosen") - pl.col("n_rejected")).sign() + 1) / 2
    one, other = (rows[f"n_{side}"].to_numpy() for side in SIDES)
    value, moved = area(one, other)
    whole = np.concatenate([one, other])
    spread = float(whole.std())
    along = float((one.mean() - other.mean()) / 2 / spread) if spread else None
    sums = rows.select("group", x=pl.Series(moved)).group_by("group").agg(pl.col("x").sum())
    g, n = sums.height, rows.height
    error = float(np.sqrt((sums["x"].to_numpy() ** 2).sum() * g / (g - 1)) / n) if g > 1 else None
    t = float(student(pl.Series([float(g)]))[0]) if g > 1 else 0.0
    ends = (
        {}
        if error is None
        else {"low": max(0.0, value - t * error), "high": min(1.0, value + t * error)}
    )
    auc = number("length_only_auc", "all", value, n).with_columns(
        pl.lit(each, pl.Float64).alias(name) for name, each in {"stderr": error, **ends}.items()
    )
    return [
        means(rows.with_columns(longer=longer), "longer", "longer_chosen"),
        auc,
        number("length_label_correlation", "all", along, 2 * n),
    ]


def _margins(
    rows: pl.DataFrame, theirs: pl.DataFrame, at_home: pl.DataFrame, policy: str
) -> list[pl.DataFrame]:
    both = theirs.join(at_home, on="completion_id", suffix="_home")
    ratio = both.select("completion_id", ratio=pl.col("value") - pl.col("value_home"))
    known = beside(rows, ratio)
    one, other = (pl.col(f"ratio_{side}") for side in SIDES)
    known = known.with_columns(
        subject=pl.lit(policy),
        plain=one - other,
        normalised=one / pl.col("n_chosen") - other / pl.col("n_rejected"),
    )
    return [
        averages(known, "plain", "dpo_margin"),
        averages(known, "normalised", "ln_dpo_margin"),
    ]
