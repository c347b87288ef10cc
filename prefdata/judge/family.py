"""Which family of models a name belongs to, so that a judge can be told from its own relatives.

A judge favours what models of its own family wrote (`measure.self_preference` shows by how much).
`families.toml` lists what the names of each family contain; a tuned model is of the family of the
weights that it was trained from. A name that contains no entry, or two equally long ones of
different families, is of no known family: nothing is guessed.

Source: Panickssery, Bowman, Feng 2024, "LLM Evaluators Recognize and Favor Their Own Generations".
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

import polars as pl

from prefdata.tables import Samples


def family_of(model_name: str) -> str | None:
    """The family of a model by its name, as "gpt" for "openai/gpt-4o-mini"; None if unknown.

    Of all entries that the name contains the longest decides. An entry is found where neither its
    beginning nor its end cuts a word or a number in two: "yi" is in "Yi-34B" and not in "tayi-7b",
    "o1" is in "o1-mini" and not in "o100". The organisation of a name ("google/...") counts only
    where nothing behind the last slash is known.
    """
    name = _plain(model_name)
    for part in dict.fromkeys((name.rpartition("/")[2], name)):
        found = [(len(entry), family) for entry, family in _entries() if _inside(entry, part)]
        longest = {family for size, family in found if size == max(found)[0]}
        if longest:
            return longest.pop() or None if len(longest) == 1 else None
    return None


def first_named(name: str, patterns: Mapping[str, str]) -> str | None:
    """What the first pattern that fits the name stands for; None where none fits."""
    return next((to for pattern, to in patterns.items() if fnmatchcase(name, pattern)), None)


def with_families(
    votes: pl.DataFrame, samples: Samples, families: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """The votes with `family`, their annotator's, and `family_a`, `family_b`, the completions'.

    `families` is the family of annotators and generators by a pattern on the name, "" for none; of
    a name that no pattern fits `family_of` tells. Null is unknown, and the family of who is no
    model. A completion that models of several families gave is of none.
    """
    annotators, generators = votes["annotator"].unique(), samples["generator"].unique()

    def told(name: str, by_name: Callable[[str], str | None]) -> str | None:
        stated = first_named(name, families or {})
        return by_name(name) if stated is None else stated or None

    of_annotator = [told(name, _of_annotator) for name in annotators]
    of_generator = [told(name, family_of) for name in generators]
    mine = pl.DataFrame(
        {"annotator": annotators, "family": of_annotator}, schema_overrides={"family": pl.String}
    )
    made = pl.DataFrame(
        {"generator": generators, "family": of_generator}, schema_overrides={"family": pl.String}
    )
    made = samples.select("completion_id", "generator").join(made, on="generator")
    one = pl.col("family").n_unique() == 1
    known = made.group_by("completion_id").agg(pl.when(one).then(pl.col("family").first()))
    found = votes.join(mine, on="annotator", how="left", maintain_order="left")
    for side in ("a", "b"):
        named = known.rename({"completion_id": f"completion_{side}", "family": f"family_{side}"})
        found = found.join(named, on=f"completion_{side}", how="left", maintain_order="left")
    return found


def _of_annotator(name: str) -> str | None:
    """Only a model has a family; the judge's own name after the slash may hold another's."""
    kind, _, rest = name.partition(":")
    return family_of(rest.rpartition("/")[0] or rest) if kind in ("llm", "reward") else None


def _plain(name: str) -> str:
    """Lower case with one separator, so that "GPT_4" and "gpt 4" are one name."""
    return re.sub(r"[^a-z0-9/]+", "-", name.lower()).strip("-/")


def _inside(entry: str, name: str) -> bool:
    """Whether the name contains the entry and not as a part of a longer word or number."""
    if entry not in name:
        return False  # nearly always; a pattern for each would be compiled anew for every name
    before, after = ("a-z" if end.isalpha() else "0-9" for end in (entry[0], entry[-1]))
    return re.search(f"(?<![{before}]){re.escape(entry)}(?![{after}])", name) is not None


@cache
def _entries() -> tuple[tuple[str, str], ...]:
    text = files("prefdata.judge").joinpath("families.toml").read_text(encoding="utf-8")
    listed: dict[str, list[str]] = tomllib.loads(text)
    return tuple((entry, family) for family, entries in listed.items() for entry in entries)
