"""What a group of people chooses, by a rule: each prompt is an election among its completions.

With P_ij the share of people who prefer i to j, a tie half a person, rules on pairs are

- "borda":     the mean of P_ij over the others j;
- "copeland":  the share of others that i beats, P_ij > 1/2, a draw being half;
- "maximin":   the least P_ij: how i does against what speaks most against it;
- "schulze":   the share of others that i beats by paths: a path is as strong as its weakest step
               P_kl > 1/2, and i beats j if its strongest path to j is stronger than any back;
- "rank_centrality": log of the share of time that a walk spends on i which goes from any k to l
               with a chance of P_lk / (n - 1), one vote for each side added; of mean 0;

and rules on ratings, a person's r_ui in [0, 1]:

- "plurality": the share of those who rated i whose best it is, equal bests sharing;
- "veto":      the share of those who rated i that rated it above the level of veto;
- "egalitarian": the rating of whom i serves least;
- "nash":      the geometric mean of its ratings, 0 where anyone gave it 0.

No rule has all that one may wish (Arrow): copeland, schulze and maximin choose who beats all
others, which borda and plurality need not; egalitarian and veto protect the few, borda and nash
weigh.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.aggregate._criteria import weigh
from prefdata.aggregate._tally import preferences
from prefdata.errors import RecipeError
from prefdata.tables import Ratings, Scores, Strengths, Votes

SCOPE = "all"  # a criterion that some prompts lack is no mistake; one that all lack is

Floats = NDArray[np.floating[Any]]
LINALG: Any = np.linalg

OnPairs = Literal["borda", "copeland", "maximin", "schulze", "rank_centrality"]
OnRatings = Literal["plurality", "veto", "egalitarian", "nash"]
ON_PAIRS = ("borda", "copeland", "maximin", "schulze", "rank_centrality")
ON_RATINGS = ("plurality", "veto", "egalitarian", "nash")
# Shares as close as this are equal: sums of weights differ in their last bits.
EQUAL = 1e-9
# Numbers in a stack of elections that are counted together.
STACK = 1 << 20


def social_choice(
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    *,
    rule: OnPairs | OnRatings,
    of: Literal["votes", "ratings"] = "votes",
    tie_band: float = 0.0,
    veto: float = 0.1,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    estimator: str | None = None,
) -> tuple[Strengths, Scores]:
    """Choose by a rule: `strength` is the completion's value by it, of which more is better.

    It is in [0, 1], but of "rank_centrality", which is on the log scale and of mean 0. `stderr` is
    null: a rule states what these people chose, and nothing about others. What was not compared
    with i does not count in its value. Everybody counts once for each two completions, by the mean
    over its draws and criteria; votes between completions of different prompts belong to no
    election and are left out.

    `scores`, of rules on pairs: `preference` of each compared pair, as aggregate.majority_vote has
    it with prior 1. A pair that the rule orders against the majority is not made into one by
    `pair.*` and is dropped there, saying so.

    Options:
    - `rule`: borda, copeland, maximin, schulze, rank_centrality; plurality, veto, egalitarian or
      nash, which need ratings.
    - `of`: where rules on pairs take preferences from: `votes`, or `ratings`: a person prefers
      what it rated higher.
    - `tie_band`: ratings of one person that are this close are a tie; in [0, 1).
    - `veto`: the highest rating that is a veto; in [0, 1).
    - `criteria`: the criteria that count; default all.
    - `weights`: the weight of a criterion; default 1 each.
    - `estimator`: the result's name in `strengths.estimator`; default the rule's.

    Raises `RecipeError` for an unknown rule, an option out of range, a table that is not there, a
    criterion that no row is on and a weight that is not above 0.

    Source: Borda (1784); Copeland (1951); Simpson (1969), Kramer (1977) for maximin; Schulze
    (2011), A new monotonic, clone-independent ... single-winner election method; Negahban, Oh, Shah
    (2017), Rank Centrality; Kirk et al. (2024), The PRISM Alignment Dataset, for their use here.
    """
    name = estimator or rule
    _refuse(rule, of, tie_band, veto)
    if rule in ON_RATINGS or of == "ratings":
        if ratings is None:
            raise RecipeError(f"aggregate.social_choice: {rule} needs ratings, and none are there")
        rated = _rated(ratings, criteria, weights)
        if rule in ON_RATINGS:
            return _strengths(_by_ratings(rated, rule, veto), name), Scores(tables.empty("scores"))
        counted = _compared(rated, tie_band)
    else:
        if votes is None:
            raise RecipeError("aggregate.social_choice: of = votes, but no votes are there")
        counted = _voted(votes, criteria, weights)
    total = pl.col("wins") + pl.col("losses") + 2
    value = pl.col("value")
    shares = counted.with_columns(value=(pl.col("wins") + 1) / total).with_columns(
        stderr=(value * (1 - value) / (total + 1)).sqrt()
    )
    return _strengths(_by_pairs(counted, rule), name), preferences(shares, name)


def _refuse(rule: str, of: str, tie_band: float, veto: float) -> None:
    where, rules = "aggregate.social_choice", (*ON_PAIRS, *ON_RATINGS)
    if rule not in rules:
        raise RecipeError(f"{where}: rule = {rule!r}; one of {', '.join(rules)}")
    if of not in ("votes", "ratings"):
        raise RecipeError(f"{where}: of = {of!r}; votes or ratings")
    if not 0 <= tie_band < 1 or not 0 <= veto < 1:
        raise RecipeError(f"{where}: tie_band = {tie_band}, veto = {veto}; both in [0, 1)")


def _strengths(values: pl.DataFrame, name: str) -> Strengths:
    made = values.with_columns(estimator=pl.lit(name), stderr=pl.lit(None, pl.Float64))
    return Strengths(made.select(*tables.schema("strengths").columns).sort("completion_id"))


def _mean(frame: pl.DataFrame, key: Sequence[str], value: str) -> pl.DataFrame:
    """One value of a person: over draws, then over criteria by weight."""
    criterion = [*key, "annotator", "criterion", "weight"]
    return (
        frame.drop_nulls(value)
        .sort(*criterion, value)
        .group_by(criterion, maintain_order=True)
        .agg(pl.mean(value))
        .group_by(*key, "annotator", maintain_order=True)
        .agg((pl.col(value) * pl.col("weight")).sum() / pl.col("weight").sum())
    )


PAIR = ["prompt_id", "completion_a", "completion_b"]


def _voted(
    votes: Votes, criteria: Sequence[str] | None, weights: Mapping[str, float] | None
) -> pl.DataFrame:
    """People for a (`wins`) and for b of each compared two, sorted."""
    weighed = weigh(votes, criteria, weights).drop_nulls("prompt_id")
    return _counted(_mean(weighed, PAIR, "preference"))


def _rated(
    ratings: Ratings, criteria: Sequence[str] | None, weights: Mapping[str, float] | None
) -> pl.DataFrame:
    weighed = weigh(ratings, criteria, weights)
    return _mean(weighed, ["prompt_id", "completion_id"], "rating")


def _compared(rated: pl.DataFrame, tie_band: float) -> pl.DataFrame:
    both = rated.join(
        rated, on=["prompt_id", "annotator"], suffix="_b", maintain_order="left_right"
    )
    both = both.filter(pl.col("completion_id") < pl.col("completion_id_b"))
    ahead = pl.col("rating") - pl.col("rating_b")
    tied = ahead.abs() <= tie_band + EQUAL
    preference = pl.when(tied).then(0.5).otherwise((ahead > 0).cast(pl.Float64))
    named = {"completion_a": "completion_id", "completion_b": "completion_id_b"}
    return _counted(both.select("prompt_id", **named, preference=preference))


def _counted(preferred: pl.DataFrame) -> pl.DataFrame:
    return (
        preferred.sort(*PAIR, "preference")
        .group_by(PAIR, maintain_order=True)
        .agg(wins=pl.col("preference").sum(), losses=(1 - pl.col("preference")).sum())
    )


def _by_ratings(rated: pl.DataFrame, rule: str, veto: float) -> pl.DataFrame:
    rating, person = pl.col("rating"), ["prompt_id", "annotator"]
    is_best = (rating >= rating.max().over(person) - EQUAL).cast(pl.Float64)
    value = {
        "plurality": (is_best / is_best.sum().over(person)),
        "veto": (rating > veto + EQUAL).cast(pl.Float64),
        "egalitarian": rating,
        "nash": rating.log(),
    }[rule]
    by = rated.with_columns(value=value).group_by("prompt_id", "completion_id", maintain_order=True)
    each = pl.col("value")
    match rule:
        case "egalitarian":
            return by.agg(strength=each.min())
        case "nash":
            return by.agg(strength=each.mean().exp())
        case _:
            return by.agg(strength=each.mean())


def _by_pairs(counted: pl.DataFrame, rule: str) -> pl.DataFrame:
    """The value of each completion: elections of one size are counted together."""
    sides = [counted.select("prompt_id", completion_id=f"completion_{side}") for side in "ab"]
    known = pl.concat(sides).unique().sort("prompt_id", "completion_id")
    known = known.with_columns(
        at=pl.int_range(pl.len()).over("prompt_id"), size=pl.len().over("prompt_id")
    )
    made = [known.select("prompt_id", "completion_id", strength=pl.lit(0.0)).clear()]
    for (size,), own in known.group_by("size", maintain_order=True):
        for part, wins in _elections(counted, own, int(str(size))):
            value = VALUES[rule](wins)
            made.append(
                part.select("prompt_id", "completion_id", strength=pl.Series(value.ravel()))
            )
    return pl.concat(made)


def _elections(
    counted: pl.DataFrame, own: pl.DataFrame, size: int
) -> Iterator[tuple[pl.DataFrame, Floats]]:
    """Stacks of elections among `size` completions: whose, and `wins[e, i, j]` of i over j."""
    at_once = max(STACK // size**2, 1) * size
    for start in range(0, own.height, at_once):
        part = own.slice(start, at_once).with_columns(row=pl.int_range(pl.len()) // size)
        rows = counted.join(part.select("prompt_id", "row").unique(), on="prompt_id")
        for side in "ab":
            place = part.select(
                "prompt_id", pl.col("completion_id").alias(f"completion_{side}"), at_=pl.col("at")
            ).rename({"at_": f"at_{side}"})
            rows = rows.join(place, on=["prompt_id", f"completion_{side}"])
        e, a, b = (rows[name].to_numpy() for name in ("row", "at_a", "at_b"))
        wins = np.zeros((part.height // size, size, size))
        wins[e, a, b] = rows["wins"].to_numpy()
        wins[e, b, a] = rows["losses"].to_numpy()
        yield part, wins


def shares(wins: Floats) -> Floats:
    """P[e, i, j], the share that prefers i to j; NaN where they were not compared."""
    total = wins + wins.swapaxes(1, 2)
    return np.where(total > 0, wins / np.where(total > 0, total, 1), np.nan)


def _beats(p: Floats) -> Floats:
    """1, 1/2 or 0 for more, as much and less; NaN stays."""
    verdict = np.where(p > 0.5 + EQUAL, 1.0, np.where(p < 0.5 - EQUAL, 0.0, 0.5))
    return np.where(np.isnan(p), np.nan, verdict)


def borda(wins: Floats) -> Floats:
    """The values of each election, (elections, completions)."""
    return np.nanmean(shares(wins), axis=2)


def copeland(wins: Floats) -> Floats:
    """The values of each election, (elections, completions)."""
    return np.nanmean(_beats(shares(wins)), axis=2)


def maximin(wins: Floats) -> Floats:
    """The values of each election, (elections, completions)."""
    return np.nanmin(shares(wins), axis=2)


def schulze(wins: Floats) -> Floats:
    """The values of each election, (elections, completions)."""
    p = shares(wins)
    path = np.where(p > 0.5 + EQUAL, p, 0.0)  # NaN is no step
    n = path.shape[1]
    for k in range(n):
        path = np.maximum(path, np.minimum(path[:, :, k, None], path[:, None, k, :]))
    ahead = path - path.swapaxes(1, 2)
    verdict = np.where(ahead > EQUAL, 1.0, np.where(ahead < -EQUAL, 0.0, 0.5))
    verdict[:, np.arange(n), np.arange(n)] = 0
    return verdict.sum(2) / (n - 1)


def rank_centrality(wins: Floats) -> Floats:
    """The values of each election, (elections, completions)."""
    n = wins.shape[1]
    smoothed = wins + 1.0
    # Both numbers of two completions over their own sum: the chances of the two add up to 1.
    step = (smoothed / (smoothed + smoothed.swapaxes(1, 2))).swapaxes(1, 2) / (n - 1)
    step[:, np.arange(n), np.arange(n)] = 0
    step[:, np.arange(n), np.arange(n)] = 1 - step.sum(2)
    # The stationary share pi: pi (step - 1) = 0 and sum pi = 1.
    balance = step.swapaxes(1, 2) - np.eye(n)
    balance[:, -1, :] = 1
    right = np.zeros((len(wins), n, 1))
    right[:, -1] = 1
    pi: Floats = LINALG.solve(balance, right)[:, :, 0]
    strength: Floats = np.log(pi)
    return strength - strength.mean(1, keepdims=True)


VALUES = {
    "borda": borda,
    "copeland": copeland,
    "maximin": maximin,
    "schulze": schulze,
    "rank_centrality": rank_centrality,
}
