"""Tags of rows: what of their prompts makes groups, and in which third a score about them lies."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.estimate._named import with_score
from prefdata.route._groups import By, groups_of
from prefdata.tables import Prompts, Scores, Votes

Bools = NDArray[np.bool_]
THIRDS = ("low", "middle", "high")


def tags_of(
    rows: pl.DataFrame,
    votes: Votes,
    prompts: Prompts | None,
    scores: Scores | None,
    *,
    features: Sequence[str],
    by: Sequence[By],
    where: str,
) -> tuple[list[str], Bools]:
    """Names and (rows, tags). A score that only has two values is one tag, of the larger one.

    Thirds are of the ranks among the rows, equal values together; a row without the score is in
    none.
    """
    names, inside = groups_of(rows, votes, prompts, by, 1)
    columns = [inside]
    for feature in features:
        value = with_score(rows, scores, feature, where=where)["value"]
        if value.drop_nulls().n_unique() == 2:
            names.append(feature)
            columns.append((value == value.max()).fill_null(False).to_numpy()[:, None])
        elif value.drop_nulls().n_unique() > 2:
            names += [f"{feature}:{third}" for third in THIRDS]
            columns.append(_thirds(value))
    return names, np.concatenate(columns, 1)


def _thirds(value: pl.Series) -> Bools:
    # The middle of the ranks that equal values share, as a share of all.
    share = (value.rank("average") - 0.5) / max(len(value) - value.null_count(), 1)
    third = (share * 3).floor().clip(0, 2).cast(pl.Float64).to_numpy()
    return third[:, None] == np.arange(3.0)


def varying(tags: Bools, fewest: int) -> NDArray[np.int64]:
    """The columns of tags that so many rows have, and so many have not."""
    n = tags.sum(0)
    return np.flatnonzero((n >= fewest) & (len(tags) - n >= fewest))
