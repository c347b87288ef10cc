"""Sources of preferences side by side, at one size.

What a source's pairs are like, measured on as many pairs of each (see `select.size_matched`):
shares and means have the same room for error, and variety, which grows with size, can be compared
at all. That one source is better is for the models trained on them to say; `select.size_matched`
gives the data for that.

Source: Ivison et al. (2024), Unpacking DPO and PPO: Disentangling Best Practices for Learning from
Preference Feedback; Li, Galley, Brockett, Gao, Dolan (2016), A Diversity-Promoting Objective
Function for Neural Conversation Models, for the share of distinct word pairs.
"""

from collections.abc import Mapping

import polars as pl

from prefdata.measure._likelihoods import averages, number
from prefdata.measure._means import COLUMNS, means, two_names, with_groups
from prefdata.measure._texts import log_length
from prefdata.select.size_matched import of_sources
from prefdata.tables import SIDES, Completions, Measures, Pairs, Prompts, Votes, text_of, with_sides

SCOPE = "all"


def source_comparison(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    votes: Votes | None = None,
    *,
    size: int | None = None,
    seed: int = 0,
) -> Measures:
    """Compare the sources of pairs on `size` pairs of each; the subject is the source.

    - `source_pairs`: its pairs, of its own prompts; `n` is how many were drawn of it. A source with
      fewer than `size` has no other row.
    - `source_overlap`, subject "<source> & <source>" (an "&" of a name is doubled): the share of
      the smaller one's prompts with pairs that are in the other too, in [0, 1].
    - `source_margin`: the mean margin, where margins are known; `source_soft_label`: the mean.
    - `source_votes_against`: the mean share of a pair's scored votes that are against its label, in
      [0, 1], a tie is 1/2. Of pairs with votes.
    - `source_length`: the mean characters of its sides. `source_longer_chosen`: the share of pairs
      whose longer side is chosen, in [0, 1]; equally long is 1/2.
    - `source_distinct`: of its two words in a row, in chosen sides, the share that are different
      ones, in (0, 1]: how varied it is at this size.

    Errors are over groups of prompts.

    Options:
    - `size`: pairs of each source, at least 1; default as many as the smallest has.
    - `seed`: of the lots.

    Raises `RecipeError` where no source has `size` pairs of its own.
    """
    drawn = of_sources(pairs, prompts, size=size, seed=seed, where="measure.source_comparison")
    found = drawn.filter(pl.col("why").is_null()).select("pair_id", subject="source")
    rows = with_groups(found.join(pairs, on="pair_id", maintain_order="left"), prompts)
    sides = rows.join(_against(rows, votes), on="pair_id", how="left")
    for side in ("chosen", "rejected"):
        text = completions.select(
            pl.col("completion_id").alias(f"{side}_id"), text_of("completion").alias(side)
        )
        long = log_length(completions).select(
            pl.col("completion_id").alias(f"{side}_id"),
            (pl.col("log_length").exp() - 1).round().alias(f"{side}_length"),
        )
        sides = sides.join(text, on=f"{side}_id", how="left").join(long, on=f"{side}_id")
    chosen, rejected = pl.col("chosen_length"), pl.col("rejected_length")
    sides = sides.with_columns(
        length=(chosen + rejected) / 2, longer=((chosen - rejected).sign() + 1) / 2
    )
    made = [
        _counts(drawn),
        _overlaps(pairs, prompts),
        averages(sides, "margin", "source_margin"),
        means(sides, "soft_label", "source_soft_label"),
        means(sides, "against", "source_votes_against"),
        averages(sides, "length", "source_length"),
        means(sides, "longer", "source_longer_chosen"),
        *(
            number("source_distinct", str(name), distinct_pairs(part["chosen"]), part.height)
            for (name,), part in sides.sort("subject").group_by("subject", maintain_order=True)
        ),
    ]
    whole = pl.concat(made).filter((pl.col("n") > 0) | (pl.col("measure") == "source_pairs"))
    return Measures(whole.sort("measure", "subject"))


def distinct_pairs(texts: pl.Series) -> float | None:
    """Of all two words in a row within a text, the share that are different ones."""
    words = pl.DataFrame({"text": texts}).with_row_index("at").select(
        "at", word=pl.col("text").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+")
    )  # fmt: skip
    flat = words.explode("word").drop_nulls("word")
    two = flat.select(
        pl.struct(one="word", other=pl.col("word").shift(-1)).alias("two"),
        same=pl.col("at") == pl.col("at").shift(-1),
    ).filter("same")
    return two["two"].n_unique() / two.height if two.height else None


def _counts(drawn: pl.DataFrame) -> pl.DataFrame:
    """`source_pairs`, and of a source that is too small, why nothing else is said of it."""
    own = drawn.drop_nulls("source").group_by("source").agg(
        value=pl.len().cast(pl.Float64),
        n=pl.col("why").is_null().sum().cast(pl.Int64),
        size=pl.col("size").first(),
    )  # fmt: skip
    few = pl.format("fewer than the {} that are compared", pl.col("size"))
    row = {"measure": pl.lit("source_pairs"), "subject": pl.col("source"), "value": pl.col("value"),
           "note": pl.when(pl.col("n") == 0).then(few), "n": pl.col("n")}  # fmt: skip
    return _as_measures(own, row)


def _overlaps(pairs: Pairs, prompts: Prompts) -> pl.DataFrame:
    """How much of the smaller of two sources is in the other."""
    there = prompts.join(pairs, on="prompt_id", how="semi")
    of = there.select("prompt_id", source=pl.col("source").str.split(",")).explode("source")
    sizes = of.group_by("source").len("size")
    both = of.join(of, on="prompt_id", suffix="_right")
    both = both.filter(pl.col("source") < pl.col("source_right"))
    both = both.group_by("source", "source_right").len("shared")
    each = both.join(sizes, on="source").join(
        sizes.rename({"source": "source_right"}), on="source_right", suffix="_right"
    )
    small = pl.min_horizontal("size", "size_right")
    row = {"measure": pl.lit("source_overlap"), "subject": two_names("source", "source_right"),
           "value": pl.col("shared") / small, "n": small}  # fmt: skip
    return _as_measures(each, row)


def _as_measures(rows: pl.DataFrame, row: Mapping[str, pl.Expr]) -> pl.DataFrame:
    return rows.select(
        row.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in COLUMNS.items()
    )


def _against(rows: pl.DataFrame, votes: Votes | None) -> pl.DataFrame:
    """`pair_id, against`: how far the votes on a pair's two sides are for the rejected one."""
    if votes is None:
        return pl.DataFrame(schema={"pair_id": pl.String, "against": pl.Float64})
    sided = with_sides(rows).select("pair_id", "a_chosen", "completion_a", "completion_b")
    scored = votes.drop_nulls("preference")
    said = sided.join(scored, on=SIDES)
    toward = pl.when("a_chosen").then(1 - pl.col("preference")).otherwise("preference")
    return said.group_by("pair_id").agg(against=toward.sort().mean())
