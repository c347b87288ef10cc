"""The parts of all sources as tables: prompts merged, contradictions set aside, draws numbered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.explain._standing import COUNTS, as_principles
from prefdata.sources.labels import FROM, RANKED
from prefdata.sources.rows import Part
from prefdata.sources.spec import SourceSpec
from prefdata.tables import check, digest, schema

NO_PLACES = pl.DataFrame(schema={"at": pl.Int64, "line": pl.Int64, "reason": pl.String})
SAID_HOW = pl.DataFrame(schema={"at": pl.Int64, "implicit": pl.Boolean})
WHO = ["annotator", "criterion"]


def together(parts: Sequence[Part]) -> Part:
    """The parts under each other, each text once."""
    whole = Part(
        *(pl.concat(each) for each in zip(*(part.frames().values() for part in parts), strict=True))
    )
    whole.prompts = whole.prompts.unique("prompt_id")
    whole.completions = whole.completions.unique("completion_id")
    return whole


def said_how(part: Part) -> pl.DataFrame:
    """Whether rows of a source state their prompt, or leave it to be seen."""
    return part.facts.select("at", "implicit").unique()


def mixed(said: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The sources of which some rows state their prompt and others do not."""
    return pl.concat(said).unique().filter(pl.col("at").is_duplicated()).select("at").unique()


def contradictions(part: Part, among: pl.DataFrame) -> pl.DataFrame:
    """The rows (at, line, reason) that say of a prompt or label what others contradict.

    `among` are the sources that are `mixed`; the rest a part tells in which every prompt is whole.

    Of a prompt's reference, group and user the value that most of its rows give stands; where
    none has more than the others, all are set aside. Of labels with one key, draw included, and
    different contents none stands. A pair without a prompt is implicit only if the whole source
    is. So the order of the rows does not matter.
    """
    found = [_disputed(part.facts, name) for name in ("reference", "group", "user")]
    found.append(_without_prompt(part.facts, among))
    for name in ("votes", "ratings", "samples"):
        found.append(_collisions(name, getattr(part, name)))
    places = pl.concat([NO_PLACES, *found])
    return places.sort("at", "line", "reason").unique(["at", "line"], keep="first").sort(FROM)


def _disputed(facts: pl.DataFrame, name: str) -> pl.DataFrame:
    said = facts.select("prompt_id", *FROM, pl.col(name).alias("value")).drop_nulls("value")
    counts = said.group_by("prompt_id", "value").len()
    most = counts.select(
        "prompt_id",
        "value",
        wins=(pl.col("len") == pl.col("len").max().over("prompt_id")),
        alone=(pl.col("len") == pl.col("len").max()).sum().over("prompt_id") == 1,
        several=pl.len().over("prompt_id") > 1,
    )
    lost = most.filter(pl.col("several") & ~(pl.col("wins") & pl.col("alone")))
    reason = f"the same prompt has another {name} in other rows: {{}} here"
    return said.join(lost, on=["prompt_id", "value"]).select(
        *FROM, pl.format(reason, "value").alias("reason")
    )


def _without_prompt(facts: pl.DataFrame, among: pl.DataFrame) -> pl.DataFrame:
    """The implicit pairs of sources in which others have their prompt."""
    return (
        facts.filter("implicit")
        .join(among, on="at", how="semi")
        .select(*FROM, pl.lit("prompt is missing, and other rows have one").alias("reason"))
    )


