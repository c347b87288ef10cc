"""How the data of two versions differ as a whole: what who trains on the later one will find moved.

Shares of sources and of generators among what is chosen, lengths, and means of labels and scores.
`measure.curation_drift` predicts such moves from one version; this is what happened.

Source: Ferbach, Bertrand, Bose, Gidel (2024), Self-Consuming Generative Models with Curated Data
Provably Optimize Human Preferences, for what to watch: rewards, and shares of attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from prefdata.version.stored import Version


@dataclass(frozen=True)
class Moved:
    """A figure of the pairs of both versions; null where one has none. A share is in [0, 1]."""

    what: str
    of: str
    before: float | None
    after: float | None

    def __str__(self) -> str:
        is_share = self.what.startswith("share")
        sides = [
            "none" if x is None else f"{x:.1%}" if is_share else f"{x:,.4g}"
            for x in (self.before, self.after)
        ]
        return f"{self.what}{f' {self.of}' if self.of else ''}: {sides[0]} → {sides[1]}"

    @property
    def apart(self) -> float:
        """How far it moved: of a share the difference, else the difference by the larger one."""
        if self.before is None or self.after is None:
            return 1.0
        scale = 1.0 if self.what.startswith("share") else max(abs(self.before), abs(self.after))
        return abs(self.after - self.before) / scale if scale else 0.0


def drift(a: Version, b: Version) -> tuple[Moved, ...]:
    """What moved by at least a hundredth, the most first; shares before means."""
    one, other = (_figures(version) for version in (a, b))
    # where a version has nobody of a kind, a name's share of that kind is 0 only if others have one
    kinds = [{what for what, _ in side} for side in (one, other)]
    found = [
        Moved(*key, *(side.get(key, 0.0 if key[0] in kind and key[0].startswith("share") else None)
                      for side, kind in zip((one, other), kinds, strict=True)))
        for key in dict.fromkeys([*one, *other])
    ]  # fmt: skip
    moved = [each for each in found if each.apart >= 0.01]
    order = sorted(
        moved, key=lambda each: (not each.what.startswith("share"), -each.apart, each.of)
    )
    return tuple(order)


def _figures(version: Version) -> dict[tuple[str, str], float]:
    said = ("pair_id", "prompt_id", "chosen_id", "rejected_id", "margin", "soft_label")
    pairs = version.table("pairs", *said)
    prompts = version.table("prompts", "prompt_id", "source")
    sources = pairs.join(prompts, on="prompt_id").select(of=pl.col("source").str.split(","))
    drawn = version.table("samples", "completion_id", pl.col("generator").alias("of")).unique()
    chosen = pairs.select("pair_id", completion_id="chosen_id")
    return {
        **_shares("share of source", sources.with_row_index("pair_id").explode("of")),
        **_shares("share of chosen by", chosen.join(drawn, on="completion_id")),
        **_lengths(version, pairs),
        **_means(pairs.select("margin", "soft_label")),
        **_scores(version, pairs),
    }


def _shares(what: str, rows: pl.DataFrame) -> dict[tuple[str, str], float]:
    """The share of each `of` among pairs; one that has several counts a part for each."""
    by = rows.select("of", part=1 / pl.len().over("pair_id")).group_by("of")
    total = rows["pair_id"].n_unique()
    return {(what, str(of)): part / total for of, part in by.agg(pl.col("part").sum()).iter_rows()}


def _lengths(version: Version, pairs: pl.DataFrame) -> dict[tuple[str, str], float]:
    size = pl.col("completion").list.eval(pl.element().struct.field("content").str.len_chars())
    lengths = version.table("completions", "completion_id", size.list.sum().alias("n"))
    rows = pairs
    for side in ("chosen", "rejected"):
        of = lengths.rename({"completion_id": f"{side}_id", "n": side})
        rows = rows.join(of, on=f"{side}_id")
    unequal = rows.filter(pl.col("chosen") != pl.col("rejected"))
    longer = unequal.select((pl.col("chosen") > pl.col("rejected")).mean()).to_series()
    said = _means(
        rows.select(pl.col("chosen", "rejected").cast(pl.Float64).name.prefix("length of "))
    )
    return {**said, **_named([("share with the longer side chosen", "", longer)])}


def _scores(version: Version, pairs: pl.DataFrame) -> dict[tuple[str, str], float]:
    """The mean of each score over pairs, and over chosen sides."""
    # A preference is for the side of the smaller id, whichever that is; soft labels say the same.
    scores = version.table("scores", where=pl.col("score") != "preference")
    scores = scores.with_columns(
        of=pl.when(pl.col("model").is_null())
        .then("score")
        .otherwise(pl.format("{}@{}", "score", "model"))
    )
    made: dict[tuple[str, str], float] = {}
    about: Mapping[str, Sequence[str]] = {
        "pair": ("pair_id", "pairs"),
        "completion": ("chosen_id", "chosen"),
    }
    for subject, (key, name) in about.items():
        mine = scores.filter(pl.col("subject") == subject).rename({"subject_id": key})
        by = pairs.select(key).join(mine, on=key).group_by("of").agg(pl.col("value").mean())
        made |= {(f"mean over {name} of", str(of)): float(value) for of, value in by.iter_rows()}
    return made


def _means(rows: pl.DataFrame) -> dict[tuple[str, str], float]:
    return _named([(f"mean {each.name}", "", each) for each in rows.get_columns()])


def _named(columns: Sequence[tuple[str, str, pl.Series]]) -> dict[tuple[str, str], float]:
    found = {(what, of): column.drop_nulls().mean() for what, of, column in columns}
    return {key: float(value) for key, value in found.items() if isinstance(value, float)}
