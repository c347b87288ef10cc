"""Rate completions by what the user is likely to say next: thanks, or a complaint.

A language model reads the conversation with the completion, and how likely it finds each of some
follow-ups of the user is measured:

    l(f) = mean over f's tokens of log p(token | prompt, completion, user's turn, tokens before)
    reward = mean of l over the positive follow-ups - mean of l over the negative ones

It is the difference that tells: either half alone mostly says how usual any reply is here. A
follow-up is the next turn of the user, after the template's header of one; its tokens alone
count, and their mean, so that a longer wording is not less likely.

Source: Zhang et al. 2024, "Aligning language models using follow-up likelihood as reward signal".
"""

from collections.abc import Sequence

import polars as pl

from prefdata import tables
from prefdata.annotate._implied import likelihoods
from prefdata.annotate._rewards import above_zero, answered, scores, votes
from prefdata.errors import RecipeError
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Prompts, Scores, Votes

POSITIVE = (
    "Thank you, that is just what I needed.",
    "That answers my question completely.",
    "Great, that is correct.",
    "That was explained very clearly.",
    "Interesting! Can you tell me more about it?",
)
NEGATIVE = (
    "That is not what I needed.",
    "That does not answer my question.",
    "No, that is wrong.",
    "I do not understand what you are saying.",
    "That is boring. Let us stop here.",
)


def follow_up(
    prompts: Prompts,
    completions: Completions,
    *,
    model: Model,
    positive: Sequence[str] = POSITIVE,
    negative: Sequence[str] = NEGATIVE,
    summed: bool = False,
    temperature: float | None = None,
    criterion: str = "follow_up",
) -> Asks[tuple[Scores, Votes]]:
    """Each completion's `follow_up`, in nats a token, and votes from the differences.

    Scores about completions are `follow_up`, and its two halves `follow_up_positive` and
    `follow_up_negative`. Votes are by `reward:<model>/follow_up`, without an order. Where one of
    the follow-ups failed there is no score, and the votes are unscored with "error: ...".

    model: who is asked for `logprobs`; one that was taught to converse.
    positive: what a content user says.
    negative: what a discontent user says.
    summed: the sum over a follow-up's tokens in place of their mean; only of use where all are
        about equally long.
    temperature: P(a preferred) = sigmoid(difference / temperature); null: votes are 1, 1/2 or 0.
    criterion: what the votes are said to be about.

    Raises `RecipeError` where either list is empty, has an empty text or one that is in both.
    """
    above_zero("follow_up", temperature=temperature)
    said = [*positive, *negative]
    if not positive or not negative or not all(each.strip() for each in said):
        raise RecipeError(
            "annotate.follow_up: positive and negative need texts: the reward is their difference"
        )
    if len(set(said)) < len(said):
        twice = next(each for each in said if said.count(each) > 1)
        raise RecipeError(f"annotate.follow_up: {twice!r} is named twice")
    rows = answered(completions, prompts)
    follows = pl.DataFrame({"follow": said, "good": [each in positive for each in said]})
    # The follow-ups of a completion stand together: what is before them is read once.
    every = rows.join(follows, how="cross")
    turns = tables.conversations(
        "turns", ([{"role": "user", "content": each}] for each in every["follow"])
    )
    context = every.select(context=pl.col("prompt").list.concat("completion"))["context"]
    asked = requests(model, "logprobs", context, completion=turns)
    responses = yield asked
    heard = likelihoods(every.drop("prompt", "completion"), asked, responses)
    value = pl.col("log_p") if summed else pl.col("log_p") / pl.col("tokens")
    key = ["prompt_id", "completion_id"]
    halves = (
        heard.with_columns(value=value)
        .group_by(key, maintain_order=True)
        .agg(
            positive=pl.col("value").filter("good").mean(),
            negative=pl.col("value").filter(~pl.col("good")).mean(),
            unscored=pl.col("unscored").drop_nulls().first(),
        )
    )
    known = pl.when(pl.col("unscored").is_null())
    rewards = halves.with_columns(
        positive=known.then("positive"),
        negative=known.then("negative"),
        value=known.then(pl.col("positive") - pl.col("negative")),
    )
    made = [
        scores(rewards, name, model.name, column=column)
        for name, column in (
            ("follow_up", "value"),
            ("follow_up_positive", "positive"),
            ("follow_up_negative", "negative"),
        )
    ]
    voted = votes(
        rewards,
        annotator=f"reward:{model.name}/follow_up",
        criterion=criterion,
        temperature=temperature,
    )
    return Scores(pl.concat(made)), Votes(voted)
