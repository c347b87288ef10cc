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

from prefdata.measure._contexts import heard
from prefdata.measure._means import means, unheard
from prefdata.tables import SIDES, Completions, Measures, Prompts, Votes

SCOPE = "all"


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
    there = votes["annotator"].unique().sort().to_list()
    others = [name for name in there if name != annotator] if judges is None else list(judges)
    each = heard(votes, completions, prompts)
    label = each.filter((pl.col("annotator") == annotator) & (pl.col("preference") != 0.5))
    label = label.select(*SIDES, a_meant=pl.col("preference") > 0.5)
    judged = each.filter(pl.col("annotator").is_in(others)).join(label, on=SIDES)
    rows = judged.with_columns(
        subject=pl.col("annotator"),
        right=pl.when("a_meant").then("preference").otherwise(1 - pl.col("preference")),
    )
    # The same two texts, t the smaller one, under all contexts of a group.
    t_meant = pl.col("a_meant") == pl.col("a_is_t")
    both = (
        rows.with_columns(t_meant=t_meant)
        .sort("prompt_id", *SIDES)
        .group_by("subject", "group", "texts", maintain_order=True)
        .agg(
            towards=pl.col("for_t").filter("t_meant").mean(),
            away=pl.col("for_t").filter(~pl.col("t_meant")).mean(),
        )
        .with_columns(turned=(pl.col("towards") - pl.col("away")).round(12))
    )
    names = ("context_accuracy", "context_sensitivity")
    silent = unheard(names, votes, judges, gold=annotator)
    known = pl.DataFrame({"subject": others}, {"subject": pl.String})
    known = known.filter(~pl.col("subject").is_in(silent["subject"].implode()))
    return Measures(
        pl.concat(
            [
                means(rows, "right", names[0], known),
                means(both, "turned", names[1], known, low=-1.0),
                silent,
            ]
        )
    )
