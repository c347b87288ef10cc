"""How much each of 29 properties of a completion moves a preference, for each scenario.

Of a comparison u, x_ui in {1, 0, -1} says whether the chosen completion has more of property i, as
much, or less. The probability of the label, without an intercept, and the prior are

    P(chosen preferred) = sigmoid(sum_i alpha_i x_ui),   alpha_i ~ Laplace(0, scale)

and what is reported is the posterior: unlike the weights at its maximum, which the prior would make
exactly 0, its means say how far a weak property still goes.

28 properties are ratings, as of `annotate.pointwise` with the judge "properties"; length is counted
here, by the source's rule of how many words make a difference.

Source: Li et al. 2024, "Dissecting Human and LLM Preferences" (properties, signs, prior, rule of
length; there both completions are annotated side by side).
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.explain._labelled import labels
from prefdata.explain._posterior import fit_posterior
from prefdata.explain._predict import accuracy, check_folds
from prefdata.tables import Completions, Measures, Pairs, Prompts, Ratings, text_of

SCOPE = "all"

Floats = NDArray[np.float64]

_ALWAYS = (
    *("harmless", "grammatical", "friendly", "polite", "interactive", "authoritative", "funny"),
    *("rhetorical", "complex_language", "supported", "well_formatted", "admits_limits"),
    *("persuasive", "step_by_step", "informal", "non_repetitive", "clear", "relevant", "novel"),
    "rich",
)
# A rating of 1 is: no error of the kind.
_ERRORS = ("minor_errors", "moderate_errors", "severe_errors")
# Only where the prompt gives occasion to it; else both sides have as much.
_SOMETIMES = (
    *("clarifies_intent", "empathetic", "meets_constraints", "supports_stance"),
    "corrects_mistakes",
)
RATED = (*_ALWAYS, *_ERRORS, *_SOMETIMES)
PROPERTIES = (*RATED, "lengthy")
# How many words the longer text has at least, where the shorter has 0, 1, 2, ...
_LEAST = np.array([1, 3, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19], dtype=np.float64)

# Below this share of effective draws the interval is not to be trusted.
FEW = 0.05


def properties(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    ratings: Ratings,
    *,
    annotator: str | None = None,
    scale: float = 0.1,
    min_comparisons: int = 50,
    folds: int = 10,
    permutations: int = 199,
    seed: int = 0,
) -> Measures:
    """The weight of each property in the preferences of pairs, for all and for each tag.

    Measures, subject "all" or "tag:<tag>" (a tag of prompts is a scenario):

    - `property_<name>`: the posterior mean of alpha, in log-odds of being preferred for having more
      of it (of `..._errors`: fewer), with the posterior's standard deviation and 95 % interval. n:
      comparisons that differ in it. Null where none does.
    - `properties_accuracy`: how often all properties together predict a label that they were not
      fitted on, in [0, 1], with `properties_null`, the 95th percentile of the same on labels turned
      at random, and `properties_p`. The weights count only where the accuracy is above its null.
      These fits have a normal prior of the same spread.

    A comparison is two completions of a prompt, once; contradicting pairs count by their majority.
    The posterior takes comparisons as independent. Several ratings of a completion by one criterion
    are averaged. Where one of five properties that need an occasion (a constraint, a feeling) does
    not apply to a side, the comparison does not differ in it. Where any other rating is missing,
    unreadable or does not apply, the comparison is left out, and the note counts them.

    Raises `RecipeError` where ratings name none of the properties, or nobody rated as `annotator`.

    annotator: whose ratings; null: of all.
    scale: of the Laplace prior.
    min_comparisons: a tag with fewer comparisons has no weights.
    folds: of whole prompt groups, for the accuracy.
    permutations: of labels, for its null.
    seed: of folds, permutations and draws.
    """
    if scale <= 0:
        raise RecipeError(f"explain.properties: scale = {scale}; it is above 0")
    if min_comparisons < 1:
        raise RecipeError(
            f"explain.properties: min_comparisons = {min_comparisons}; it is at least 1"
        )
    check_folds(folds, permutations, "explain.properties")
    rated = _rated(ratings, annotator)
    rows = _differences(labels(pairs, prompts), rated, completions)
    tags = prompts.select("prompt_id", pl.col("tags").list.unique()).explode("tags").drop_nulls()
    tagged = rows.join(tags, on="prompt_id").with_columns(
        subject=pl.concat_str(pl.lit("tag:"), "tags")
    )
    scenarios = tagged.drop("tags").partition_by("subject", as_dict=True)
    everything = {} if rows.is_empty() else {("all",): rows}
    made = [tables.empty("measures")]
    for (subject,), mine in {**everything, **scenarios}.items():
        known = mine.drop_nulls(PROPERTIES).sort("completion_a", "completion_b")
        if subject != "all" and known.height < min_comparisons:
            continue
        x = known.select(PROPERTIES).to_numpy().astype(np.float64)
        left_out = mine.height - known.height
        made.append(_weights(x, str(subject), scale, left_out, seed))
        made.append(
            accuracy(
                known, x, ridge=1 / (2 * scale**2), folds=folds, permutations=permutations,
                seed=seed, name="properties", subject=str(subject),
            )
        )  # fmt: skip
    return tables.typed(Measures, pl.concat(made, how="diagonal_relaxed"))


def _rated(ratings: Ratings, annotator: str | None) -> pl.DataFrame:
    """Mean rating of each completion by property, a column each; null: missing or unreadable.

    What does not apply is -1 there, if nobody gave a rating.
    """
    mine = ratings
    if annotator is not None and not ratings.is_empty():
        there = sorted(ratings["annotator"].unique())
        if annotator not in there:
            raise RecipeError(
                f"explain.properties: no ratings by {annotator!r}; {nearest(annotator, there)}"
            )
        mine = ratings.filter(pl.col("annotator") == annotator)
    mine = mine.filter(pl.col("criterion").is_in(RATED))
    if mine.is_empty() and not ratings.is_empty():
        raise RecipeError(
            "explain.properties: the ratings are of no property that it knows; put "
            'annotate.pointwise with judge = "properties" before it'
        )
    silent = (pl.col("unscored") == "not applicable").all()
    each = mine.group_by("completion_id", "criterion").agg(
        rating=pl.coalesce(pl.col("rating").sort().mean(), pl.when(silent).then(-1.0))
    )
    wide = each.pivot("criterion", index="completion_id", values="rating")
    missing = [pl.lit(None, pl.Float64).alias(name) for name in RATED if name not in wide.columns]
    return wide.with_columns(missing).select("completion_id", *RATED)


def _differences(rows: pl.DataFrame, rated: pl.DataFrame, completions: Completions) -> pl.DataFrame:
    """The labels with a column in {1, 0, -1} for each property, null where it is not known."""
    words = completions.select(
        "completion_id", words=text_of("completion").str.count_matches(r"\S+")
    )
    traits = words.join(rated, on="completion_id", how="left")
    for side in ("a", "b"):
        rows = rows.join(
            traits.rename({name: f"{name}_{side}" for name in (*RATED, "words")}),
            left_on=f"completion_{side}",
            right_on="completion_id",
        )
    turn = pl.when("a_chosen").then(1).otherwise(-1)
    made: list[pl.Expr] = []
    for name in RATED:
        a, b = pl.col(f"{name}_a"), pl.col(f"{name}_b")
        neither = 0 if name in _SOMETIMES else None
        silent = ((a < 0) | (b < 0)) & a.is_not_null() & b.is_not_null()
        made.append(pl.when(silent).then(neither).otherwise((a - b).sign() * turn).alias(name))
    longer = pl.Series(longer_of(rows["words_a"].to_numpy(), rows["words_b"].to_numpy()))
    return rows.with_columns(longer.alias("longer")).select(
        "prompt_id", "group", "completion_a", "completion_b", *made,
        lengthy=pl.col("longer") * turn,
    )  # fmt: skip


def longer_of(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """1 where a text of a words is longer than one of b, -1 where shorter, 0 where alike."""
    few, many = np.minimum(a, b).astype(np.float64), np.maximum(a, b).astype(np.float64)
    gap, share = many - few, few / np.maximum(many, 1)
    wide = ((share <= 0.7) & (gap >= 10)) | ((share <= 0.8) & (gap >= 20))
    wide |= (share <= 0.9) & (gap >= 40)
    least = _LEAST[np.minimum(few, len(_LEAST) - 1).astype(np.int64)]
    apart = np.where(few < len(_LEAST), many >= least, wide)
    return np.where(apart, np.sign(a.astype(np.float64) - b), 0.0)


def _weights(x: Floats, subject: str, scale: float, left_out: int, seed: int) -> pl.DataFrame:
    n = np.count_nonzero(x, axis=0)
    moving = n > 0
    ends = np.full((4, len(PROPERTIES)), np.nan)
    effective = 1.0
    if moving.any():
        ends[:, moving], effective = fit_posterior(x[:, moving], scale, seed)
    note = f"of {len(x)} comparisons"
    note += f", {left_out} left out for want of a rating" if left_out else ""
    if effective < FEW:
        note += f"; {effective:.1%} of the draws are effective: take the interval with care"
    mean, spread, low, high = ends
    return pl.DataFrame(
        {
            "measure": [f"property_{name}" for name in PROPERTIES],
            "subject": subject,
            "value": mean,
            "stderr": spread,
            "low": low,
            "high": high,
            "note": [note if some else f"{note}; none differs in it" for some in moving],
            "n": n,
        }
    ).with_columns(pl.col("value", "stderr", "low", "high").fill_nan(None))
