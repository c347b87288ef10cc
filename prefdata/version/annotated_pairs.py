"""Votes as an AnnotatedPairs file (version 2.0), which Feedback Forensics opens.

The file is one JSON object: `metadata`, `annotators` by id, and `comparisons`, each with prompt,
two responses and an annotation by annotator id, whose `pref` is "a", "b" or null with a
`no_pref_reason`. That is all that its readers look at. Beside it stands what votes have more, so
that `sources.votes` gives every vote back: `votes` of an annotation (its `pref` is their mean),
`annotator` and `criterion` of an annotator, `messages` of a text that is more than one plain
message, `about_prompt`, and in `metadata` the `principles` with how they fare.

Its readers compare everybody with the annotator of one fixed id. That is by default the label of
the pairs, an `aggregate`, which is read back as nobody's vote.

Source: Findeis et al. 2025, "Feedback Forensics", and the reader and writer of its releases.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.errors import RecipeError, TableError, nearest
from prefdata.explain._labelled import labels
from prefdata.explain._standing import COUNTS
from prefdata.tables import SIDES, Pairs, Prompts, pair_ids, schema
from prefdata.whole import writing

VERSION = "2.0"
# What its readers take for the annotator that all others are compared with.
DEFAULT_ID = "ba751e7b"
TYPES = {"human": "human", "principle": "principle"}  # all others are "ai"
NOT_APPLICABLE = {"not applicable": "not_applicable"}
VOTE = ("draw", "a_first", "preference", "rationale", "unscored")
ABOUT = ("reference", "user", "group", "tags")
AT_ONCE = 5_000

READ = ("prompts", "completions", "samples", "votes", "pairs", "principles")

Annotators = dict[str, dict[str, Any]]


def write(
    path: Path, tables: Mapping[str, pl.DataFrame], name: str, default: str | None = None
) -> int:
    """Write the file, whole or not at all; the number of its comparisons. See `lines`."""
    n = -2  # the head and the end
    with writing(path) as file:
        for line in lines(tables, name, default=default):
            file.write(line)
            n += 1
    return n


def lines(
    tables: Mapping[str, pl.DataFrame], name: str, *, default: str | None = None
) -> Iterator[str]:
    """The text of the file, a line a comparison.

    `tables` are those of a version, `name` is how the file calls it. `default` is the annotator
    that others are compared with: None takes the label of the pairs or, where there are none, the
    only annotator that is no principle. Votes on answers to different prompts have no place in the
    file; their number is in its metadata.

    Raises `RecipeError` for a default that is not there, or that is to be chosen among several.
    """
    votes = _filled("votes", tables)
    joint = votes["prompt_id"].null_count()
    votes = votes.filter(pl.col("prompt_id").is_not_null())
    pairs, prompts = _filled("pairs", tables), _filled("prompts", tables)
    told = labels(Pairs(pairs.filter(pl.col("prompt_id").is_not_null())), Prompts(prompts))
    annotators = _annotators(votes, _filled("principles", tables))
    ids = _ids(annotators, _chosen(annotators, default, told.height > 0))
    shown = [each for each in ABOUT[1:] if prompts[each].count()]
    head: dict[str, Any] = {
        "version": VERSION,
        "description": f"prompts, completions and votes of {name}",
        "dataset_name": name,
        "default_annotator": DEFAULT_ID,
        "available_metadata_keys_per_comparison": ["source", *shown],
        "votes_left_out": joint,
    }
    rules = _filled("principles", tables).sort("rank", "principle")
    if rules.height:
        head["principles"] = rules.select("principle", *COUNTS, "rank").to_dicts()
    if told.height and DEFAULT_ID not in ids.values():
        label = {"name": "pairs", "description": f"the label of the pairs of {name}"}
        entries: Annotators = {DEFAULT_ID: {**label, "type": "unknown", "aggregate": True}}
    else:
        entries, told = {}, told.clear()
    entries |= {ids[key]: entry for key, entry in annotators.items()}
    yield f'{{"metadata": {_json(head)},\n"annotators": {_json(entries)},\n"comparisons": ['
    key = ["prompt_id", "completion_a", "completion_b"]
    both = pl.concat([votes.select(key), told.select(key)]).unique().sort(key[1:])
    comma = ""
    for some in both.iter_slices(AT_ONCE):
        for row in _comparisons(some, votes, told, tables, ids):
            yield f"{comma}\n{_json(row)}"
            comma = ","
    yield "\n]}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _filled(name: str, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    return tables.get(name, pl.DataFrame(schema=schema(name).dtypes))


def _annotators(
    votes: pl.DataFrame, principles: pl.DataFrame
) -> dict[tuple[str, str], dict[str, Any]]:
    """The entry of everybody who voted on a criterion."""
    texts: dict[str, str] = dict(principles.select("principle_id", "principle").rows())
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for who, what in votes.select("annotator", "criterion").unique().sort(pl.all()).rows():
        kind, _, name = who.partition(":")
        shown = who if what == "overall" else f"{who} on {what}"
        made[who, what] = {
            "name": shown,
            "description": texts.get(name.partition("/")[0], shown),
            "type": TYPES.get(kind, "ai"),
            "annotator": who,
            "criterion": what,
        }
    return made


def _chosen(
    annotators: Mapping[tuple[str, str], Mapping[str, Any]], default: str | None, paired: bool
) -> tuple[str, str] | None:
    """Whose votes others are compared with; None is the label of the pairs."""
    names = {str(entry["name"]): key for key, entry in annotators.items()}
    if default is not None:
        if default not in names:
            raise RecipeError(f"no votes of default = {default!r}; {nearest(default, names)}")
        return names[default]
    if paired:
        return None
    others = [n for n, (who, _) in names.items() if not who.startswith("principle:")]
    if len(others) != 1:
        known = ", ".join(sorted(others)) or "nobody but principles"
        raise RecipeError(
            "AnnotatedPairs compares all annotators with one, and there are no pairs whose label "
            f"that could be; name it as default. Votes are by {known}"
        )
    return names[others[0]]


def _ids(
    annotators: Mapping[tuple[str, str], Mapping[str, Any]], chosen: tuple[str, str] | None
) -> dict[tuple[str, str], str]:
    names = [str(entry["name"]) for entry in annotators.values()]
    double = sorted(each for each in names if names.count(each) > 1)
    if double:
        raise TableError(f"votes: an annotator and criterion read as another's, {double[0]!r}")
    return {
        key: DEFAULT_ID if key == chosen else name
        for key, name in zip(annotators, names, strict=True)
    }


def _comparisons(
    some: pl.DataFrame,
    votes: pl.DataFrame,
    told: pl.DataFrame,
    tables: Mapping[str, pl.DataFrame],
    ids: Mapping[tuple[str, str], str],
) -> Iterator[dict[str, Any]]:
    annotations: dict[tuple[str, str], dict[str, Any]] = {}
    for a, b, better in told.join(some, on=SIDES, how="semi").select(*SIDES, "a_chosen").rows():
        annotations.setdefault((a, b), {})[DEFAULT_ID] = {"pref": "a" if better else "b"}
    mine = votes.join(some, on=SIDES, how="semi").sort(*schema("votes").key)
    by = mine.group_by(*SIDES, "annotator", "criterion", maintain_order=True).agg(
        votes=pl.struct(VOTE),
        mean=pl.col("preference").mean().round(12),
        why=pl.col("unscored").drop_nulls().first(),
    )
    for a, b, who, what, said, mean, why in by.rows():
        annotations.setdefault((a, b), {})[ids[who, what]] = _annotation(said, mean, why)
    rows = some.join(_filled("prompts", tables), on="prompt_id")
    texts = _texts(_filled("completions", tables), _filled("samples", tables))
    for side in SIDES:
        named = texts.rename({"completion_id": side, "completion": f"said_{side}"})
        rows = rows.join(named.rename({"generators": f"by_{side}"}), on=side)
    rows = rows.sort(SIDES)
    rows = rows.with_columns(pair_ids(rows["completion_a"], rows["completion_b"]).alias("id"))
    for row in rows.iter_rows(named=True):
        about = {name: row[name] for name in ABOUT if row[name] is not None}
        shown = {name: value for name, value in about.items() if name != "reference"}
        if "tags" in shown:
            shown["tags"] = ", ".join(shown["tags"])
        asked = _response(row["prompt"], "user", None)
        made: dict[str, Any] = {"id": row["id"], "prompt": asked.pop("text")}
        if asked:
            made["prompt_messages"] = asked["messages"]
        for side, column in zip("ab", SIDES, strict=True):
            made[f"response_{side}"] = _response(
                row[f"said_{column}"], "assistant", row[f"by_{column}"]
            )
        made["annotations"] = annotations[row["completion_a"], row["completion_b"]]
        yield {**made, "metadata": {"source": row["source"], **shown}, "about_prompt": about}


def _annotation(votes: Sequence[Any], mean: float | None, why: str | None) -> dict[str, Any]:
    """The votes of one annotator on one criterion as one; a tie of several is a tie."""
    if mean is None:
        said = {"pref": None, "no_pref_reason": NOT_APPLICABLE.get(str(why), why)}
    elif mean == 0.5:
        said = {"pref": None, "no_pref_reason": "tie"}
    else:
        said = {"pref": "a" if mean > 0.5 else "b"}
    kept = [{k: v for k, v in vote.items() if v is not None} for vote in votes]
    return {**said, "votes": kept}


def _texts(completions: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    drawn = samples.group_by("completion_id").agg(generators=pl.col("generator").unique().sort())
    return completions.select("completion_id", "completion").join(
        drawn, on="completion_id", how="left"
    )


def _response(
    messages: Sequence[Mapping[str, str]], role: str, generators: Sequence[str] | None
) -> dict[str, Any]:
    """The text of messages, and these themselves where it is not all of them."""
    plain = len(messages) == 1 and messages[0]["role"] == role
    if plain:
        text = messages[0]["content"]
    else:
        text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in messages)
    made: dict[str, Any] = {"text": text}
    if generators is not None and len(generators) == 1:
        made["model"] = generators[0]
    return made if plain else {**made, "messages": list(messages)}
