"""What people answered to the tasks that were handed out, as votes and ratings.

`prefdata annotate import` and `sync` take the answers in; a build reads those of its dataset as the
table `annotations`. Nobody is asked here and nobody waited for: without answers there are no votes.

A vote keeps its task as its `request_id`, so the two texts, their order and who answered when can
be followed through `annotations` and `data/annotations/<dataset>/tasks.jsonl`. An annotator who has
answered several tasks about the same question votes several times.

Source: the row format of people's votes after Wang et al. 2024, "HelpSteer2-Preference", and Kirk
et al. 2024, "The PRISM Alignment Dataset": each person's own answer is kept, none is averaged away.
"""

import polars as pl

from prefdata.tables import Annotations, Completions, Ratings, Votes, schema


def people(annotations: Annotations, completions: Completions) -> tuple[Votes, Ratings]:
    """A vote for each answer that compares two completions, a rating for each other.

    Answers about completions that the dataset no longer has stay in `annotations` and count for
    nothing. One that has no value is unscored, with its reason ("cannot tell", "skipped").
    """
    homes = completions.select("completion_id", "prompt_id")
    known = annotations.join(
        homes.rename({"completion_id": "completion_a"}), on="completion_a", how="inner"
    ).rename({"task_id": "request_id"})
    rated = known.filter(pl.col("completion_b").is_null())
    compared = (
        known.filter(pl.col("completion_b").is_not_null())
        .join(homes, left_on="completion_b", right_on="completion_id", suffix="_b")
        .with_columns(
            pl.when(pl.col("prompt_id") == pl.col("prompt_id_b")).then("prompt_id"),
            preference="value",
        )
    )
    votes = _drawn(compared, "votes")
    ratings = _drawn(rated.rename({"completion_a": "completion_id", "value": "rating"}), "ratings")
    return Votes(votes), Ratings(ratings)


def _drawn(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """The rows of a table, with a draw each: the next for the same annotator and question."""
    stated = schema(table)
    who = [name for name in stated.key if name != "draw"]
    draw = pl.int_range(pl.len()).over(who).cast(pl.Int64)
    numbered = rows.sort(*who, "request_id").with_columns(draw=draw)
    return numbered.select(*stated.columns)
