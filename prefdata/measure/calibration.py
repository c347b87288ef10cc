"""Whether probabilities are what they say: of what is held to be 70 % sure, 70 % comes true.

Gold decides which of two completions is better. Each comparison enters in both directions, as a
probability p with outcome y and as 1 - p with 1 - y, so that no side is preferred by how a table
is written (in the right direction alone y would always be 1). In bins of p, with n_b the rows of a
bin, p_b and y_b their means and N all rows,

    ECE = sum_b n_b |p_b - y_b| / N,   ACE = mean_b |p_b - y_b|,   MCE = max_b |p_b - y_b|
    Brier = sum (p - y)^2 / N

over the bins that hold something. Probabilities are an annotator's votes, the `preference` that an
aggregate gives to pairs, or sigmoid(s_a - s_b) for a score s of completions (a reward).

Source: Zeng et al. 2023, "On Diversified Preferences of Large Language Model Alignment" (both
directions; ECE, ACE, MCE of rewards); Guo et al. 2017, "On Calibration of Modern Neural Networks";
Brier 1950.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.measure._bootstrap import Statistic, intervals, stated
from prefdata.measure._means import means, side, unheard, with_groups
from prefdata.tables import SIDES, Measures, Prompts, Scores, Votes

SCOPE = "all"

Floats = NDArray[np.float64]
# What is summed in each bin: rows, probabilities, outcomes.
PARTS = 3
MOST_BINS = 1000
# What aggregates call P(the first of a pair is preferred).
PREFERENCE = "preference"


def calibration(
    votes: Votes,
    scores: Scores | None = None,
    prompts: Prompts | None = None,
    *,
    annotator: str,
    score: str = PREFERENCE,
    bins: Sequence[int] = (10,),
    edges: Literal["uniform", "quantile"] = "uniform",
    draws: int = 1000,
    seed: int = 0,
) -> Measures:
    """Measure how well probabilities are calibrated on the comparisons that gold decided.

    Subjects are the annotators that voted on comparisons of gold, with the mean preference of all
    their votes on one as probability; and, where `scores` has the score, "<score> of <model>".

    - `ece_<bins>`, `ace_<bins>`, `mce_<bins>`: as defined above; in [0, 1], 0 is calibrated.
    - `brier`: in [0, 1]; a constant 1/2 has 0.25.
    - `reliability_<bins>_<bin>`: the share that came true in a bin, in [0, 1]; the note has the
      mean probability there. Bins are numbered from 0; empty ones have no row.

    `n` is the number of comparisons (of a bin: of rows, two a comparison). `stderr`, `low` and
    `high` of errors are from draws of groups of prompts. Chance alone makes the errors of bins too
    large, of the draws again; the interval is mirrored at the value, which takes this back, and
    cut off at 0 and 1. Those of `brier` and of bins are of means over groups of prompts.

    Options:
    - `annotator`: whose votes are gold. Its ties, and comparisons without it, are left out.
    - `score`: the score that holds probabilities (of pairs) or rewards (of completions).
    - `bins`: numbers of bins.
    - `edges`: "uniform" on [0, 1], or "quantile": bins of as equal numbers as equal values allow.
    - `draws`: how often groups of prompts are drawn.
    - `seed`: of the draws.

    Where gold has no vote at all the errors of all others are null, and the note says so. Raises
    `RecipeError` for a score that is not there or that is no probability, for less than one bin or
    draw, and for more than 1000 bins.
    """
    if not bins or min(*bins, draws) < 1:
        raise RecipeError(f"measure.calibration: bins {list(bins)}, draws {draws}: at least 1 each")
    if max(bins) > MOST_BINS:
        raise RecipeError(f"measure.calibration: bins {list(bins)}: at most {MOST_BINS} each")
    if scores is not None:
        _refuse_score(scores, score)
    truth = (
        with_groups(votes.filter(pl.col("annotator") == annotator), prompts)
        .drop_nulls("preference")
        .group_by("completion_a", "completion_b")
        .agg(pl.col("group").first(), y=side(pl.col("preference")) / 2 + 0.5)
        .filter(pl.col("y") != 0.5)
    )
    said = [
        votes.filter(pl.col("annotator") != annotator)
        .drop_nulls("preference")
        .join(truth, on=SIDES)
        .group_by(subject="annotator", one="completion_a", other="completion_b")
        .agg(pl.col("group").first(), pl.col("y").first(), p=pl.col("preference").sort().mean())
    ]
    if scores is not None:
        said += [each.select(said[0].columns) for each in _scored(scores, truth, score)]
    rows = pl.concat(said).sort("subject", "one", "other")
    turned = rows.with_columns(p=1 - pl.col("p"), y=1 - pl.col("y"))
    both = pl.concat([rows, turned]).with_columns(off=(pl.col("p") - pl.col("y")) ** 2)
    sizes = sorted(set(bins))
    errors = [f"{error}_{n}" for n in sizes for error in ("ece", "ace", "mce")]
    missing = unheard(["brier", *errors], votes, None, gold=annotator)
    made = [missing, means(both.head(rows.height), "off", "brier")]
    for n_bins in sizes:
        binned = both.with_columns(bin=_bin(n_bins, edges))
        made += _errors(binned, rows, n_bins, draws, seed)
        made += _curve(binned, n_bins)
    return Measures(pl.concat(made).sort("measure", "subject"))


def _refuse_score(scores: Scores, score: str) -> None:
    known = scores["score"].unique().sort().to_list()
    if known and score not in (*known, PREFERENCE):
        raise RecipeError(f"measure.calibration: no score {score!r}; {nearest(score, known)}")
    of_pairs = scores.filter((pl.col("score") == score) & (pl.col("subject") == "pair"))["value"]
    wrong = of_pairs.filter(~of_pairs.is_between(0, 1))
    if len(wrong):
        raise RecipeError(
            f"measure.calibration: score {score!r} of pairs is {wrong[0]:g} in a row, and a "
            f'probability is from 0 to 1; name one, as "{PREFERENCE}"'
        )


def _scored(scores: Scores, truth: pl.DataFrame, score: str) -> list[pl.DataFrame]:
    """Probabilities from the scores of pairs, and from the difference of those of completions."""
    named = scores.filter(pl.col("score") == score).with_columns(
        kind=pl.col("subject"),
        subject=pl.format("{} of {}", "score", pl.col("model").fill_null("no model")),
    )
    of = {
        kind: named.filter(pl.col("kind") == kind).select("subject", "subject_id", "value")
        for kind in ("pair", "completion")
    }
    sides = truth.rename({"completion_a": "one", "completion_b": "other"})
    pair = sides.with_columns(subject_id=tables.pair_ids(sides["one"], sides["other"]))
    of_pairs = pair.join(of["pair"], on="subject_id").with_columns(p=pl.col("value"))
    first, second = (
        of["completion"].rename({"subject_id": side, "value": f"of_{side}"})
        for side in ("one", "other")
    )
    of_two = sides.join(first, on="one").join(second, on=["other", "subject"])
    apart = pl.col("of_one") - pl.col("of_other")
    return [of_pairs, of_two.with_columns(p=1 / (1 + (-apart).exp()))]


def _bin(n_bins: int, edges: str) -> pl.Expr:
    """The number of the bin that a probability lies in; bins are closed below, the last above."""
    if edges == "uniform":
        place = pl.col("p")
    else:
        place = (pl.col("p").rank("min").over("subject") - 1) / pl.len().over("subject")
    return (place * n_bins).floor().clip(0, n_bins - 1).cast(pl.Int64)


def _errors(
    binned: pl.DataFrame, rows: pl.DataFrame, n_bins: int, draws: int, seed: int
) -> list[pl.DataFrame]:
    cells = binned.sort("subject", "group", "bin", "p", "y")
    key = ["subject", "group", "bin"]
    cells = cells.group_by(key, maintain_order=True).agg(
        pl.len().cast(pl.Float64), pl.col("p").sum(), pl.col("y").sum()
    )
    sums = pl.concat(
        cells.select("subject", "group", part=pl.col("bin") * PARTS + at, x=name)
        for at, name in enumerate(("len", "p", "y"))
    )
    n = rows.group_by("subject").agg(n=pl.len())
    note = f"{draws} draws of prompt groups"
    statistics: dict[str, Statistic] = {"ece": ece, "ace": ace, "mce": mce}
    found = intervals(
        sums, n_bins * PARTS, statistics, draws=draws, seed=seed, kind="mirrored"
    ).with_columns(pl.col("low", "high").clip(0, 1))
    return [stated(found, pl.format("{}_{}", "statistic", n_bins), n, note)]


def _curve(binned: pl.DataFrame, n_bins: int) -> list[pl.DataFrame]:
    """The reliability curve: of each bin the share that came true, and what it was held to be."""
    made: list[pl.DataFrame] = []
    for at in range(n_bins):
        inside = binned.filter(pl.col("bin") == at)
        held = inside.group_by("subject").agg(
            held=pl.format("mean probability {}", pl.col("p").sort().mean().round(4))
        )
        found = means(inside, "y", f"reliability_{n_bins}_{at:02}")
        found = found.join(held, on="subject", how="left", maintain_order="left")
        said = pl.concat_str("held", "note", separator="; ", ignore_nulls=True)
        made.append(found.with_columns(note=said).drop("held"))
    return made


def _gaps(sums: Floats) -> tuple[Floats, Floats]:
    """Rows of each bin, and |sum of p - sum of y| in it; the last axis of sums is by bin."""
    bins = sums.reshape(*sums.shape[:-1], -1, PARTS)
    return bins[..., 0], np.abs(bins[..., 1] - bins[..., 2])


def ece(sums: Floats) -> Floats:
    """The expected calibration error from the sums of each bin (rows, probabilities, outcomes)."""
    n, gap = _gaps(sums)
    return gap.sum(-1) / n.sum(-1)


def ace(sums: Floats) -> Floats:
    """The average calibration error: bins count alike."""
    n, gap = _gaps(sums)
    return (gap / np.maximum(n, 1e-300)).sum(-1) / (n > 0).sum(-1)


def mce(sums: Floats) -> Floats:
    """The largest calibration error of a bin."""
    n, gap = _gaps(sums)
    return np.where(n.sum(-1) > 0, (gap / np.maximum(n, 1e-300)).max(-1), np.nan)
