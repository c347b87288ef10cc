"""How likely a model finds each completion: of the whole, and of each token on average.

    logp = sum over the completion's tokens t of log pi(y_t | x, y_<t)          (nats, at most 0)

The tokens are those that the model's own chat template gives the completion, its end included, and
none of the prompt's.
"""

import polars as pl

from prefdata.estimate._sides import ask_about, beside
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Pairs, Prompts, Scores

_NAMES = {"logp": "number", "logp_per_token": "mean", "n_tokens": "n"}


def log_likelihood(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    *,
    model: Model,
) -> Asks[Scores]:
    """Score each completion's `logp` (nats), `logp_per_token` and `n_tokens` under a model.

    With pairs these also have `ref_logp_chosen`, `ref_logp_rejected`, the same with `_per_token`,
    and `n_tokens_chosen`, `n_tokens_rejected`: what a trainer takes for precomputed log
    probabilities of the reference model, as columns of an export. A completion whose request
    failed, or without a token, has no score, nor has its pair.

    Options:
    - `model`: whose likelihoods; the model to be trained, as it is before.

    Source: Rafailov et al. (2023), Direct Preference Optimization, whose reference log
    probabilities these are; per token, Ahrabian et al. (2024), The Hitchhiker's Guide to Human
    Alignment with *PO.
    """
    [said] = yield from ask_about(prompts, completions, model, [("logprobs", {})])
    n = pl.col("logprobs").list.len()
    known = said.filter(pl.col("number").is_not_null() & (n > 0)).select(
        "completion_id", "request_id", "number", mean=pl.col("number") / n, n=n.cast(pl.Float64)
    )
    scores = [
        known.select(
            pl.col("completion_id").alias("subject_id"),
            pl.lit("completion").alias("subject"),
            pl.lit(name).alias("score"),
            pl.lit(model.name).alias("model"),
            pl.col(column).alias("value"),
            pl.col("request_id"),
        )
        for name, column in _NAMES.items()
    ]
    if pairs is not None:
        rows = beside(pairs, known)
        for side in ("chosen", "rejected"):
            scores += [
                rows.select(
                    pl.col("pair_id").alias("subject_id"),
                    pl.lit("pair").alias("subject"),
                    pl.lit(name).alias("score"),
                    pl.lit(model.name).alias("model"),
                    pl.col(f"{column}_{side}").alias("value"),
                    pl.col(f"request_id_{side}").alias("request_id"),
                )
                for name, column in {
                    f"ref_logp_{side}": "number",
                    f"ref_logp_{side}_per_token": "mean",
                    f"n_tokens_{side}": "n",
                }.items()
            ]
    return Scores(pl.concat(scores))
