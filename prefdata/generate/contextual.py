"""Ask for contexts under which each of two completions is the better one, and keep what a judge
confirms.

1. *Criteria*: a model sees a prompt and two completions, in an order drawn anew, and names for each
   of them a reasonable criterion by which it is the better one.
2. *Scenarios*: for each criterion it describes who asks, so that the criterion follows from it and
   is not named. It does not see the completions.
3. *Profiles*: of people who are described beforehand, the same for all prompts, the judge is asked
   for each which completion they would prefer; one who prefers either makes two contexts.
4. *Check*: each context is put into the prompt, and a judge compares the two completions under it,
   in both orders. It must prefer the intended one both times, under both contexts of the two.

Contexts come in twos with opposite labels, or not at all: who reads no context is right in exactly
half of them, whatever else is preferred. What comes from one prompt is one `group`, so no split
parts siblings.

Source: Pitis et al. 2024, "Improving Context-Aware Preference Modeling for Language Models"
(reasonable preference reversal); prompts in our own words.
"""

from collections.abc import Sequence

import polars as pl

from prefdata import tables
from prefdata.annotate._showing import shown
from prefdata.errors import RecipeError
from prefdata.generate._contexts_found import about_people, about_replies, found, not_naming
from prefdata.generate._in_context import TOLD, Kind, Place, in_context, judged
from prefdata.generate._profiles import picked
from prefdata.judge import Judge
from prefdata.measure._contexts import TAG, holds_context
from prefdata.stage import Asks, Model
from prefdata.tables import SIDES, Completions, Dropped, Pairs, Prompts, Votes


def contextual(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    *,
    model: Model,
    judge: Judge,
    checker: Model | None = None,
    kinds: Sequence[Kind] = ("criterion", "scenario"),
    profiles: Sequence[str] = (),
    place: Place = "system",
    max_pairs: int | None = 1,
    reask: bool = True,
    seed: int = 0,
) -> Asks[tuple[Prompts, Completions, Votes, Dropped]]:
    """All prompts and completions, with those in context, and votes on these.

    A prompt in context has the tag `context:` and the kind of context, and the source, user and
    group of the one that it is made from (which becomes a group, named by its id, if it has none).
    Both completions stand under it once more. The label that was asked for is a vote of
    `llm:<model>/contextual`, `a_first` unknown; those that confirm it are the judge's, on whom
    alone the label of a profile rests. Where there are pairs, contexts are made for these, else
    for pairs of completions of each prompt; none are made for prompts that have one.

    Two contexts that cannot be read, are equal, say where a reply stood, name the criterion in a
    scenario, or are not confirmed are no prompts; `dropped` has why, under
    `<completion_a> <completion_b> <kind>`.

    model: who finds contexts.
    judge: a pairwise judge that goes by what a prompt says, such as "in-context".
    checker: who is asked as the judge; null: `model`.
    kinds: which contexts become prompts: "criterion", "scenario", "profile". Scenarios are made of
        criteria, which are then asked for in any case.
    profiles: descriptions of people, for the kind "profile": two at least, that differ in taste.
    place: where the context stands: "system", a message of its own, so that it can be told apart;
        "before" or "after" the text of the prompt's last message.
    max_pairs: where there are no pairs, at most so many of each prompt, by a cyclic design; null:
        all.
    reask: ask once more, with the complaint, where a reply cannot be read.
    seed: what the orders and the choice of pairs come from.
    """
    judge.must_be("pairwise", "generate.contextual", instead=', such as "in-context"')
    if not kinds:
        raise RecipeError("generate.contextual: kinds = []; name at least one")
    if ("profile" in kinds) != (len(profiles) > 1):
        raise RecipeError(
            f'generate.contextual: the kind "profile" and two or more profiles go together; there '
            f"are {len(profiles)}, and kinds = {list(kinds)}"
        )
    seeds = Prompts(prompts.filter(~holds_context(prompts)))
    rows = shown(
        seeds, completions, orders="random", draws=1, max_pairs=max_pairs, seed=seed,
        stage="generate.contextual", pairs=pairs,
    )  # fmt: skip
    who = checker or model
    told = [pl.DataFrame(schema=TOLD)]
    if "profile" in kinds:
        told.append(
            (yield from picked(rows, profiles, seeds, completions, place, judge, who, reask, seed))
        )
    criteria = pl.DataFrame(schema=TOLD)
    if {"criterion", "scenario"} & {*kinds}:
        criteria = yield from found(rows, "criterion", about_replies(rows), model, reask)
    if "criterion" in kinds:
        told.append(criteria)
    if "scenario" in kinds:
        sound = criteria.filter(pl.col("fault").is_null())
        both = sound.group_by(SIDES).agg(
            a=pl.col("text").filter("prefers_a").first(),
            b=pl.col("text").filter(~pl.col("prefers_a")).first(),
        )
        again = rows.join(both, on=SIDES, maintain_order="left")
        scenarios = yield from found(again, "scenario", about_people(again), model, reask)
        told.append(not_naming(scenarios, sound))
    named = pl.concat(told)
    made = in_context(named.filter(pl.col("fault").is_null()), seeds, completions, place)
    verdicts = yield from judged(made, judge, who, reask)
    named = named.join(_refuted(made, verdicts), on=[*SIDES, "kind"], how="left")
    named = named.with_columns(fault=pl.coalesce("fault", "refuted"))
    kept = made.join(named.filter(pl.col("fault").is_null()), on=[*SIDES, "kind"], how="semi")
    return (
        Prompts(_with_prompts(prompts, kept)),
        Completions(_with_completions(completions, kept)),
        Votes(_votes(kept, verdicts, model, judge)),
        Dropped(_dropped(named)),
    )