def _collisions(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that give one draw two contents."""
    key = schema(name).key
    given = frame.filter(pl.col("draw").is_not_null())
    contents = given.drop(FROM).unique()
    double = contents.filter(pl.struct(key).is_duplicated()).select(key).unique()
    reason = f"other {name} have the same draw and annotator and another content"
    return given.join(double, on=list(key), how="semi", nulls_equal=True).select(
        *FROM, pl.lit(reason).alias("reason")
    )


def without(part: Part, places: pl.DataFrame) -> Part:
    """The part without some rows, and without the texts that only these rows had."""
    if places.is_empty():
        return part
    rest = {
        name: getattr(part, name).join(places, on=FROM, how="anti")
        for name in ("facts", "uses", "samples", "votes", "ratings", "rankings")
    }
    prompts = part.prompts.join(rest["facts"], on="prompt_id", how="semi")
    completions = part.completions.join(rest["uses"], on="completion_id", how="semi")
    return Part(prompts=prompts, completions=completions, **rest)


def principles(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The principles of all sources; one that is in several has the sum of its counts."""
    types = {name: schema("principles").dtypes[name] for name in ("principle", *COUNTS, "rank")}
    same = pl.DataFrame(rows, types).group_by("principle")
    ranked = same.agg(pl.col(*COUNTS).sum(), pl.col("rank").min()).sort("rank", "principle")
    ids = [digest("principle", text) for text in ranked["principle"]]
    return as_principles(ranked.with_columns(pl.Series("principle_id", ids, pl.String)))


def as_tables(
    part: Part, rules: pl.DataFrame, specs: Sequence[SourceSpec], made: Sequence[str]
) -> dict[str, pl.DataFrame]:
    """The tables `made`, checked; `specs` are the sources by their number."""
    frames = {
        "prompts": _prompts(part, [spec.name for spec in specs]),
        "completions": part.completions,
        "samples": _samples(part.samples, _numbers(specs, "completions")),
        "votes": _drawn("votes", part.votes),
        "ratings": _drawn("ratings", _once(part.ratings, _numbers(specs, "pairs"))),
        "principles": rules,
        "rankings": _ranked(part.rankings),
    }
    return {
        name: check(name, frame.drop("at", "line", strict=False), where="the sources")
        for name, frame in frames.items()
        if name in made
    }


def _numbers(specs: Sequence[SourceSpec], kind: str) -> list[int]:
    return [at for at, spec in enumerate(specs) if spec.kind == kind]


def _prompts(part: Part, names: Sequence[str]) -> pl.DataFrame:
    named = pl.DataFrame({"at": range(len(names)), "source": names}).cast({"at": pl.Int64})
    about = (
        part.facts.join(named, on="at")
        .group_by("prompt_id")
        .agg(
            pl.col("source").unique().sort().str.join(","),
            *(pl.col(name).drop_nulls().first() for name in ("group", "reference", "user")),
            pl.col("tags").explode().drop_nulls().unique().sort(),
        )
    )
    tags = pl.when(pl.col("tags").list.len() > 0).then("tags").alias("tags")
    return part.prompts.join(about.with_columns(tags), on="prompt_id")


def _once(ratings: pl.DataFrame, pairs: Sequence[int]) -> pl.DataFrame:
    """The ratings; one of a side that stands in several pairs was given once."""
    of_pairs = pl.col("at").is_in(pairs)
    rest = [name for name in ratings.columns if name != "line"]
    return pl.concat([ratings.filter(~of_pairs), ratings.filter(of_pairs).unique(rest)])


def _samples(samples: pl.DataFrame, completions: Sequence[int]) -> pl.DataFrame:
    """The draws: each row of a source of completions is one, a mention elsewhere is none more."""
    key = ["completion_id", "generator"]
    rows = pl.col("at").is_in(completions)
    drawn = samples.filter(rows)
    mentioned = samples.filter(~rows).unique(key).join(drawn, on=key, how="anti")
    return _drawn("samples", pl.concat([drawn, mentioned]))


def _drawn(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with a draw each: as given, else the next of the same key, in order of content.

    Labels that stand in one row of a file keep together: if an annotator's second label of a pair
    is the next draw, so are those of the others in that row.
    """
    key = [column for column in schema(name).key if column != "draw"]
    content = [c for c in frame.columns if c not in (*key, "draw", "prompt_id", *FROM)]
    given = frame.filter(pl.col("draw").is_not_null()).drop(FROM).unique()
    first = given.group_by(key).agg((pl.col("draw").max() + 1).alias("first"))
    rest = (
        _with_row(frame.filter(pl.col("draw").is_null()), [*key, *content])
        .sort(*key, "row", *content, nulls_last=True)
        .join(first, on=key, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(
            (pl.col("first").fill_null(0) + pl.int_range(pl.len()).over(key)).alias("draw")
        )
    )
    return pl.concat([given, rest.select(given.columns)])


def _with_row(frame: pl.DataFrame, content: Sequence[str]) -> pl.DataFrame:
    """The frame with `row`, a text of all that stands in the same row of the file."""
    together = frame.filter(pl.struct(FROM).is_duplicated())
    if together.is_empty():
        return frame.with_columns(pl.lit(None, pl.String).alias("row"))
    text = pl.struct(content).struct.json_encode()
    rows = together.group_by(FROM).agg(text.sort().str.join("\n").alias("row"))
    return frame.join(rows, on=FROM, how="left")


def _ranked(ranks: pl.DataFrame) -> pl.DataFrame:
    """Ranked completions as rankings; one that is ranked alone is none.

    A completion that stands twice in one ranking has the better of its ranks. Equal rankings of
    an annotator are one row each, with the next draw, in order of content.
    """
    key = [*RANKED, "at", "place"]
    lists = (
        ranks.group_by(*key, "completion_id")
        .agg(pl.col("rank").min())
        .with_columns(pl.col("rank").rank("min").over(key).cast(pl.Int64))
        .sort(*key, "rank", "completion_id")
        .group_by(key, maintain_order=True)
        .agg(ranking="completion_id", ranks="rank")
        .filter(pl.col("ranking").list.len() > 1)
    )
    who = [name for name in RANKED if name != "draw"]
    first = pl.col("draw").max().over(who).fill_null(-1) + 1
    free = pl.col("draw").is_null()
    return (
        lists.with_columns(content=pl.col("ranking").list.join(" "))
        .sort(*who, "draw", "content", "at", "place", nulls_last=True)
        .with_columns(first=first, nth=pl.int_range(pl.len()).over([*who, free]))
        .with_columns(draw=pl.when(free).then(pl.col("first") + pl.col("nth")).otherwise("draw"))
        .select(*RANKED, "ranking", "ranks")
    )
