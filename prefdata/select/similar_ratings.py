"""The ratings of the annotators who are nearest to each other, of each completion."""

import polars as pl

from prefdata.errors import TableError, nearest
from prefdata.select._similar import similar
from prefdata.tables import Ratings

SCOPE = "all"  # a criterion that some prompts lack is no mistake


def similar_ratings(
    ratings: Ratings, *, keep: int = 3, max_spread: float = 1.0, criterion: str | None = None
) -> Ratings:
    """Keep, of each completion, the ratings of the `keep` annotators who are most similar.

    Sets of annotators are compared as in select.similar_votes, by their ratings on `criterion`,
    and all ratings of those kept stay; without it, each criterion is looked at by itself. Of fewer
    annotators all are kept. Unscored ratings are not. Agreement among what is left says how it was
    chosen, not how reliable the annotators are: measure it before.

    Options:
    - `keep`: how many annotators, at least 2.
    - `max_spread`: a completion whose kept ratings are farther apart than this has none left, in
      [0, 1]; 1 leaves all. Of grades from 0 to 4, 1/2 is two grades, HelpSteer2's limit.
    - `criterion`: the one that says who is similar; HelpSteer2's is helpfulness.

    Raises `TableError` for a criterion that nobody rated.

    Source: Wang et al. (2024), HelpSteer2: Open-source dataset for training top-performing reward
    models (the three most agreeing of up to five; ties between sets are decided here).
    """
    where = "select.similar_ratings"
    scored = ratings.drop_nulls("rating")
    there = ratings["criterion"].unique().to_list()
    if criterion is not None and there and criterion not in there:
        raise TableError(f"{where}: nobody rated {criterion!r}; {nearest(criterion, there)}")
    item = ["completion_id"] if criterion else ["completion_id", "criterion"]
    own = scored.filter(pl.col("criterion") == criterion) if criterion else scored
    kept = similar(own, item, "rating", keep, max_spread, where)
    return Ratings(scored.join(kept, on=[*item, "annotator"], how="semi", maintain_order="left"))