def _refuted(made: pl.DataFrame, judged: Votes) -> pl.DataFrame:
    """Why the contexts of two completions and a kind do not hold, as `refuted`."""
    votes = judged.select(new_a="completion_a", new_b="completion_b", said="preference")
    rows = made.join(votes, on=["new_a", "new_b"], how="left")
    meant = pl.when(pl.col("preference") == 1).then("said").otherwise(1 - pl.col("said"))
    counts = rows.group_by(*SIDES, "kind").agg(
        n=pl.len(), silent=pl.col("said").null_count(), confirmed=(meant > 0.5).sum()
    )
    return counts.select(
        *SIDES,
        "kind",
        refuted=pl.when(pl.col("confirmed") < pl.col("n")).then(
            pl.format(
                "the judge confirms {} of {} labels, {} without a verdict",
                "confirmed", "n", "silent",
            )
        ),
    )  # fmt: skip


def _with_prompts(prompts: Prompts, kept: pl.DataFrame) -> pl.DataFrame:
    parents = kept["prompt_id"].unique()
    named = pl.when(pl.col("prompt_id").is_in(parents.implode())).then("prompt_id")
    before = prompts.with_columns(group=pl.coalesce("group", named))
    tag = pl.concat_list(pl.lit(TAG) + pl.col("kind"))
    new = kept.select(
        pl.col("context_id").alias("prompt_id"),
        pl.col("context").alias("prompt"),
        "source",
        "user",
        group=pl.coalesce("group", "prompt_id"),
        tags=pl.concat_list(pl.col("tags").fill_null([]), tag).list.sort(),
    )
    new = new.unique("prompt_id").join(prompts, on="prompt_id", how="anti")
    return tables.union("prompts", before, new, where="generate.contextual")


def _with_completions(completions: Completions, kept: pl.DataFrame) -> pl.DataFrame:
    new = [
        kept.select(
            pl.col(f"new_{side}").alias("completion_id"),
            pl.col("context_id").alias("prompt_id"),
            pl.col(f"text_{side}").alias("completion"),
        )
        for side in ("a", "b")
    ]
    return tables.union("completions", completions, *new, where="generate.contextual")


def _votes(kept: pl.DataFrame, judged: Votes, model: Model, judge: Judge) -> pl.DataFrame:
    labels = kept.select(
        pl.col("new_a").alias("completion_a"),
        pl.col("new_b").alias("completion_b"),
        pl.col("context_id").alias("prompt_id"),
        "preference",
        "request_id",
        annotator=pl.lit(f"llm:{model.name}/contextual"),
        criterion=pl.lit(judge.criteria[0].name),
        draw=pl.lit(0, pl.Int64),
    )
    confirming = judged.join(labels, on=SIDES, how="semi")
    return tables.union("votes", labels, confirming, where="generate.contextual")


def _dropped(named: pl.DataFrame) -> pl.DataFrame:
    gone = named.filter(pl.col("fault").is_not_null())
    reasons = gone.group_by(*SIDES, "kind").agg(reason=pl.col("fault").min())
    rows = reasons.select(
        pl.lit("prompts").alias("table"),
        pl.concat_str(*SIDES, "kind", separator=" ").alias("key"),
        pl.lit("generate.contextual").alias("stage"),
        "reason",
    )
    return tables.typed(Dropped, rows)
