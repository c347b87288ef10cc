"""What follows from a number for each completion: votes between completions of one prompt.

Completions of different prompts are never compared: what a reward adds to all completions of a
prompt says nothing and is not seen here.
"""

import math

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError


def answered(completions: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """Each completion with its prompt, `completion_id, prompt_id, prompt, completion, reference`;
    those with a common beginning together."""
    return completions.join(
        prompts.select("prompt_id", "prompt", "reference"), on="prompt_id"
    ).sort("prompt_id", "completion_id")


def sound(number: pl.Expr, error: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """A number that was given, and where none was, the reason."""
    reason = (
        pl.when(error.is_not_null())
        .then(pl.concat_str(pl.lit("error: "), error))
        .when(number.is_null())
        .then(pl.lit("error: the model gave no number"))
    )
    return pl.when(reason.is_null()).then(number), reason


def votes(
    rewards: pl.DataFrame, *, annotator: str, criterion: str, temperature: float | None
) -> pl.DataFrame:
    """A vote for each two completions of a prompt.

    `rewards` has `completion_id, prompt_id, value, unscored`. P(a preferred) is
    sigmoid((value of a - value of b) / temperature); without a temperature 1, 1/2 or 0. Nothing was
    shown in an order, so `a_first` is null.
    """
    one = rewards.select("prompt_id", "completion_id", "value", "unscored")
    both = one.join(one, on="prompt_id", suffix="_b").filter(
        pl.col("completion_id") < pl.col("completion_id_b")
    )
    lead = pl.col("value") - pl.col("value_b")
    if temperature is None:
        preference = (lead.sign() + 1) / 2
    else:
        preference = 1 / (1 + (-lead / temperature).exp())
    made = both.select(
        "prompt_id",
        completion_a="completion_id",
        completion_b="completion_id_b",
        preference=preference,
        unscored=pl.coalesce("unscored", "unscored_b"),
        annotator=pl.lit(annotator),
        criterion=pl.lit(criterion),
        draw=pl.lit(0, pl.Int64),
        a_first=pl.lit(None, pl.Boolean),
        rationale=pl.lit(None, pl.String),
        request_id=pl.lit(None, pl.String),
    )
    return made.select(*tables.schema("votes").columns).sort("completion_a", "completion_b")


def scores(values: pl.DataFrame, name: str, model: str, *, column: str = "value") -> pl.DataFrame:
    """Scores of the completions with a number in `column`; its `request_id` where there is one."""
    request = pl.col("request_id") if "request_id" in values.columns else pl.lit(None, pl.String)
    made = values.filter(pl.col(column).is_not_null()).select(
        subject_id="completion_id",
        subject=pl.lit("completion"),
        score=pl.lit(name),
        model=pl.lit(model),
        value=column,
        stderr=pl.lit(None, pl.Float64),
        request_id=request,
    )
    return made.select(*tables.schema("scores").columns)


def above_zero(stage: str, **options: float | None) -> None:
    for name, value in options.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise RecipeError(f"annotate.{stage}: {name} = {value}; it is a number above 0")
