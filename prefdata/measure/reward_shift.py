"""How far implicit rewards lie from 0, which binary losses take away before they compare.

A binary loss takes sigmoid(r - delta) for desirable completions and sigmoid(delta - r) for the
others. Two shifts are in use, and differ where there are more of one kind:

    pooled   = mean of all rewards                          (TRL)
    balanced = (mean of the desirable + mean of the others) / 2    (the paper)

Source: Jung et al. (2024), Binary Classifier Optimization for Large Language Model Alignment.
"""

import polars as pl

from prefdata import tables
from prefdata.estimate._named import of_completions
from prefdata.export.binary import By, binary
from prefdata.tables import Completions, Measures, Pairs, Prompts, Ratings, Scores

SCOPE = "all"


def reward_shift(
    prompts: Prompts,
    completions: Completions,
    scores: Scores,
    pairs: Pairs | None = None,
    ratings: Ratings | None = None,
    *,
    by: By = "pairs",
    score: str = "implicit_reward",
) -> Measures:
    """Rows `reward_shift_pooled` and `reward_shift_balanced`, with the score as subject.

    Over the completions with a label and the score; `n` counts them. Balanced is null where one of
    the two kinds is missing.

    Options:
    - `by`: what labels are made of, as in export.binary: "pairs" or "ratings".
    - `score`: the reward, a score about completions: `implicit_reward`, `reward`, ...

    Raises `RecipeError` for a score that is not there.
    """
    own = of_completions(scores, score, where="measure.reward_shift")
    labels = binary(prompts, completions, pairs, None, ratings, by=by)
    rows = labels.join(own, on="completion_id").sort("completion_id")
    means: list[float] = rows.group_by("label").agg(pl.col("value").mean())["value"].to_list()
    pooled = _mean(rows["value"].to_list())
    balanced = _mean(means) if len(means) == 2 else None
    made = [
        {"measure": f"reward_shift_{name}", "subject": score, "value": value, "n": rows.height}
        for name, value in (("pooled", pooled), ("balanced", balanced))
    ]
    dtypes = tables.schema("measures").dtypes
    return Measures(pl.DataFrame(made, {name: dtypes[name] for name in made[0]}))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
