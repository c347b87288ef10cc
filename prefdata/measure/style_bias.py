"""Whether an annotator prefers marked-up completions, whatever they are worth.

The slopes b of one logistic model of an annotator's votes,

    P(a preferred) = sigmoid(a theta + c z + sum over m of b_m (log(1 + m_a) - log(1 + m_b))
                             + d (log length_a - log length_b))

with theta what the others think of the two sides, or gold, z = +-1 the order of showing, and m_a
the number of list items, headings, bold spans, emojis, or pieces of code of completion a. Styles go
together, and with length: each slope is what one adds where the rest is held equal. The win rate of
a generator in equal style is that of `_controlled.py`.

Source: Li, Angelopoulos, Chiang 2024, "Does Style Matter? Disentangling style and substance in
Chatbot Arena" (there differences of counts relative to their sum, and no theta).
"""

from collections.abc import Sequence

import polars as pl

from prefdata.measure._markup import MARKS, markup
from prefdata.measure._texts import log_length
from prefdata.measure._trait_bias import trait_bias
from prefdata.tables import Completions, Measures, Prompts, Samples, Votes

SCOPE = "all"


def style_bias(
    votes: Votes,
    completions: Completions,
    prompts: Prompts | None = None,
    samples: Samples | None = None,
    *,
    gold: str | None = None,
    judges: Sequence[str] | None = None,
    baseline: str | None = None,
) -> Measures:
    """Measure how lists, headings, bold, emojis and code in completions move votes.

    - `style_bias_lists`, `_headings`, `_bold`, `_emojis`, `_code`, subject the annotator: the
      log-odds of its preference that a factor e of 1 + their number adds, beyond what the others
      (or gold) think of the two completions, the order of showing, length and the other styles; 0
      without bias. What all others share, a liking for style too, counts as quality: give `gold`
      where they may share it. Null where no comparison differs in it, with a note.
    - `styled_preferred`, subject the annotator: its mean preference for the completion with more
      marks, all kinds together, in [0, 1], a tie is 1/2; where both have as many none counts.
    - `style_controlled_win_rate`, subject the generator (with `samples`): the share of its
      comparisons that it would win were both completions equally long and equally marked up, in
      [0, 1].

    Counted are list items, headings, bold spans, emojis, and code blocks and spans, as Markdown
    shows them; of what stands in code nothing else counts. A comparison is on two completions and
    one criterion; unscored votes are left out. `n` counts votes on completions that differ in the
    mark; of a generator, its comparisons. `stderr`, `low` and `high` are over groups of prompts;
    where there are none, or quality could not be held constant, the note says why.

    Options:
    - `gold`: the annotator whose votes are the truth; default: the votes of all others.
    - `judges`: the annotators to measure, and whose votes count for generators; default all but
      gold, on all comparisons, those that gold did not vote on too.
    - `baseline`: the generator to compare the others with; default: all with all.

    A judge who did not vote, and everybody where gold did not, has nulls, and the note says whose
    votes are missing. So are win rates where the
    baseline has no comparison. Raises `RecipeError` for one without samples.
    """
    traits = markup(completions).select(
        "completion_id",
        pl.col(MARKS).cast(pl.Float64).log1p(),
        marks=pl.sum_horizontal(pl.col(MARKS).cast(pl.Float64)),
    )
    return trait_bias(
        votes,
        prompts,
        samples,
        traits.join(log_length(completions), on="completion_id"),
        {**{mark: f"style_bias_{mark}" for mark in MARKS}, "log_length": ""},
        preferred=("marks", "styled_preferred"),
        controlled="style_controlled_win_rate",
        gold=gold,
        judges=judges,
        baseline=baseline,
        where="measure.style_bias",
    )
