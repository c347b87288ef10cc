"""Whom the labels serve: how far the chosen side is what people, and groups of them, prefer.

A person u is served by a label as far as it prefers the chosen side: 1, 0, or 1/2 for a tie. With

    U_u = mean over the labelled pairs that u judged,    U_g = mean of U_u over the people of g

the labels as a whole have the welfare

    utilitarian = mean of U_u over all people
    egalitarian = min over groups of U_g                      (Rawls)
    Nash        = exp(sum over groups of share_g log U_g)     (Nash; share_g of people)

so that egalitarian <= Nash <= utilitarian. A majority's labels are high in the first and low in
the second; what they cost the others is the difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.aggregate._annotators import is_by
from prefdata.aggregate._criteria import weigh
from prefdata.errors import RecipeError
from prefdata.measure._means import unheard
from prefdata.tables import SIDES, Measures, Pairs, Ratings, Scores, Votes, with_sides

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

BOOTSTRAPS = 500
WHERE = "measure.group_welfare"


def group_welfare(
    pairs: Pairs,
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    scores: Scores | None = None,
    *,
    of: str = "votes",
    groups: Mapping[str, Sequence[str]] | None = None,
    score: str = "group",
    annotators: str = "human:*",
    criteria: Sequence[str] | None = None,
    tie_band: float = 0.0,
    seed: int = 0,
) -> Measures:
    """Measure `group_welfare`, in [0, 1], of the labels in `pairs`.

    Subjects: "utilitarian", "egalitarian" and "nash"; each group by its name; n is the people who
    judged a labelled pair. And `group_welfare_gap`, of subject "all": the best served group less
    the worst.

    Everybody counts once, whether it judged one pair or thousands. People in no group count in
    "utilitarian" alone. With no groups known all people are one, "everyone", and the three are
    equal. `low` and `high` are 95 % intervals by the bootstrap over people within groups; that of
    the minimum leans low where groups are about equal. Of someone in a group who said nothing there
    is a row without a value, whose note says so.

    If the labels were made of the same votes, each person's own vote is among what is compared;
    with few people to a pair that serves everyone a little, whatever the rule.

    Options:
    - `of`: where preferences are taken from: `votes`, or `ratings`, of which a person prefers the
      higher one.
    - `groups`: annotators by the name of their group.
    - `score`: without `groups`, the score of annotators that tells the group of each, as `group`
      of estimate.em_groups or `ideal_group` of estimate.ideal_point; its groups are "group:<k>".
    - `annotators`: who is counted: one kind as `human:*`, or `*` for all.
    - `criteria`: the criteria that count; default all, in the mean.
    - `tie_band`: ratings that are this close are a tie; in [0, 1).
    - `seed`: of the bootstrap.

    Raises `RecipeError` for a table or criterion that is not there, an annotator in two groups, and
    a `tie_band` outside [0, 1).

    Source: Kirk et al. (2024), The PRISM Alignment Dataset, for welfare of subpopulations;
    Chakraborty et al. (2024), MaxMin-RLHF, for the least group; Moulin (2003), Fair Division and
    Collective Welfare, for the three functions.
    """
    if of not in ("votes", "ratings"):
        raise RecipeError(f"{WHERE}: of = {of!r}; votes or ratings")
    if (votes if of == "votes" else ratings) is None:
        raise RecipeError(f"{WHERE}: of = {of}, but no {of} are there")
    if not 0 <= tie_band < 1:
        raise RecipeError(f"{WHERE}: tie_band = {tie_band}; in [0, 1)")
    if of == "votes":
        preferred = _voted(Votes(pl.DataFrame(votes)), criteria)
    else:
        preferred = _rated(Ratings(pl.DataFrame(ratings)), pairs, criteria, tie_band)
    preferred = preferred.filter(is_by(annotators))
    people = _served(pairs, preferred)
    home = _home(people["annotator"], groups, scores, score)
    people = people.join(home, on="annotator", how="left", maintain_order="left")
    made = _measures(people, np.random.default_rng(seed))
    asked = home["annotator"].to_list() if groups else ()
    return Measures(pl.concat([made, unheard(["group_welfare"], preferred, asked, said=of)]))


def _voted(votes: Votes, criteria: Sequence[str] | None) -> pl.DataFrame:
    """`annotator`, the two completions and P(a preferred)."""
    rows = weigh(votes, criteria, None).drop_nulls("preference")
    return rows.select("annotator", *SIDES, "preference")


def _rated(
    ratings: Ratings, pairs: Pairs, criteria: Sequence[str] | None, tie_band: float
) -> pl.DataFrame:
    """The same from ratings, for the two completions of a label."""
    rows = weigh(ratings, criteria, None).drop_nulls("rating")
    key = ["annotator", "criterion", "completion_id"]
    means = rows.sort(*key, "rating").group_by(key, maintain_order=True).agg(pl.mean("rating"))
    both = with_sides(pairs).select(*SIDES).unique()
    for side in SIDES:
        own = means.rename({"completion_id": side, "rating": f"{side}_rating"})
        on = [side] if side == SIDES[0] else [side, "annotator", "criterion"]
        both = both.join(own, on=on)
    ahead = pl.col("completion_a_rating") - pl.col("completion_b_rating")
    tied = ahead.abs() <= tie_band + 1e-9
    preference = pl.when(tied).then(0.5).otherwise((ahead > 0).cast(pl.Float64))
    return both.select("annotator", *SIDES, preference=preference)


def _served(pairs: Pairs, preferred: pl.DataFrame) -> pl.DataFrame:
    """`annotator, served`: how far the labels are what each person prefers, sorted."""
    each = (
        preferred.sort("annotator", *SIDES, "preference")
        .group_by("annotator", *SIDES, maintain_order=True)
        .agg(pl.mean("preference"))
    )
    served = 1 - (pl.col("preference") - pl.col("a_chosen").cast(pl.Float64)).abs()
    return (
        each.join(with_sides(pairs).select(*SIDES, "a_chosen"), on=SIDES)
        .with_columns(served=served)
        .sort("annotator", *SIDES, "served")
        .group_by("annotator", maintain_order=True)
        .agg(pl.mean("served"))
    )


def _home(
    people: pl.Series,
    groups: Mapping[str, Sequence[str]] | None,
    scores: Scores | None,
    score: str,
) -> pl.DataFrame:
    """`annotator, group` of those who are in one."""
    if groups is not None:
        rows = [(one, name) for name, members in groups.items() for one in members]
        home = pl.DataFrame(rows, schema={"annotator": pl.String, "group": pl.String}, orient="row")
        twice = home.filter(pl.col("annotator").is_duplicated())["annotator"].to_list()
        if twice:
            raise RecipeError(f"{WHERE}: {twice[0]!r} is in several groups; put it in one")
        return home
    about = tables.empty("scores") if scores is None else pl.DataFrame(scores)
    about = about.filter((pl.col("subject") == "annotator") & (pl.col("score") == score))
    if about.is_empty():
        return pl.DataFrame({"annotator": people}).with_columns(group=pl.lit("everyone"))
    number = pl.col("value").round(0).cast(pl.Int64).cast(pl.String)
    return about.select(annotator="subject_id", group=pl.concat_str(pl.lit("group:"), number))


class Welfare(NamedTuple):
    """The three functions, and the welfare of each group in the last axis."""

    utilitarian: Floats
    egalitarian: Floats
    nash: Floats
    groups: Floats


def welfare(served: Floats, group: Ints, counts: Floats) -> Welfare:
    """Welfare when each person is there `counts[..., u]` times; group -1 is none."""
    n_groups = int(group.max(initial=-1)) + 1
    member = group[:, None] == np.arange(n_groups)
    size = counts @ member
    means = (counts * served) @ member / np.maximum(size, 1e-300)
    share = size / np.maximum(size.sum(-1, keepdims=True), 1e-300)
    with np.errstate(divide="ignore"):
        nash = np.exp((share * np.log(means)).sum(-1))
    total = (counts * served).sum(-1) / counts.sum(-1)
    return Welfare(total, means.min(-1), nash, means)


def _measures(people: pl.DataFrame, draw: np.random.Generator) -> Measures:
    names = people["group"].drop_nulls().unique().sort().to_list()
    if not names:
        return Measures(tables.empty("measures"))
    place = {name: at for at, name in enumerate(names)}
    numbers = people["group"].replace_strict(place, default=-1, return_dtype=pl.Int64).fill_null(-1)
    group, served = numbers.to_numpy(), people["served"].to_numpy()
    found = welfare(served, group, np.ones(len(served)))
    again = welfare(served, group, _redrawn(group, draw))
    sizes = [int((group == at).sum()) for at in range(len(names))]
    rows = [
        _row("group_welfare", "utilitarian", found.utilitarian, again.utilitarian, len(served)),
        _row("group_welfare", "egalitarian", found.egalitarian, again.egalitarian, sum(sizes)),
        _row("group_welfare", "nash", found.nash, again.nash, sum(sizes)),
    ]
    for at, name in enumerate(names):
        rows.append(_row("group_welfare", name, found.groups[at], again.groups[:, at], sizes[at]))
    gaps = np.ptp(found.groups), np.ptp(again.groups, axis=1)
    rows.append(_row("group_welfare_gap", "all", *gaps, sum(sizes)))
    frame = pl.DataFrame(rows, schema=tables.schema("measures").dtypes)
    return Measures(tables.check("measures", frame, where=WHERE))


def _redrawn(group: Ints, draw: np.random.Generator) -> Floats:
    """How often each person is there in each bootstrap, (bootstraps, people)."""
    counts = np.zeros((BOOTSTRAPS, len(group)))
    for at in np.unique(group):
        own = np.flatnonzero(group == at)
        counts[:, own] = draw.multinomial(len(own), np.full(len(own), 1 / len(own)), BOOTSTRAPS)
    return counts


def _row(measure: str, subject: str, value: Any, again: Floats, n: int) -> dict[str, Any]:
    """A single person's spread is not known."""
    row = {"measure": measure, "subject": subject, "value": float(value), "n": n}
    if n > 1:
        low, high = np.quantile(again, [0.025, 0.975])
        row |= {"stderr": float(again.std()), "low": float(low), "high": float(high)}
    return row
