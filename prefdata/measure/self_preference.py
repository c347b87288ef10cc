"""Whether a judge prefers what models of its own family wrote, whatever it is worth.

The slope b of a logistic model of a judge's votes,

    P(a preferred) = sigmoid(a theta + c z + b (own_a - own_b) + d (log length_a - log length_b)),

with own 1 for a completion by a model of the judge's family and else 0, z = +-1 the order of
showing, and theta what the others think of the two sides, or gold. No others are those of the
judge's family; and who has a family's completion on one side only tells nothing of quality there.

Source: Panickssery, Bowman, Feng 2024, "LLM Evaluators Recognize and Favor Their Own Generations";
Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena" (win rates by a judge
against those by people).
"""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.judge.family import with_families
from prefdata.measure._effects import effects_of, toward, with_others
from prefdata.measure._means import means, unheard, with_groups
from prefdata.measure._texts import log_length, with_differences
from prefdata.tables import Completions, Measures, Prompts, Samples, Votes

SCOPE = "all"

PERSON = "a person is of no family of models"
NO_MODEL = "not a model: it is of no family"
UNKNOWN = "of no known family: state it, as family of its model or in families"
NOTHING_OWN = "no vote on a completion of its family and one known to be of another"


def self_preference(
    votes: Votes,
    completions: Completions,
    samples: Samples,
    prompts: Prompts | None = None,
    *,
    gold: str | None = None,
    judges: Sequence[str] | None = None,
    families: Mapping[str, str] | None = None,
) -> Measures:
    """Measure how much judges favour completions by models of their own family.

    The subject is the annotator, a language or reward model.

    - `self_preference`: the log-odds of its preference that a completion of its own family has
      above one of another, beyond what the others (or gold) think of the two, the order of
      showing, and length; 0 without bias. Null for people, rules, models of no known family and
      judges that saw none of their own beside another's; the note says which.
    - `own_win_rate_difference`: by its votes on one of each, the win rate of the own completions
      less that of the rest, in [-1, 1]. A family that writes better has it above 0 for no bias.
    - `own_win_rate_above_others`: the win rate of the own completions by its votes, less that by
      the others' (or gold's) on the same comparisons, in [-1, 1]. A judge that guesses more than
      the others is nearer to 1/2 than they, whoever wrote what; the log-odds allow for that.

    The others are all annotators but those of the judge's family, and but those whose own family
    wrote one of the two: a judge that favours its own says nothing of their quality. People and
    models of no known family count. What the others share counts as quality. Votes on a completion
    that a model of no known family gave, or models of several, are left out: it may be the own.

    A comparison is on two completions and one criterion; unscored votes are left out. `n` counts
    votes on one completion of the own family and one of another. `stderr`, `low` and `high` are
    over groups of prompts; where there are none, or quality could not be held constant, the note
    says why.

    Options:
    - `gold`: the annotator whose votes are the truth; default: the votes of the others.
    - `judges`: the annotators to measure; default all.
    - `families`: the family of annotators and generators by a pattern on the name, as
      {"*gpt-4*" = "gpt"}; the first that fits counts, and "" is none. After these the `family` of
      the recipe's models counts, then `families.toml` of the judges.

    A judge who did not vote, and everybody where gold did not, has a null `self_preference`, and
    the note says whose votes are missing.
    """
    is_model = pl.col("annotator").str.contains("^(llm|reward):")
    own_a, own_b = (
        (pl.col(side) == pl.col("family")).cast(pl.Float64) for side in ("family_a", "family_b")
    )
    known = with_families(with_groups(votes, prompts), samples, families)
    known = known.with_columns(family=pl.when(is_model).then("family")).with_columns(
        own=own_a - own_b
    )
    rows = with_others(
        with_differences(known, log_length(completions)),
        gold,
        kin=pl.coalesce("family", "annotator"),
        told=(pl.col("own") == 0).fill_null(True),
    )
    named = pl.col("annotator") != (gold or "")
    if judges is not None:
        named &= pl.col("annotator").is_in(list(judges))
    rows = rows.filter(named).drop_nulls("own")
    rows = rows.filter((pl.col("own") != 0).any().over("annotator"))
    asked = known.filter(named).select("annotator", "family").unique()
    mine = rows.filter(pl.col("own") != 0).with_columns(wins=toward("own"))
    theirs = pl.when(pl.col("verdict").is_not_null()).then((pl.col("verdict") + 1) / 2)
    theirs = theirs.when(pl.col("n") > 0).then(pl.col("k") / pl.col("n"))
    theirs = pl.when(pl.col("own") > 0).then(theirs).otherwise(1 - theirs)
    mine = mine.with_columns(difference=2 * pl.col("wins") - 1, above=pl.col("wins") - theirs)
    missing = unheard(["self_preference"], votes, judges, gold=gold)
    silent = asked.join(rows, on="annotator", how="anti").filter(
        ~pl.col("annotator").is_in(missing["subject"].implode())
    )
    made = [
        missing,
        effects_of(rows, {"own": "self_preference", "log_length": ""}),
        _silent(silent),
        means(mine, "difference", "own_win_rate_difference", low=-1),
        means(mine, "above", "own_win_rate_above_others", low=-1),
    ]
    return Measures(pl.concat(made).sort("measure", "subject"))


def _silent(annotators: pl.DataFrame) -> pl.DataFrame:
    """A null with its reason for each annotator whose votes cannot show it."""
    kind = pl.col("annotator").str.extract("^(.*?):")
    why = (
        pl.when(kind == "human")
        .then(pl.lit(PERSON))
        .when(~kind.is_in(["llm", "reward"]))
        .then(pl.lit(NO_MODEL))
        .when(pl.col("family").is_null())
        .then(pl.lit(UNKNOWN))
        .otherwise(pl.lit(NOTHING_OWN))
    )
    nothing = [pl.lit(None, pl.Float64).alias(x) for x in ("value", "stderr", "low", "high")]
    return annotators.select(
        pl.lit("self_preference").alias("measure"),
        pl.col("annotator").alias("subject"),
        *nothing,
        note=why,
        n=pl.lit(0, pl.Int64),
    )
