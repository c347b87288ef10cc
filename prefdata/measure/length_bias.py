"""Whether an annotator prefers the longer of two completions, whatever they are worth.

The slope b of a logistic model of an annotator's votes,

    P(a preferred) = sigmoid(a theta + c z + b (log length_a - log length_b)),

with theta what the others think of the two sides, or gold, and z = +-1 the order of showing. The
win rate of a generator at equal length is sigmoid(i) of the model of its comparisons,

    P(it wins) = sigmoid(i + c z + b (log its length - log the other's))

Source: Dubois, Galambosi, Liang, Hashimoto 2024, "Length-Controlled AlpacaEval: A Simple Way to
Debias Automatic Evaluators" (here without its term for the difficulty of an instruction).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.special import expit  # pyright: ignore[reportUnknownVariableType]

from prefdata.errors import RecipeError, nearest
from prefdata.measure._effects import effects_of, refuse_unknown, with_others
from prefdata.measure._means import COLUMNS, means, with_groups
from prefdata.measure._texts import log_length, with_differences
from prefdata.tables import Completions, Measures, Prompts, Samples, Votes

SCOPE = "all"


def length_bias(
    votes: Votes,
    completions: Completions,
    prompts: Prompts | None = None,
    samples: Samples | None = None,
    *,
    gold: str | None = None,
    judges: Sequence[str] | None = None,
    baseline: str | None = None,
) -> Measures:
    """Measure how the length of completions moves votes.

    - `length_bias`, subject the annotator: the log-odds of its preference that a factor e of
      length adds, beyond what the others (or gold) think of the two completions and the order of
      showing; 0 without bias. What all others share, a liking for length too, counts as quality:
      give `gold` where they may share it.
    - `longer_preferred`, subject the annotator: its mean preference for the longer completion, in
      [0, 1], a tie is 1/2; of equally long ones none counts.
    - `length_controlled_win_rate`, subject the generator (with `samples`): the share of its
      comparisons that it would win were both completions equally long, in [0, 1].

    Length is the number of characters, plus one. A comparison is on two completions and one
    criterion; unscored votes are left out. `n` counts votes on completions of different lengths;
    of a generator, its comparisons. `stderr`, `low` and `high` are over groups of prompts; where
    there are none, or quality could not be held constant, the note says why.

    Options:
    - `gold`: the annotator whose votes are the truth; default: the votes of all others.
    - `judges`: the annotators to measure, and whose votes count for generators; default all.
    - `baseline`: the generator to compare the others with; default: all with all.

    Raises `RecipeError` where nobody of a name voted, or the baseline has no comparison.
    """
    refuse_unknown(votes, [*([gold] if gold else []), *(judges or ())], "measure.length_bias")
    grouped = with_differences(with_groups(votes, prompts), log_length(completions))
    rows = with_others(grouped.drop_nulls("log_length"), gold)
    if judges is not None:
        rows = rows.filter(pl.col("annotator").is_in(list(judges)))
    toward = (
        pl.when(pl.col("log_length") > 0).then("preference").otherwise(1 - pl.col("preference"))
    )
    longer = rows.with_columns(longer=pl.when(pl.col("log_length") != 0).then(toward))
    made = [
        pl.DataFrame(schema=COLUMNS),
        effects_of(rows, {"log_length": "length_bias"}),
        means(longer, "longer", "longer_preferred", rows.select("subject").unique()),
    ]
    if samples is not None:
        made.append(_controlled(rows, samples, baseline))
    return Measures(pl.concat(made).sort("measure", "subject"))


def _controlled(rows: pl.DataFrame, samples: Samples, baseline: str | None) -> pl.DataFrame:
    """Win rates of generators at equal length."""
    of = samples.select("completion_id", "generator").unique()
    first = of.rename({"completion_id": "completion_a", "generator": "one"})
    second = of.rename({"completion_id": "completion_b", "generator": "other"})
    played = rows.join(first, on="completion_a").join(second, on="completion_b")
    played = played.filter(pl.col("one") != pl.col("other")).with_columns(
        itself=1.0, k=0.0, n=0.0, verdict=pl.lit(None, pl.Float64)
    )
    turned = played.with_columns(
        one="other",
        other="one",
        preference=1 - pl.col("preference"),
        place=-pl.col("place"),
        log_length=-pl.col("log_length"),
    )
    both = pl.concat([played, turned.select(played.columns)])
    known = both["other"].unique().sort().to_list()
    if baseline is not None and known and baseline not in known:
        raise RecipeError(
            f"measure.length_bias: baseline {baseline!r} has no comparison; "
            f"{nearest(baseline, known)}"
        )
    if baseline is not None:
        both = both.filter(pl.col("other") == baseline)
    both = both.with_columns(subject="one").sort(
        "subject",
        "other",
        "completion_a",
        "completion_b",
        "annotator",
        "criterion",
        "draw",
        "place",
    )
    name = "length_controlled_win_rate"
    found = effects_of(both, {"itself": name, "log_length": ""})
    ends = {each: _share(found[each]) for each in ("value", "low", "high")}
    p = ends["value"]
    # The errors of a share, from those of its log-odds.
    return found.with_columns(
        **ends,
        stderr=pl.col("stderr") * p * (1 - p),
        note=pl.when(pl.col("stderr").is_null()).then("note"),
    )


def _share(log_odds: pl.Series) -> pl.Series:
    values = np.asarray(expit(log_odds.cast(pl.Float64).to_numpy()), dtype=np.float64)
    return pl.Series(log_odds.name, values).fill_nan(None)
