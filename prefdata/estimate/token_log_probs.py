"""How likely a model finds each token of each completion, and what it would rather have said.

For trainers that weigh tokens: with log ref(y_t | x, y_<t) of every token, and in its place the k
likeliest tokens with their log-probabilities and that of all others together, such a trainer forms

    sum_t KL( ref(. | x, y_<t) || pi(. | x, y_<t) )

without the reference model. With all others taken for one token this is at most the true sum, and
the nearer to it the larger k is.
"""

import polars as pl

from prefdata.errors import RecipeError
from prefdata.estimate._sides import ask_about, completions_in
from prefdata.estimate.log_likelihood import END, End
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Likelihoods, Pairs, Prompts


def token_log_probs(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    *,
    model: Model,
    top: int = 0,
    end: End = END,
) -> Asks[Likelihoods]:
    """The `likelihoods` of completions, of those in pairs where there are some: one row each.

    A row has the ids of the tokens before the completion and of its own, the log-probability of
    each of these (nats; their sum is the score `logp` of estimate.log_likelihood) and, with `top`,
    the likeliest tokens in their places. A completion whose request failed has no row.

    Options:
    - `model`: whose likelihoods; the model to be trained, as it is before.
    - `top`: how many of the likeliest tokens in each place, at least 0. A completion of 500 tokens
      takes about 0.4 MB of the ledger for every 20 of them.
    - `end`: what of a completion's end is one of its tokens, as in estimate.log_likelihood.

    Raises `RecipeError` for a `top` below 0.

    Source: Zeng et al. (2024), Token-level Direct Preference Optimization, whose sequential KL
    divergence this serves.
    """
    if top < 0:
        raise RecipeError(
            f"estimate.token_log_probs: top is {top}; expected a number of at least 0"
        )
    if pairs is not None:
        completions = completions_in(pairs, completions)
    options = {"ids": True, **({"end": end} if end else {}), **({"top": top} if top else {})}
    [said] = yield from ask_about(prompts, completions, model, [("logprobs", options)])
    n = pl.col("logprobs").list.len().cast(pl.Int64)
    known = said.filter(n > 0).join(
        completions.select("completion_id", "prompt_id"), on="completion_id", maintain_order="left"
    )
    each = pl.element().list.eval
    return Likelihoods(
        known.select(
            "completion_id",
            model=pl.lit(model.name),
            prompt_id="prompt_id",
            prompt_token_ids=pl.col("token_ids").list.head(pl.col("token_ids").list.len() - n),
            token_ids=pl.col("token_ids").list.tail(n),
            logps=pl.col("logprobs").list.eval(pl.element().struct.field("logprob")),
            topk_ids=pl.col("top").list.eval(each(pl.element().struct.field("id"))),
            topk_logps=pl.col("top").list.eval(each(pl.element().struct.field("logprob"))),
            tail_logps="rest",
            request_id="request_id",
        )
    )
