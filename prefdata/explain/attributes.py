"""Which measured attributes of completions explain which of two was preferred?

An attribute is a number that a completion already has: a score, a rating by somebody on a
criterion, its length. With x_u the chosen completion's less the rejected one's, in units of their
spread over all comparisons, sqrt(mean x^2), the weights maximise

    sum_u log sigmoid(sum_i w_i x_ui)

for each attribute alone and for all together. What an attribute has in common with others it
explains alone and not among them: of two that go together the one that does the work keeps its
weight. Weights say how much; whether there is anything to say is asked of labels of prompt groups
that the weights were not fitted on, beside the same search on labels turned at random.

Source: Cideron et al. 2024, "MusicRL" (which scorer agrees with people, and how often); Nath et al.
2024, "Leveraging Domain Knowledge for Efficient Reward Modelling in RLHF" (a preference model of a
few features that people can read).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.explain._labelled import labels
from prefdata.explain._predict import accuracy, check_folds, folds_of, hits, predicted
from prefdata.explain._weights import weights_of
from prefdata.measure._means import COLUMNS, means
from prefdata.measure._texts import log_length
from prefdata.tables import Completions, Measures, Pairs, Prompts, Ratings, Scores

SCOPE = "all"

Floats = NDArray[np.float64]
# A normal prior of spread 10 in the fits that predict, as in those that have errors.
RIDGE = 0.01


def attributes(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    scores: Scores | None = None,
    ratings: Ratings | None = None,
    *,
    attributes: Sequence[str] | None = None,
    length: bool = True,
    folds: int = 10,
    permutations: int = 199,
    seed: int = 0,
) -> Measures:
    """How far each attribute goes with the preferences of pairs, alone and among the others.

    Attributes are `<score>` or `<score>/<model>` of completions, `<criterion>/<annotator>` of
    ratings, several draws averaged, and `log_length`. Measures, subject the attribute:

    - `attribute_agreement`: how often the chosen completion has more of it, in [0, 1], a tie is one
      half; `attribute_agreement_untied`: the same where the two differ.
    - `attribute_weight_alone`, `attribute_weight`: the log-odds of being preferred that one spread
      more of it adds, by itself, and with the others held equal. Errors are over prompt groups. n:
      comparisons that differ in it.
    - `attribute_accuracy`: how often it alone predicts a label that it was not fitted on, with
      `attribute_null`, the 95th percentile of the same on labels turned at random, and
      `attribute_p`. Of many attributes some have a small p by chance.
    - `attribute_gain`: accuracy of all together less that of all but this one, in [-1, 1].

    And subject "all": `attributes_accuracy`, `attributes_null`, `attributes_p`, of all together.

    A comparison is two completions of a prompt, once; contradicting pairs count by their majority.
    It counts for an attribute that both have, and for all together where both have all. An
    attribute made of the same votes as the pairs explains them by definition: name those that are
    not.

    Raises `RecipeError` for a name that no completion has a value of.

    attributes: which to look at; null: all there are.
    length: whether the logarithm of the completion's length is one of them.
    folds: of whole prompt groups.
    permutations: of labels, for the nulls.
    seed: of folds and permutations.
    """
    check_folds(folds, permutations, "explain.attributes")
    names, rows = _differences(
        labels(pairs, prompts), _values(completions, scores, ratings, length), attributes
    )

    def predicts(known: pl.DataFrame, which: list[str], name: str, subject: str) -> pl.DataFrame:
        return accuracy(
            known, _array(known, which), ridge=RIDGE, folds=folds, permutations=permutations,
            seed=seed, name=name, subject=subject,
        )  # fmt: skip

    made = [pl.DataFrame(schema=COLUMNS)]
    columns = [f"x{at}" for at in range(len(names))]
    for column, name in zip(columns, names, strict=True):
        mine = rows.drop_nulls(column)
        made.append(_agreements(mine, column, name))
        if mine.height:
            made.append(weights_of(mine, {column: name}, "attribute_weight_alone"))
            made.append(predicts(mine, [column], "attribute", name))
    whole = rows.drop_nulls(columns)
    if names and whole.height:
        made.append(weights_of(whole, dict(zip(columns, names, strict=True)), "attribute_weight"))
        made.append(predicts(whole, columns, "attributes", "all"))
        if len(names) > 1:
            made.append(_gains(whole, columns, names, folds, seed))
    return tables.typed(Measures, pl.concat(made, how="diagonal_relaxed"))


def _values(
    completions: Completions, scores: Scores | None, ratings: Ratings | None, length: bool
) -> pl.DataFrame:
    """`completion_id, attribute, value`, each completion and attribute once."""
    found = [pl.DataFrame(schema={"completion_id": pl.String, "attribute": pl.String})]
    found[0] = found[0].with_columns(value=pl.lit(None, pl.Float64))
    if scores is not None:
        model = pl.concat_str(pl.lit("/"), "model").fill_null("")
        of = scores.filter(pl.col("subject") == "completion")
        found.append(
            of.select(
                pl.col("subject_id").alias("completion_id"),
                attribute=pl.concat_str("score", model),
                value="value",
            )
        )
    if ratings is not None:
        of = ratings.drop_nulls("rating").select(
            "completion_id",
            attribute=pl.concat_str("criterion", pl.lit("/"), "annotator"),
            value="rating",
        )
        found.append(of.group_by("completion_id", "attribute").agg(pl.col("value").sort().mean()))
    if length:
        of = log_length(completions).rename({"log_length": "value"})
        found.append(of.select("completion_id", attribute=pl.lit("log_length"), value="value"))
    return pl.concat(found)


def _differences(
    rows: pl.DataFrame, values: pl.DataFrame, wanted: Sequence[str] | None
) -> tuple[list[str], pl.DataFrame]:
    """The attributes, and the labels with `x0, x1, ...`: chosen less rejected, in their spread."""
    there = sorted(values["attribute"].unique())
    for name in wanted or ():
        if there and name not in there:
            raise RecipeError(
                f"explain.attributes: no completion has {name!r}; {nearest(name, there)}"
            )
    names = there if wanted is None else [name for name in there if name in wanted]
    turn = pl.when("a_chosen").then(1).otherwise(-1)
    for at, name in enumerate(names):
        mine = values.filter(pl.col("attribute") == name)
        for side in ("a", "b"):
            of = mine.select(pl.col("completion_id").alias(f"completion_{side}"), value="value")
            rows = rows.join(of.rename({"value": side}), on=f"completion_{side}", how="left")
        apart = pl.col("a") - pl.col("b")
        spread = apart.sort().pow(2).mean().sqrt()
        unit = pl.when(spread > 0).then(spread).otherwise(1.0)
        rows = rows.with_columns((turn * apart / unit).alias(f"x{at}")).drop("a", "b")
    return names, rows.sort("completion_a", "completion_b")


def _array(rows: pl.DataFrame, columns: list[str]) -> Floats:
    return rows.select(columns).to_numpy().astype(np.float64)


def _agreements(rows: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    subject = pl.DataFrame({"subject": [name]})
    each = rows.select("group", subject=pl.lit(name), hit=(pl.col(column).sign() + 1) / 2)
    untied = each.filter(pl.col("hit") != 0.5)
    return pl.concat(
        [
            means(each, "hit", "attribute_agreement", subject),
            means(untied, "hit", "attribute_agreement_untied", subject),
        ]
    )


def _gains(
    rows: pl.DataFrame, columns: list[str], names: list[str], folds: int, seed: int
) -> pl.DataFrame:
    """What each attribute adds to how often all together are right."""
    if rows["group"].n_unique() < folds:
        return pl.DataFrame(schema=COLUMNS)
    fold = folds_of(rows["group"], folds, seed)
    x, one = _array(rows, columns), np.ones((rows.height, 1))
    whole = hits(predicted(x, one, fold, RIDGE))[:, 0]
    made: list[pl.DataFrame] = []
    for at, name in enumerate(names):
        without = hits(predicted(np.delete(x, at, axis=1), one, fold, RIDGE))[:, 0]
        each = rows.select("group", subject=pl.lit(name)).with_columns(
            gain=pl.Series(whole - without)
        )
        made.append(means(each, "gain", "attribute_gain", low=-1.0))
    return pl.concat(made)
