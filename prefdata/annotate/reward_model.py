"""Score completions by reward models, and compare them by what the scores differ.

A reward model gives one number for a prompt and a completion. Its zero and, between models, its
unit mean nothing, so the number itself is kept as a score. As trained, its difference is the
log-odds of a preference (Bradley-Terry):

    P(a preferred) = sigmoid((r_a - r_b) / temperature)

Several models are several annotators, an ensemble: how far they differ on a pair shows how far its
label can be trusted. One model asked twice is not one: its spread is 0 whatever the pair is.

Source: Ouyang et al. 2022, "Training language models to follow instructions with human feedback"
for the reward model; ensembles follow Wang et al. 2024, "Secrets of RLHF in large language models
part II: Reward modeling".
"""

from collections.abc import Sequence

import polars as pl

from prefdata import tables
from prefdata.annotate._rewards import above_zero, answered, scores, sound, votes
from prefdata.errors import RecipeError
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Prompts, Ratings, Requests, Scores, Votes


def reward_model(
    prompts: Prompts,
    completions: Completions,
    *,
    models: Sequence[Model],
    temperature: float | None = 1.0,
    centre: float = 0.0,
    width: float = 1.0,
    criterion: str = "reward",
) -> Asks[tuple[Scores, Votes, Ratings]]:
    """Each model's `reward` of each completion, and what it says about each two of a prompt.

    Scores `reward` are about completions, as the model gave them, any real number. Votes are by
    `reward:<model>`, one for each two completions of a prompt, without an order (`a_first` null).
    Ratings are sigmoid((reward - centre) / width), in (0, 1), which keeps the order; `raw` is the
    reward. A failed request gives no score, and an unscored rating and votes with "error: ...".

    models: those to ask, each an annotator of its own.
    temperature: what differences of rewards are divided by; null: hard votes, 1, 1/2 or 0.
    centre: the reward that is rated 1/2.
    width: how much more reward brings a rating from 0.5 to 0.73.
    criterion: what votes and ratings are said to be about.

    Raises `RecipeError` without models, for a model that is named twice or served twice under two
    names, and for a temperature or width that is not above 0.
    """
    above_zero("reward_model", temperature=temperature, width=width)
    _refuse_repeated(models)
    rows = answered(completions, prompts)
    asked = [
        requests(model, "reward", rows["prompt"], completion=rows["completion"]) for model in models
    ]
    responses = yield Requests(pl.concat(asked))
    said = responses.select("request_id", "number", "error")
    made: list[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]] = []
    for model, each in zip(models, asked, strict=True):
        heard = rows.select("prompt_id", "completion_id").with_columns(each["request_id"])
        heard = heard.join(said, on="request_id", how="left", maintain_order="left")
        value, unscored = sound(pl.col("number"), pl.col("error"))
        heard = heard.with_columns(value=value, unscored=unscored)
        annotator = f"reward:{model.name}"
        rating = 1 / (1 + (-(pl.col("value") - centre) / width).exp())
        ratings = heard.with_columns(
            rating=rating,
            raw=pl.col("value").cast(pl.String),
            annotator=pl.lit(annotator),
            criterion=pl.lit(criterion),
            draw=pl.lit(0, pl.Int64),
            rationale=pl.lit(None, pl.String),
        )
        voted = votes(heard, annotator=annotator, criterion=criterion, temperature=temperature)
        rated = ratings.select(*tables.schema("ratings").columns)
        made.append((scores(heard, "reward", model.name), voted, rated))
    scored, voted, rated = (pl.concat(parts) for parts in zip(*made, strict=True))
    return Scores(scored), Votes(voted), Ratings(rated)


def _refuse_repeated(models: Sequence[Model]) -> None:
    if not models:
        raise RecipeError("annotate.reward_model: models is empty; name at least one")
    for what, names in (
        ("name", [model.name for model in models]),
        ("weights", [model.identity or model.name for model in models]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RecipeError(
                f"annotate.reward_model: two models have the {what} {twice[0]!r}; "
                "an ensemble is of different models: one asked twice always agrees with itself"
            )
