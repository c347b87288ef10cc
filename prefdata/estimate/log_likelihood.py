"""How likely a model finds each completion: of the whole, and of each token on average.

    logp = sum over the completion's tokens t of log pi(y_t | x, y_<t)          (nats, at most 0)

The tokens are those that the model's own chat template gives the completion, its end included, and
none of the prompt's.
"""

from typing import Literal

import polars as pl

from prefdata.estimate._named import scores_of
from prefdata.estimate._sides import SIDES, ask_about, beside
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Pairs, Prompts, Scores

End = bool | Literal["template"]

# As trainers read it: the whole conversation less what the model is asked with.
END: End = "template"
_NAMES = {"logp": "number", "logp_per_token": "mean", "n_tokens": "n"}


def log_likelihood(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    *,
    model: Model,
    end: End = END,
) -> Asks[Scores]:
    """Score each completion's `logp` (nats), `logp_per_token` and `n_tokens` under a model.

    With pairs these also have `ref_logp_chosen`, `ref_logp_rejected`, the same with `_per_token`,
    and `n_tokens_chosen`, `n_tokens_rejected`: what a trainer takes for precomputed log
    probabilities of the reference model, as columns of an export. A completion whose request
    failed, or without a token, has no score, nor has its pair.

    Options:
    - `model`: whose likelihoods; the model to be trained, as it is before.
    - `end`: what of a completion's end is one of its tokens: "template", all that the chat template
      writes after it, which is what TRL trains on (where the template ends a turn by a token and a
      line break, both); true, the token that ends the turn; false, nothing.

    Source: Rafailov et al. (2023), Direct Preference Optimization, whose reference log
    probabilities these are; per token, Ahrabian et al. (2024), The Hitchhiker's Guide to Human
    Alignment with *PO.
    """
    options = {"end": end} if end else {}
    [said] = yield from ask_about(prompts, completions, model, [("logprobs", options)])
    return Scores(scored(said, pairs, model))


def scored(said: pl.DataFrame, pairs: Pairs | None, model: Model) -> pl.DataFrame:
    """The scores of completions, and beside their pairs, from the log-probabilities of tokens."""
    n = pl.col("logprobs").list.len()
    known = said.filter(pl.col("number").is_not_null() & (n > 0)).select(
        "completion_id", "request_id", "number", mean=pl.col("number") / n, n=n.cast(pl.Float64)
    )
    made = [scores_of("completion", known, _NAMES, model=model.name, request_id="request_id")]
    if pairs is not None:
        rows = beside(pairs, known)
        for side in SIDES:
            values = {
                f"ref_logp_{side}": f"number_{side}",
                f"ref_logp_{side}_per_token": f"mean_{side}",
                f"n_tokens_{side}": f"n_{side}",
            }
            request = f"request_id_{side}"
            made.append(scores_of("pair", rows, values, model=model.name, request_id=request))
    return pl.concat(made)
