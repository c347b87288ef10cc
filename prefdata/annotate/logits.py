"""How much a judge leans to one of two completions, from the probabilities of its next token.

The judge is asked for one letter, A or B, and is not constrained. What the letters' probabilities
say is kept whole:

    preference = P(first letter) / (P(A) + P(B)),   turned to P(completion_a preferred)

Shown in both orders, a judge that likes the first place leans to it in both, and what is left of
the two is its opinion: far more of it than in two opposite verdicts, at one written token a vote.

Source: Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and Chatbot Arena" for the two
orders; reading a verdict off its token probabilities follows Liu et al. 2023, "G-Eval".
"""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from prefdata import tables
from prefdata.annotate._showing import Orders, shown
from prefdata.judge import Judge
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Prompts, Votes

LETTERS = ("A", "B")
WORDING = "Answer with one letter only, A or B."


def logits(
    prompts: Prompts,
    completions: Completions,
    *,
    judge: Judge,
    model: Model,
    orders: Orders = "both",
    max_pairs: int | None = None,
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of `llm:<model>/<judge>:logits` for each pair and order, in between 0 and 1.

    A reply whose likely tokens hold neither letter, and a failed request, give an unscored vote
    with "error: ...". There is no tie: a judge without an opinion leans to neither.

    judge: a pairwise judge: what is asked; the form of its verdict is replaced by one letter.
    model: who is asked; its temperature does not matter.
    orders: "both"; "random", one order a vote, drawn from the seed and the ids; or "a_first", the
        smaller id first, which leaves the position bias in.
    max_pairs: at most so many pairs of each prompt, by a cyclic design; null: all.
    seed: what random orders and the choice of pairs come from.

    Raises `RecipeError` for a judge that is not pairwise and for fewer than one pair.
    """
    judge.must_be("pairwise", "annotate.logits")
    rows = shown(
        prompts, completions,
        orders=orders, draws=1, max_pairs=max_pairs, seed=seed, stage="annotate.logits",
    )  # fmt: skip
    texts = rows.select("prompt", "said_first", "said_second").rows()
    messages = [judge.render(*row, wording=WORDING) for row in texts]
    asked = requests(
        model,
        "choice",
        tables.conversations("messages", messages),
        options={"choices": list(LETTERS), "max_tokens": 1},
    )
    responses = yield asked
    said = responses.select("request_id", "logprobs", "error")
    rows = rows.with_columns(asked["request_id"])
    rows = rows.join(said, on="request_id", how="left", maintain_order="left")
    leaning = pl.Series("first", [_first(each) for each in rows["logprobs"].to_list()], pl.Float64)
    first = pl.col("first")
    votes = rows.with_columns(leaning).with_columns(
        preference=pl.when("a_first").then(first).otherwise(1 - first),
        unscored=pl.when(first.is_null()).then(
            pl.concat_str(pl.lit("error: "), pl.col("error").fill_null("no letter was likely"))
        ),
        annotator=pl.lit(f"llm:{model.name}/{judge.name}:logits"),
        criterion=pl.lit(judge.criteria[0].name),
        rationale=pl.lit(None, pl.String),
    )
    return Votes(votes.select(*tables.schema("votes").columns))


def _first(logprobs: Sequence[Mapping[str, float | str]] | None) -> float | None:
    """P(the completion shown first is preferred); None where no letter has a probability."""
    given = {each["token"]: math.exp(float(each["logprob"])) for each in logprobs or ()}
    shares = [given.get(letter, 0.0) for letter in LETTERS]
    return shares[0] / sum(shares) if sum(shares) > 0 else None
