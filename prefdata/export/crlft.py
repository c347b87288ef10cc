"""Conversations whose parts weigh by where they come from: class-conditioned fine-tuning.

`items` are messages with a `weight`: that of its class for what the assistant says in the
completion, 0 for the rest; `condition` names the class, which the trainer puts before both roles
("GPT4 User:", "GPT4 Assistant:"), and `system` stands by itself. The optimum of rewarded
fine-tuning with a reward r_c for each class c weighs it by exp(r_c / beta).

Source: Wang et al. (2024), OpenChat: Advancing Open-source Language Models with Mixed-Quality Data
(C-RLFT); weights are not normalised anew in each batch.
"""

from collections.abc import Mapping

import polars as pl

from prefdata.errors import RecipeError, TableError
from prefdata.export._generators import by_generator
from prefdata.export._texts import with_texts
from prefdata.tables import Completions, Pairs, Prompts, Rows, Samples, check

SCOPE = "all"  # a generator that some prompts lack is no mistake
SAVED_AS = "jsonl"


def crlft(
    prompts: Prompts,
    completions: Completions,
    samples: Samples | None = None,
    pairs: Pairs | None = None,
    *,
    classes: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Rows:
    """One row a completion and class, by `completion_id` and `condition`.

    Without `classes`, completions of pairs: the chosen are of class "good", the rejected "bad",
    one that is both has a row for each. With `classes`, {generator = class}, completions are of
    the class of their generator, and those of other generators have no row. `weights` are {class =
    weight}, at least 0; by default 1 for "good" and 0.1 for others.

    Raises `RecipeError` for a weight below 0 and for a generator without a sample.
    """
    where = "export.crlft"
    for name, weight in (weights or {}).items():
        if not 0 <= weight < float("inf"):
            raise RecipeError(f"{where}: the weight of {name!r} is {weight}; at least 0")
    if classes:
        classed = by_generator(samples, classes, pl.String, option="classes", where=where)
        classed = classed.rename({"said": "condition"})
    else:
        classed = _by_side(pairs, where)
    own = {"good": 1.0, **(weights or {})}
    weight = pl.col("condition").replace_strict(
        list(own), list(own.values()), default=0.1, return_dtype=pl.Float64
    )
    of_prompt = completions.select("completion_id", "prompt_id")
    rows = classed.unique().join(of_prompt, on="completion_id").with_columns(weight=weight)
    rows = with_texts(rows, prompts, completions, "completion")
    is_system = pl.element().struct.field("role") == "system"
    spoken = pl.col("prompt").list.eval(pl.element().filter(~is_system))
    system = pl.col("prompt").list.eval(pl.element().filter(is_system).struct.field("content"))
    rows = rows.with_columns(said=spoken, system=system.list.join("\n"))
    parts = [
        rows.select("completion_id", "condition", at=pl.lit(at), turn=column, weight=weighs)
        .explode("turn")
        .with_columns(n=pl.int_range(pl.len()).over("completion_id", "condition"))
        for at, (column, weighs) in enumerate(
            (("said", pl.lit(0.0)), ("completion", pl.col("weight")))
        )
    ]
    turn = pl.col("turn").struct
    by_assistant = turn.field("role") == "assistant"
    item = pl.struct(
        turn.field("role"),
        turn.field("content"),
        pl.when(by_assistant).then("weight").otherwise(0.0).alias("weight"),
    )
    items = (
        pl.concat(parts)
        .filter(pl.col("turn").is_not_null())
        .sort("completion_id", "condition", "at", "n")
        .group_by("completion_id", "condition", maintain_order=True)
        .agg(items=item)
    )
    made = rows.select("completion_id", "condition", "prompt_id", "system").join(
        items, on=["completion_id", "condition"]
    )
    return Rows(check("crlft", made, where=where))


def _by_side(pairs: Pairs | None, where: str) -> pl.DataFrame:
    if pairs is None:
        raise TableError(f"{where}: no stage made pairs; give classes, or a stage that makes some")
    named = {"chosen": "good", "rejected": "bad"}
    return pl.concat(
        pairs.select(completion_id=f"{side}_id", condition=pl.lit(name))
        for side, name in named.items()
    )
