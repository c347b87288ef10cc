"""Write down why one completion of a pair is better, and keep what tells it without its label.

A model sees prompt, both completions and which of them was preferred, in an order drawn for each
text, and names them by the tags [CHOSEN] and [REJECTED] only. Its reason is

- *general*: short, on a level above the wording: quality, relevance, correctness;
- *specific*: the concrete things in which these two differ;
- *critique*: what critics said of the two (`rationale` of ratings), rewritten as one reason.

A reason is kept if it is *faithful*: a judge who sees the two in an order of their own and the
reason with its tags masked, and not the label, must prefer the chosen one, in the mean over both
orders. Whoever goes by the reason alone learns nothing from one that would fit any pair, nor from
one that only says where the better one stood. A judge with an opinion of its own may prefer the
chosen one all the same, so that opinion is asked too, without a reason: what reasons add is the
difference (`recovery_gain`).

Source: Just et al. 2024, "Data-Centric Human Preference with Rationales for Direct Preference
Alignment" (general and specific rationales); prompts in our own words. Its loaders always show the
chosen one first, so that "above" and "below" solve the task.
"""

from collections.abc import Sequence

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.explain._reasons import Kind, critiques, written
from prefdata.explain._recovery import recovered, unrecovered
from prefdata.explain._wording import COPIED, fault, overlaps
from prefdata.judge import Judge
from prefdata.measure._means import means, with_groups
from prefdata.stage import Asks, Model
from prefdata.tables import (
    Completions,
    Dropped,
    Measures,
    Pairs,
    Prompts,
    Ratings,
    Rationales,
    text_of,
)

SCOPE = "all"


def rationale(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    ratings: Ratings | None = None,
    *,
    model: Model,
    judge: Judge,
    judge_model: Model | None = None,
    kinds: Sequence[Kind] = ("general", "specific"),
    per_kind: int = 1,
    check: bool = True,
    baseline: bool = True,
    reask: bool = True,
    seed: int = 0,
) -> Asks[tuple[Rationales, Measures, Dropped]]:
    """Rationales of `llm:<model>/rationale`, by `kind`; those that are not kept are in `dropped`.

    They are dropped because they name neither completion, say where one stood, speak of the label,
    copy more than half of a completion, cannot be read (with the reason, under the pair's id and
    kind), or do not let the judge recover the label. Pairs that answer different prompts are left
    out. `[CHOSEN]` and `[REJECTED]` stand in the text until it is exported.

    Measures, by kind (subject), over prompt groups: `recovery` and `recovery_without`, the share of
    verdicts for the chosen one with and without the reason, and `recovery_gain`, the difference, in
    [-1, 1] (n: reasons); `specificity`, the share of runs of three words that are in exactly one of
    the two; `rationale_words`, a mean; `distinct_rationales`, the share that no other pair has;
    `kept_rationales`, a share.

    model: who writes.
    judge: a pairwise judge who recovers the label, such as "reason"; the reason stands where its
        own criterion would.
    judge_model: who that judge is; null: `model`, which then checks itself.
    kinds: which of the three are asked for; "critique" needs ratings with rationales.
    per_kind: how many for each pair and kind; of use where the model samples.
    check: whether the label must be recovered; false: nothing is asked of the judge.
    baseline: whether the judge is asked without a reason too.
    reask: ask once more, with the complaint, where a reply cannot be read.
    seed: what the orders come from.
    """
    _check(judge, kinds, per_kind, ratings)
    rows = _rows(prompts, completions, pairs)
    critics = critiques(ratings) if "critique" in kinds else {}
    replies = yield from written(rows, critics, kinds, per_kind, model, reask, seed)
    unread = replies.filter(pl.col("rationale").is_null())
    told = replies.filter(pl.col("rationale").is_not_null()).unique(
        ["pair_id", "kind", "rationale"], keep="first", maintain_order=True
    )
    told = overlaps(told.join(rows.select("pair_id", "chosen", "rejected"), on="pair_id"))
    faults = pl.Series("fault", [fault(text) for text in told["rationale"]], pl.String)
    copied = pl.lit(f"copies more than {COPIED:.0%} of a completion")
    told = told.with_columns(faults).with_columns(
        fault=pl.coalesce("fault", pl.when(pl.col("copied") > COPIED).then(copied))
    )
    who = judge_model or model
    if check:
        sound = told.filter(pl.col("fault").is_null())
        with_reason = yield from recovered(rows, sound, judge, who, reask)
        told = told.join(with_reason, on=["pair_id", "kind", "rationale"], how="left")
        told = told.with_columns(fault=pl.coalesce("fault", unrecovered(pl.col("recovery"))))
    if check and baseline:
        some = rows.join(told, on="pair_id", how="semi").select("pair_id")
        alone = yield from recovered(rows, some, judge, who, reask)
        alone = alone.rename({"recovery": "recovery_without"})
        told = told.join(alone, on="pair_id", how="left")
    annotator = f"llm:{model.name}/rationale"
    told = told.with_columns(annotator=pl.lit(annotator))
    kept = told.filter(pl.col("fault").is_null()).select(*tables.schema("rationales").columns)
    return (
        Rationales(kept),
        Measures(_measures(told, rows)),
        Dropped(_dropped(told, unread, annotator)),
    )


