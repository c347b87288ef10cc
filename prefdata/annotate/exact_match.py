"""Rate completions of prompts that have a known right answer by looking for it, without a model.

A text is read in clauses: it is cut at line ends, at "but", and after . , ; ! ? before a space. A
clause that asks ("... ?"), doubts or denies ("not", "wrong", "or", "than", ...) answers nothing;
", not X" is left out as a contrast. Compared are texts in lower case, with single spaces, without
emphasis (* _ ` ~ $ and backslashes) and without punctuation around words.

Numbers are compared as numbers: "1,200", "$1200", "1200.0" and "1200%" are equal, and so are 1/2
and 0.5; "112", "1.2", "-12", "12cm", "12:30", "10^12" and "12-15" are not 12. No unit is
converted, and a number is written in digits.

It errs to one side: what it rates 1 says the right answer; an answer in odd words may be rated 0.
"""

import polars as pl

from prefdata import tables
from prefdata.annotate._answers import Find, found, right
from prefdata.tables import Completions, Prompts, Ratings


def exact_match(prompts: Prompts, completions: Completions, *, find: Find = "auto") -> Ratings:
    """Ratings by `rule:exact_match` on the criterion "correctness": 1 the reference, 0 not.

    Prompts without a reference give no row. `raw` is the answer that was found, null for none.

    find: where the answer is looked for. "number": the last number of the first clause after
        "####", "answer is", "result:" or the like that has one, else the last number of the text;
        or what is boxed. "words": the first clause that mentions the reference as whole words must
        assert it. "whole": the whole completion is the reference. "auto": "number" for a reference
        that is a number, else "words".

    Source: the last number as the answer follows Cobbe et al. 2021, "Training verifiers to solve
    math word problems"; the rules against denials are our own.
    """
    references = prompts.select("prompt_id", "reference").drop_nulls("reference")
    references = references.filter(pl.col("reference").str.strip_chars() != "")
    rows = completions.join(references, on="prompt_id").select(
        "prompt_id",
        "completion_id",
        "reference",
        pl.col("completion").list.last().struct["content"],
    )
    pairs = rows.select("content", "reference").rows()
    said = [found(text, reference, find) for text, reference in pairs]
    rated = [right(raw, pair[1]) for raw, pair in zip(said, pairs, strict=True)]
    ratings = rows.with_columns(
        pl.Series("raw", said, pl.String),
        pl.Series("rating", rated, pl.Float64),
        annotator=pl.lit("rule:exact_match"),
        criterion=pl.lit("correctness"),
        draw=pl.lit(0, pl.Int64),
        rationale=pl.lit(None, pl.String),
        unscored=pl.lit(None, pl.String),
        request_id=pl.lit(None, pl.String),
    )
    return Ratings(ratings.select(*tables.schema("ratings").columns))
