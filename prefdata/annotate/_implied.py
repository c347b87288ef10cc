"""Log-probabilities of given texts, and the ratio of two models'."""

import polars as pl

from prefdata.annotate._rewards import sound
from prefdata.estimate.log_likelihood import END
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Requests


def likelihoods(rows: pl.DataFrame, asked: Requests, responses: pl.DataFrame) -> pl.DataFrame:
    """`rows` with `log_p` (the sum over the tokens), `tokens` (how many) and `unscored`."""
    said = responses.select("request_id", "number", "error", tokens=pl.col("logprobs").list.len())
    heard = rows.with_columns(asked["request_id"])
    heard = heard.join(said, on="request_id", how="left", maintain_order="left")
    value, unscored = sound(pl.col("number"), pl.col("error"))
    none = pl.when(unscored.is_null() & (pl.col("tokens").fill_null(0) == 0))
    unscored = pl.coalesce(unscored, none.then(pl.lit("error: the model gave no tokens")))
    heard = heard.with_columns(log_p=value, unscored=unscored).drop("number", "error")
    return heard.with_columns(log_p=pl.when(pl.col("unscored").is_null()).then("log_p"))


def implied(
    rows: pl.DataFrame, policy: Model, reference: Model, *, per_token: bool
) -> Asks[pl.DataFrame]:
    """Rows of `prompt, completion` with `log_ratio`, null and `unscored` where there is none.

    Where a completion ends is part of what a policy was taught to prefer: its end counts, as
    trainers have it. The requests are those of estimate.log_likelihood. `request_id` is the
    policy's.
    """
    prompt, said = rows["prompt"], rows["completion"]
    asked = [
        requests(each, "logprobs", prompt, completion=said, options={"end": END})
        for each in (policy, reference)
    ]
    responses = yield Requests(pl.concat(asked))
    ours, theirs = (likelihoods(rows, each, responses) for each in asked)
    value = [
        each["log_p"] / each["tokens"] if per_token else each["log_p"] for each in (ours, theirs)
    ]
    return ours.with_columns(
        log_ratio=value[0] - value[1],
        unscored=pl.coalesce(ours["unscored"], theirs["unscored"]),
    ).drop("log_p", "tokens")