def _check(judge: Judge, kinds: Sequence[Kind], per_kind: int, ratings: Ratings | None) -> None:
    judge.must_be("pairwise", "explain.rationale", instead=', such as "reason"')
    if not kinds:
        raise RecipeError("explain.rationale: kinds = []; name at least one")
    if per_kind < 1:
        raise RecipeError(f"explain.rationale: per_kind = {per_kind}; it is at least 1")
    if "critique" in kinds and ratings is None:
        raise RecipeError(
            'explain.rationale: kind "critique" rewrites the rationales of ratings, and there are '
            "no ratings; put annotate.pointwise with a judge that gives reasons before it"
        )


def _rows(prompts: Prompts, completions: Completions, pairs: Pairs) -> pl.DataFrame:
    """Pairs with the texts of their sides as messages and as plain text, sorted by id."""
    rows = pairs.select("pair_id", "prompt_id", "chosen_id", "rejected_id")
    rows = with_groups(rows.join(prompts.select("prompt_id", "prompt"), on="prompt_id"), prompts)
    text = text_of("completion")
    for side in ("chosen", "rejected"):
        said = completions.select(
            pl.col("completion_id").alias(f"{side}_id"),
            pl.col("completion").alias(f"{side}_turns"),
            text.alias(side),
        )
        rows = rows.join(said, on=f"{side}_id")
    return rows.sort("pair_id")


def _measures(told: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    about = told.join(rows.select("pair_id", "group"), on="pair_id").with_columns(
        subject="kind",
        kept=pl.col("fault").is_null().cast(pl.Float64),
        distinct=(pl.len().over("kind", "rationale") == 1).cast(pl.Float64),
    )
    shares = {
        "kept": "kept_rationales",
        "distinct": "distinct_rationales",
        "specific": "specificity",
    }
    asked = [each for each in ("recovery", "recovery_without") if each in told.columns]
    made = [means(about, column, measure) for column, measure in shares.items()]
    made += [means(about, column, column) for column in asked]
    if len(asked) == 2:
        gain = about.with_columns(gain=pl.col("recovery") - pl.col("recovery_without"))
        made.append(means(gain, "gain", "recovery_gain", low=-1.0))
    longest = float(about["n_words"].max() or 1)  # pyright: ignore[reportArgumentType]
    made.append(means(about, "n_words", "rationale_words", high=max(longest, 1.0)))
    return pl.concat(made)


def _dropped(told: pl.DataFrame, unread: pl.DataFrame, annotator: str) -> pl.DataFrame:
    gone = told.filter(pl.col("fault").is_not_null())
    lost = pl.DataFrame({"key": tables.keys("rationales", gone), "reason": gone["fault"]})
    key = pl.concat_str("pair_id", pl.lit(annotator), "kind", "draw", separator=" ")
    silent = unread.select(key=key, reason=pl.concat_str(pl.lit("no rationale: "), "unscored"))
    both = pl.concat([lost, silent]).with_columns(
        table=pl.lit("rationales"), stage=pl.lit("explain.rationale")
    )
    return tables.typed(Dropped, both)
