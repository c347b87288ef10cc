"""Ask a judge to rate each completion by itself, on one criterion or several."""

from typing import Literal

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.judge import Judge, ask
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Prompts, Ratings

Calls = Literal["one", "per_criterion"]


def pointwise(
    prompts: Prompts,
    completions: Completions,
    *,
    judge: Judge,
    model: Model,
    calls: Calls = "one",
    draws: int = 1,
    reask: bool = True,
) -> Asks[Ratings]:
    """One rating by `llm:<model>/<judge>` for each completion, criterion and draw.

    `rating` is 0 for the scale's worst and 1 for its best value, evenly between, whichever way the
    scale runs; `raw` is the value as it was given. Where a criterion does not apply, the rating is
    unscored as "not applicable". A reply without a well-formed verdict leaves all its criteria
    unscored with the reason, and is kept as their rationale; a failed request leaves them unscored
    with "error: ...".

    judge: a pointwise judge: the criteria, their scales, and what is asked.
    model: who is asked.
    calls: "one" asks for all criteria at once, which costs least; "per_criterion" asks for each
        by itself, so that one does not colour the others.
    draws: ratings by the same model for each completion; of use where it samples.
    reask: ask once more, with the complaint, where the first reply has no verdict.

    Raises `RecipeError` for a judge that is not pointwise and for fewer than one draw.

    Source: rating by rubric, a call for each aspect, follows Cui et al. 2023, "UltraFeedback";
    several attributes at once Wang et al. 2024, "HelpSteer2".
    """
    judge.must_be("pointwise", "annotate.pointwise", instead=", or use annotate.pairwise")
    if draws < 1:
        raise RecipeError(f"annotate.pointwise: draws = {draws}; it is at least 1")
    rows = (
        completions.join(prompts.select("prompt_id", "prompt"), on="prompt_id")
        .sort("prompt_id", "completion_id")  # those with a common beginning together
        .join(pl.DataFrame({"draw": range(draws)}, {"draw": pl.Int64}), how="cross")
    )
    names = [criterion.name for criterion in judge.criteria]
    asking = [judge] if calls == "one" else [judge.only(name) for name in names]
    asked = [(each.form(), _rendered(each, rows)) for each in asking]
    heard = yield from ask(asked, model, reask=reask)
    ratings = heard.rename({"key": "criterion", "worth": "rating"}).with_columns(
        annotator=pl.lit(f"llm:{model.name}/{judge.name}")
    )
    return Ratings(ratings.select(*tables.schema("ratings").columns))


def _rendered(judge: Judge, rows: pl.DataFrame) -> pl.DataFrame:
    texts = rows.select("prompt", "completion").rows()
    messages = tables.conversations("messages", (judge.render(*row) for row in texts))
    return rows.drop("prompt", "completion").with_columns(messages)
