"""How much a judge leans to one of two completions, from the probabilities of its next token.

The judge is asked for one letter, A or B, and is not constrained. What the letters' probabilities
say is kept whole:

    preference = P(first letter) / (P(A) + P(B)),   turned to P(completion_a preferred)

Where P(A) + P(B) is next to nothing, the judge was about to say something else, and the ratio of
the two is that of two accidents: it is no vote.

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
from prefdata.errors import RecipeError
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
    min_letters: float = 0.01,
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of `llm:<model>/<judge>:logits` for each pair and order, in between 0 and 1.

    A reply whose likely tokens hold neither letter, or both only with a probability below
    `min_letters`, gives an unscored vote, as does a failed request ("error: ..."). There is no tie:
    a judge without an opinion leans to neither.

    judge: a pairwise judge: what is asked; the form of its verdict is replaced by one letter.
    model: who is asked; its temperature does not matter.
    orders: "both"; "random", one order a vote, drawn from the seed and the ids; or "a_first", the
        smaller id first, which leaves the position bias in.
    max_pairs: at most so many pairs of each prompt, by a cyclic design; null: all.
    min_letters: the least P(A) + P(B) of a vote, in [0, 1]; a model that does not tell it is
        taken at its word.
    seed: what random orders and the choice of pairs come from.

    Raises `RecipeError` for a judge that is not pairwise, for fewer than one pair, and for a
    `min_letters` out of range.
    """
    judge.must_be("pairwise", "annotate.logits")
    if not 0 <= min_letters <= 1:
        raise RecipeError(
            f"annotate.logits: min_letters = {min_letters}; expected a probability in [0, 1]"
        )
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
    said = responses.select("request_id", "logprobs", "error", letters="number")
    rows = rows.with_columns(asked["request_id"])
    rows = rows.join(said, on="request_id", how="left", maintain_order="left")
    leaning = pl.Series("first", [_first(each) for each in rows["logprobs"].to_list()], pl.Float64)
    first, letters = pl.col("first"), pl.col("letters")
    failed = pl.concat_str(pl.lit("error: "), pl.col("error").fill_null("no letter was likely"))
    unlikely = pl.format(
        f"A and B together have {{}}, below {min_letters:g}", letters.round_sig_figs(2)
    )
    unscored = pl.when(first.is_null()).then(failed).when(letters < min_letters).then(unlikely)
    votes = (
        rows.with_columns(leaning)
        .with_columns(unscored=unscored)
        .with_columns(
            preference=pl.when(pl.col("unscored").is_null()).then(
                pl.when("a_first").then(first).otherwise(1 - first)
            ),
            annotator=pl.lit(f"llm:{model.name}/{judge.name}:logits"),
            criterion=pl.lit(judge.criteria[0].name),
            rationale=pl.lit(None, pl.String),
        )
    )
    return Votes(votes.select(*tables.schema("votes").columns))


def _first(logprobs: Sequence[Mapping[str, float | str]] | None) -> float | None:
    """P(the completion shown first is preferred); None where no letter has a probability."""
    given = {each["token"]: math.exp(float(each["logprob"])) for each in logprobs or ()}
    shares = [given.get(letter, 0.0) for letter in LETTERS]
    return shares[0] / sum(shares) if sum(shares) > 0 else None
