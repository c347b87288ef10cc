"""How traits of texts move votes, beyond what the texts are worth, and win rates without them."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.measure._controlled import controlled_win_rates
from prefdata.measure._effects import effects_of, toward, with_others
from prefdata.measure._means import means, unheard, with_groups
from prefdata.measure._texts import with_differences
from prefdata.tables import Measures, Prompts, Samples, Votes


def trait_bias(
    votes: Votes,
    prompts: Prompts | None,
    samples: Samples | None,
    traits: pl.DataFrame,
    effects: Mapping[str, str],
    *,
    preferred: tuple[str, str],
    controlled: str,
    gold: str | None,
    judges: Sequence[str] | None,
    baseline: str | None,
    where: str,
) -> Measures:
    """The measures of a stage `where` about traits, a column each beside `completion_id`.

    `effects` names the measure of each trait's effect, "" where it is only held equal; `preferred`
    is the trait, and the measure, of how often the completion with more of it is preferred;
    `controlled` is the measure of win rates at equal traits.
    """
    known = with_differences(with_groups(votes, prompts), traits)
    rows = with_others(known, gold)
    if judges is not None:
        rows = rows.filter(pl.col("annotator").is_in(list(judges)))
    trait, measure = preferred
    more = rows.with_columns(more=toward(trait))
    named = [name for name in (*effects.values(), measure) if name]
    made = [
        unheard(named, votes, judges, gold=gold),
        effects_of(rows, effects),
        means(more, "more", measure, rows.select("subject").unique()),
    ]
    if samples is not None:
        rates = controlled_win_rates(
            known,
            samples,
            list(effects),
            controlled,
            gold=gold,
            judges=judges,
            baseline=baseline,
            where=where,
        )
        made.append(rates)
    return Measures(pl.concat(made).sort("measure", "subject"))
