"""Pairs as rows of TRL's dataset type *preference*: `prompt`, `chosen`, `rejected`.

Beside these stand `pair_id`, `prompt_id`, `chosen_id`, `rejected_id`, by which a row can be
followed, and `margin`, `soft_label`, `n_votes`, `weight`. `margin` is left out when no pair has
one; where it is there, TRL's RewardTrainer takes it for the margin of its loss.
"""

from collections.abc import Callable, Sequence
from functools import partial

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._named import is_of, with_score
from prefdata.export._policy import Policy, Ties, kept
from prefdata.export._texts import refuse_joint
from prefdata.stage import Parts, whole
from prefdata.tables import Completions, Format, Pairs, Prompts, Rows, Scores, check, plain
from prefdata.tool_calls import NO_FIELDS, ToolCalls, as_fields

# What trainers call a score that they read, whichever model gave it.
TRL = {"ref_logp_chosen": "ref_chosen_logps", "ref_logp_rejected": "ref_rejected_logps"}
SCOPE = "all"  # a name in `columns` is wrong only if no prompt has it


def pairwise(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    scores: Scores | None = None,
    *,
    format: Format = "conversational",
    explicit_prompt: bool = True,
    columns: Sequence[str] = (),
    policy: Policy = "all",
    ties: Ties = "keep",
    tool_calls: ToolCalls = "text",
    seed: int = 0,
) -> Rows:
    """One row a pair, by `pair_id`.

    `format` "conversational" keeps messages; "standard" gives plain strings and raises
    `TableError` where a prompt or completion has several messages. `explicit_prompt` false puts
    the prompt's messages before both completions and has no column `prompt`: the only form for
    pairs whose completions answer different prompts. `columns` names scores about pairs, each of
    which becomes a column (null where a pair has none); `name@model` picks one of several models.
    `ref_logp_chosen` and `ref_logp_rejected`, of whichever model, are called `ref_chosen_logps` and
    `ref_rejected_logps`, as TRL calls the reference's log-probabilities that it need not compute.

    `policy` is which pairs of a prompt have a row: "all", the one of the "widest" margin, or one at
    "random" by `seed`. `ties` "drop" leaves out pairs whose soft label is 1/2. With `tool_calls`
    "fields" messages have a field `tool_calls` and rows a column `tools`, where there are some, as
    TRL reads them; else what is called and offered is text in the messages.

    Raises `RecipeError` for a column that no pair's score has the name of, or several models gave.

    Source: TRL, dataset formats and types (preference, explicit and implicit prompt).
    """
    steps = _in_parts(format, explicit_prompt, columns, policy, ties, tool_calls, seed)
    return whole(steps, prompts, completions, pairs, scores)


def in_parts(
    *,
    format: Format = "conversational",
    explicit_prompt: bool = True,
    columns: Sequence[str] = (),
    policy: Policy = "all",
    ties: Ties = "keep",
    tool_calls: ToolCalls = "text",
    seed: int = 0,
) -> Parts[Rows] | None:
    """The export by shards; not with calls as fields, whose columns all rows decide."""
    if tool_calls == "fields":
        return None
    return _in_parts(format, explicit_prompt, columns, policy, ties, tool_calls, seed)


def _in_parts(
    format: Format,
    explicit_prompt: bool,
    columns: Sequence[str],
    policy: Policy,
    ties: Ties,
    tool_calls: ToolCalls,
    seed: int,
) -> Parts[Rows]:
    if format == "standard" and not explicit_prompt:
        raise RecipeError(
            "export.pairwise: plain strings need a column prompt, since how to join two strings is "
            'not given; use explicit_prompt = true or format = "conversational"'
        )
    if format == "standard" and tool_calls == "fields":
        raise RecipeError(f"export.pairwise: {NO_FIELDS}")
    chosen = partial(kept, policy=policy, ties=ties, seed=seed)
    there = yield partial(_there, chosen)
    form = partial(_written, format=format, explicit_prompt=explicit_prompt, tool_calls=tool_calls)
    return partial(_rows, chosen, form, columns, there.unique())


def _there(
    chosen: Callable[[Pairs], Pairs],
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    scores: Scores | None,
) -> pl.DataFrame:
    """The scores that pairs have and whose, and `margin` under no name where some have one."""
    types = {"subject": pl.String, "score": pl.String, "model": pl.String, "margin": pl.Boolean}
    named = tables.empty("scores") if scores is None else pl.DataFrame(scores)
    named = named.filter(pl.col("subject") == "pair").with_columns(margin=pl.lit(False))
    margin = chosen(pairs)["margin"].is_not_null().any()
    own = pl.DataFrame([{"margin": margin}], schema=types)
    return pl.concat([named.select(*types).unique(), own])


def _rows(
    chosen: Callable[[Pairs], Pairs],
    form: Callable[[Prompts, Completions, Pairs], pl.DataFrame],
    columns: Sequence[str],
    there: pl.DataFrame,
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    scores: Scores | None,
) -> Rows:
    rows = form(prompts, completions, chosen(pairs))
    if not there["margin"].any():
        rows = rows.drop("margin")
    for wanted in columns:
        name = TRL.get(wanted.partition("@")[0], wanted)
        if name in rows.columns:
            raise RecipeError(f"export.pairwise: the row has a column {name!r} of its own already")
        if scores is None:
            raise RecipeError(
                f"export.pairwise: the column {wanted!r} is wanted, but no stage made scores"
            )
        is_there, is_here = (rows.select(is_of(wanted).any()).item() for rows in (there, scores))
        elsewhere = is_there and not is_here
        known = scores.clear() if elsewhere else scores
        rows = with_score(rows, known, wanted, where="export.pairwise", column=name)
    return Rows(rows)


def _written(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    *,
    format: Format,
    explicit_prompt: bool,
    tool_calls: ToolCalls,
) -> pl.DataFrame:
    rows = _with_messages(prompts, completions, pairs, explicit_prompt)
    rows = check("pairwise", rows, where="export.pairwise")
    if format == "standard":
        rows = plain(rows, "prompt", "chosen", "rejected", where="export.pairwise")
    if tool_calls == "fields":
        rows = as_fields(rows, "prompt", "chosen", "rejected", where="export.pairwise")
    return rows if explicit_prompt else rows.drop("prompt")


def _with_messages(
    prompts: Prompts, completions: Completions, pairs: Pairs, explicit_prompt: bool
) -> pl.DataFrame:
    asked = prompts.select("prompt_id", "prompt")
    answers = completions.select("completion_id", pl.col("completion").alias("answer"))
    if explicit_prompt:
        refuse_joint(pairs, where="export.pairwise", instead="use explicit_prompt = false")
        rows = pairs.join(asked, on="prompt_id", how="left")
    else:
        own = completions.select("completion_id", "prompt_id").join(asked, on="prompt_id")
        whole = pl.col("prompt").list.concat(pl.col("answer"))
        answers = answers.join(own, on="completion_id").select("completion_id", answer=whole)
        rows = pairs.with_columns(prompt=pl.lit([], dtype=prompts.schema["prompt"]))
    for side in ("chosen", "rejected"):
        said = answers.rename({"completion_id": f"{side}_id", "answer": side})
        rows = rows.join(said, on=f"{side}_id", how="left")
    return rows.drop("annotator", "split", strict=False)
