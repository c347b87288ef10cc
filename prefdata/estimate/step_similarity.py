"""How alike the steps of a prompt's solutions are to those of its best one.

    s = cos(e(step t of a solution), e(step t of the best one))

by the embedding of a step's own text; steps after the end of the best solution are compared with
its last. A step that both share is 1. Trainers weigh steps by 1 + s, as the released code does, or
by 1 - s, so that what both say does not count: export.tree has s and leaves that to them.
"""

import numpy as np
import polars as pl

from prefdata.estimate._named import scores_of
from prefdata.export._steps import steps
from prefdata.export.listwise import listwise
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Prompts, Samples, Scores, Strengths, said

SCOPE = "all"  # an estimator that some prompts lack is no mistake


def step_similarity(
    prompts: Prompts,
    completions: Completions,
    samples: Samples,
    strengths: Strengths,
    *,
    model: Model,
    estimator: str | None = None,
) -> Asks[Scores]:
    """The score `step_similarity`, in [-1, 1], of every partial and whole solution's last step.

    The best solution of a prompt is the first of export.tree, by the strengths of whole solutions.
    Prompts without one have no scores, nor have steps of spaces only.

    Options:
    - `model`: embeds the steps.
    - `estimator`: whose strengths say what is best; needed where there are several.

    Raises `TableError` for steps that do not hang together.

    Source: Liao et al. (2024), TPO: Aligning Large Language Models with Multi-branch & Multi-step
    Preference Trees (adaptive step rewards).
    """
    known = steps(completions, samples, where="estimate.step_similarity")
    whole = strengths.join(known.filter("is_leaf"), on="completion_id", how="semi")
    listed = listwise(
        prompts, completions, Strengths(whole), estimator=estimator, min_completions=1
    )
    best = listed.select("prompt_id", completion_id=pl.col("completion_ids").list.first())
    best = best.join(known.select("completion_id", best="path"), on="completion_id")
    place = pl.min_horizontal(pl.col("path").list.len(), pl.col("best").list.len()) - 1
    rows = (
        known.join(best.drop("completion_id"), on="prompt_id")
        .select("completion_id", "prompt_id", "step", other_id=pl.col("best").list.get(place))
        .filter(pl.col("step").str.contains(r"\S"))
        .sort("completion_id")
    )
    asked = rows.select(said("assistant", "step")).to_series().alias("messages")
    wanted = requests(model, "embedding", asked)
    heard = yield wanted
    own = rows.with_columns(wanted["request_id"]).join(
        heard.select("request_id", "vector"), on="request_id", maintain_order="left"
    )
    own = own.drop_nulls("vector")
    other = own.select(other_id="completion_id", beside="vector")
    both = own.join(other, on="other_id", maintain_order="left")
    return Scores(
        scores_of("completion", both, {"step_similarity": _cosines(both)}, model=model.name,
                  request_id="request_id")
    )  # fmt: skip


def _cosines(rows: pl.DataFrame) -> pl.Series:
    one, other = (
        np.array(rows[name].to_list(), dtype=np.float64).reshape(rows.height, -1)
        if rows.height
        else np.zeros((0, 1))
        for name in ("vector", "beside")
    )
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(1) / np.maximum(lengths, 1e-300)
    return pl.Series(np.clip(cosines, -1, 1), dtype=pl.Float64)
