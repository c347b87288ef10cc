"""Whether an annotator prefers the longer of two completions, whatever they are worth.

The slope b of a logistic model of an annotator's votes,

    P(a preferred) = sigmoid(a theta + c z + b (log length_a - log length_b)),

with theta what the others think of the two sides, or gold, and z = +-1 the order of showing. The
win rate of a generator at equal length is that of `_controlled.py`.

Source: Dubois, Galambosi, Liang, Hashimoto 2024, "Length-Controlled AlpacaEval: A Simple Way to
Debias Automatic Evaluators" (here without its term for the difficulty of an instruction).
"""

from collections.abc import Sequence

from prefdata.measure._texts import log_length
from prefdata.measure._trait_bias import trait_bias
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
    - `judges`: the annotators to measure, and whose votes count for generators; default all but
      gold, on all comparisons, those that gold did not vote on too.
    - `baseline`: the generator to compare the others with; default: all with all.

    A judge who did not vote, and everybody where gold did not, has nulls, and the note says whose
    votes are missing. So are win rates where the
    baseline has no comparison. Raises `RecipeError` for one without samples.
    """
    return trait_bias(
        votes,
        prompts,
        samples,
        log_length(completions),
        {"log_length": "length_bias"},
        preferred=("log_length", "longer_preferred"),
        controlled="length_controlled_win_rate",
        gold=gold,
        judges=judges,
        baseline=baseline,
        where="measure.length_bias",
    )
