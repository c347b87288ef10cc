"""Whether annotators judge by the context of a prompt, from siblings in which the label turns.

Siblings are prompts of one group whose contexts prefer different ones of the same two texts t, u
(`generate.contextual`). With C_t the contexts under which t is the label and p(t | c) an
annotator's preference for it,

    context_accuracy    = mean over labelled comparisons of  p(the label | c)
    context_sensitivity = mean over two texts of  mean over C_t of p(t | c) - mean over C_u of same

A judge that reads no context has p(t | c) = p(t): its sensitivity is exactly 0 and, where
siblings are complete, its accuracy exactly 1/2, whatever it likes. One that follows the context has
1 in both.

Source: Pitis et al. 2024, "Improving Context-Aware Preference Modeling for Language Models".
"""

from collections.abc import Sequence

import polars as pl

from prefdata.measure._means import means, unheard, with_groups
from prefdata.tables import Completions, Measures, Prompts, Votes

SCOPE = "all"

_UNIT = ["completion_a", "completion_b"]


def context_sensitivity(
    votes: Votes,
    completions: Completions,
    prompts: Prompts,
    *,
    annotator: str,
    judges: Sequence[str] | None = None,
) -> Measures:
    """Measure annotators on prompts in context.

    - `context_accuracy`, subject the judge: the mean preference for the labelled side, in [0, 1],
      over labelled comparisons of prompts with a tag `context:...`. A comparison counts once, by
      the mean of the judge's scored votes on it.
    - `context_sensitivity`: by how much a context turns the judge's preference towards what it asks
      for, in [-1, 1]; 0 for one that reads no context. `n`: two texts of a prompt group, with
      contexts for both of them on which it voted.

    Options:
    - `annotator`: whose votes are the labels, such as "llm:<model>/contextual"; ties are none.
    - `judges`: who is measured; null: all others.

    Where an annotator has no vote at all both are null, and the note says whose votes are missing.
    """
    decided = votes.filter(pl.col("preference").is_not_null())
    there = votes["annotator"].unique().sort().to_list()
    others = [name for name in there if name != annotator] if judges is None else list(judges)
    in_context = prompts.filter(
        pl.col("tags").list.eval(pl.element().str.starts_with("context:")).list.any()
    )
    mine = decided.join(in_context, on="prompt_id", how="semi")
    each = mine.group_by("annotator", "prompt_id", *_UNIT).agg(
        pl.col("preference").sort().mean().round(12)
    )
    label = each.filter((pl.col("annotator") == annotator) & (pl.col("preference") != 0.5))
    label = label.select(*_UNIT, a_meant=pl.col("preference") > 0.5)
    judged = each.filter(pl.col("annotator").is_in(others)).join(label, on=_UNIT)
    rows = with_groups(_with_texts(judged, completions), prompts).with_columns(
        subject=pl.col("annotator"),
        right=pl.when("a_meant").then("preference").otherwise(1 - pl.col("preference")),
    )
    # The same two texts, t the smaller one, under all contexts of a group.
    for_t = pl.when("a_is_t").then("preference").otherwise(1 - pl.col("preference"))
    t_meant = pl.col("a_meant") == pl.col("a_is_t")
    both = (
        rows.with_columns(for_t=for_t, t_meant=t_meant)
        .sort("prompt_id", *_UNIT)
        .group_by("subject", "group", "texts", maintain_order=True)
        .agg(
            towards=pl.col("for_t").filter("t_meant").mean(),
            away=pl.col("for_t").filter(~pl.col("t_meant")).mean(),
        )
        .with_columns(turned=(pl.col("towards") - pl.col("away")).round(12))
    )
    names = ("context_accuracy", "context_sensitivity")
    silent = unheard(names, votes, judges, gold=annotator)
    heard = pl.DataFrame({"subject": others}, {"subject": pl.String})
    heard = heard.filter(~pl.col("subject").is_in(silent["subject"].implode()))
    return Measures(
        pl.concat(
            [
                means(rows, "right", names[0], heard),
                means(both, "turned", names[1], heard, low=-1.0),
                silent,
            ]
        )
    )


def _with_texts(rows: pl.DataFrame, completions: Completions) -> pl.DataFrame:
    """The rows with `texts`, the two that are compared, and whether a's is the smaller one."""
    for side in ("a", "b"):
        said = completions.select(
            pl.col("completion_id").alias(f"completion_{side}"),
            pl.struct("completion").struct.json_encode().alias(f"text_{side}"),
        )
        rows = rows.join(said, on=f"completion_{side}")
    a, b = pl.col("text_a"), pl.col("text_b")
    two = pl.concat_str(pl.min_horizontal(a, b), pl.max_horizontal(a, b), separator="\n")
    return rows.with_columns(texts=two, a_is_t=a < b).drop("text_a", "text_b")
