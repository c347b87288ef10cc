"""Win rates of generators were the two completions of every comparison alike in some traits.

Of a generator's comparisons, each with the order of showing z and differences x of the traits (its
completion's less the other's),

    P(it wins) = sigmoid(i + c z + b . x)

and its win rate at equal traits is sigmoid(i). Where its completions are all longer than the
others' that is an extrapolation, as its interval shows. Votes of gold count for nothing here, and
those of others count whether or not gold voted on the comparison.

Source: Dubois, Galambosi, Liang, Hashimoto 2024, "Length-Controlled AlpacaEval: A Simple Way to
Debias Automatic Evaluators" (here without its term for the difficulty of an instruction).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.special import expit  # pyright: ignore[reportUnknownVariableType]

from prefdata.generate._generators import refuse_unknown
from prefdata.measure._effects import effects_of, with_others
from prefdata.measure._means import unconnected
from prefdata.tables import Samples


def controlled_win_rates(
    votes: pl.DataFrame,
    samples: Samples,
    traits: Sequence[str],
    measure: str,
    *,
    gold: str | None,
    judges: Sequence[str] | None,
    baseline: str | None,
    where: str,
) -> pl.DataFrame:
    """Rows of `measures`, subject the generator, from votes with `group` and the traits.

    Only votes of `judges` count (default: of all but gold), and with `baseline` comparisons with
    it; all are null where the baseline is in none. Raises `RecipeError`, naming the stage `where`,
    for a baseline without samples.
    """
    rows = with_others(votes, None).filter(pl.col("annotator") != (gold or ""))
    if judges is not None:
        rows = rows.filter(pl.col("annotator").is_in(list(judges)))
    both = _played(rows, samples, traits)
    if baseline is not None:
        refuse_unknown([baseline], samples, where=where)
        generators = both["one"].unique().sort()
        if baseline not in generators:
            return unconnected(measure, generators, baseline)
        both = both.filter(pl.col("other") == baseline)
    both = both.with_columns(subject="one", itself=1.0, k=0.0, n=0.0).sort(
        "subject",
        "other",
        "completion_a",
        "completion_b",
        "annotator",
        "criterion",
        "draw",
        "place",
    )
    found = effects_of(both, {"itself": measure, **dict.fromkeys(traits, "")})
    ends = {each: _share(found[each]) for each in ("value", "low", "high")}
    p = ends["value"]
    # The errors of a share, from those of its log-odds.
    return found.with_columns(
        **ends,
        stderr=pl.col("stderr") * p * (1 - p),
        note=pl.when(pl.col("stderr").is_null()).then("note"),
    )


def _played(rows: pl.DataFrame, samples: Samples, traits: Sequence[str]) -> pl.DataFrame:
    """Each comparison of two generators twice, once from the side of each as `one`."""
    of = samples.select("completion_id", "generator").unique()
    first = of.rename({"completion_id": "completion_a", "generator": "one"})
    second = of.rename({"completion_id": "completion_b", "generator": "other"})
    played = rows.join(first, on="completion_a").join(second, on="completion_b")
    played = played.filter(pl.col("one") != pl.col("other"))
    turned = played.with_columns(
        -pl.col("place", *traits), one="other", other="one", preference=1 - pl.col("preference")
    )
    return pl.concat([played, turned])


def _share(log_odds: pl.Series) -> pl.Series:
    values = np.asarray(expit(log_odds.cast(pl.Float64).to_numpy()), dtype=np.float64)
    return pl.Series(log_odds.name, values).fill_nan(None)
