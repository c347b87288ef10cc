"""Let a model answer each prompt, several times."""

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Dropped, Messages, Prompts, Samples, digest


def sample(
    prompts: Prompts, *, model: Model, n: int = 1, system: str | None = None
) -> Asks[tuple[Completions, Samples, Dropped]]:
    """Draws 0 to n-1 of the model for each prompt.

    Equal texts are one completion with several samples: it is judged once, and how often it was
    drawn is still known. The text is kept as the model gave it. A failed request ("error: ..."), a
    refusal by the endpoint ("refused") and a blank text ("empty completion") become no completion;
    the sample is then in `dropped` under `<prompt_id> <generator> <draw>`, with the reason. A text
    cut off by its length is kept, with `finish_reason` "length".

    model: who answers. Its name is the generator.
    n: draws for each prompt. Each is a request of its own, with another seed where there is one.
    system: a system message to put before each prompt, above the prompt's own if it has one. The
        generator is then named `<model>/system-<digest>`: it is another one.

    Source: several samples of several models for each prompt follow Cui et al. 2023,
    "UltraFeedback".
    """
    if n < 1:
        raise RecipeError(f"generate.sample: n = {n}; it is at least 1")
    generator = model.name if system is None else f"{model.name}/system-{digest(system)[:6]}"
    drawn = prompts.select("prompt_id", "prompt").sort("prompt_id")
    drawn = drawn.join(pl.DataFrame({"draw": range(n)}, {"draw": pl.Int64}), how="cross")
    messages = [_under(system, prompt) for prompt in drawn["prompt"].to_list()]
    asked = requests(model, "text", tables.conversations("messages", messages), draw=drawn["draw"])
    drawn = drawn.with_columns(asked["request_id"], generator=pl.lit(generator))
    responses = yield asked
    said = responses.select("request_id", "text", "finish_reason", "error")
    rows = drawn.join(said, on="request_id", how="left", maintain_order="left")
    rows = rows.with_columns(reason=_why_not())
    failed = rows.filter(pl.col("reason").is_not_null())
    made = rows.filter(pl.col("reason").is_null()).with_columns(tables.said("assistant", "text"))
    made = made.rename({"text": "completion"}).with_columns(parent_id=pl.lit(None, pl.String))
    made = made.with_columns(tables.completion_ids(made["prompt_id"], made["completion"]))
    columns = tables.schema("completions").columns
    return (
        Completions(made.select(*columns).unique("completion_id", maintain_order=True)),
        Samples(made.select(*tables.schema("samples").columns)),
        _dropped(failed),
    )


def _under(system: str | None, prompt: Messages) -> list[dict[str, str]]:
    turns = [dict(turn) for turn in prompt]
    if system is None:
        return turns
    if turns and turns[0]["role"] == "system":
        system = f"{system}\n\n{turns.pop(0)['content']}"
    return [{"role": "system", "content": system}, *turns]


def _why_not() -> pl.Expr:
    """Why a response is no completion, or null."""
    blank = pl.col("text").fill_null("").str.strip_chars() == ""
    return (
        pl.when(pl.col("error").is_not_null())
        .then(pl.concat_str(pl.lit("error: "), "error"))
        .when(blank & (pl.col("finish_reason") == "content_filter"))
        .then(pl.lit("refused"))
        .when(blank)
        .then(pl.lit("empty completion"))
    )


def _dropped(failed: pl.DataFrame) -> Dropped:
    key = pl.concat_str("prompt_id", "generator", pl.col("draw").cast(pl.String), separator=" ")
    return Dropped(
        failed.select(
            pl.lit("samples").alias("table"),
            key.alias("key"),
            pl.lit("generate.sample").alias("stage"),
            "reason",
        )
    )
