"""The dataset card of a version: what is in it, how it was made, how far to trust it.

Markdown under the metadata that the Hugging Face Hub reads. It says only what the version holds:
no times, no machine, no claim that was not counted or measured.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, cast

import polars as pl

from prefdata.tables import VALUES
from prefdata.version.constitution import ABOUT, FIGURES, standing
from prefdata.version.licences import conflicts, unstated
from prefdata.version.markdown import code, grid, literal, plural
from prefdata.version.page import has_page
from prefdata.version.rationales import ABOUT as ABOUT_REASONS
from prefdata.version.rationales import FIGURES as OF_REASONS
from prefdata.version.rationales import kept
from prefdata.version.samples import counted, shown
from prefdata.version.trust import trust

SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
    100_000_000: "10M<n<100M",
    1_000_000_000: "100M<n<1B",
}
# Of the Hub's licence identifiers, those that data commonly have; others are stated by name.
LICENSES = {
    *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "cc-by-2.0"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "unlicense", "gpl-3.0"),
}
REASONS_SHOWN = 40


def card(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame], recipe: str = "") -> str:
    """README.md for a version, from its manifest (without files), its tables and its recipe."""
    sections = [
        _metadata(manifest),
        f"# {manifest['name']}\n\n{_partial(manifest)}{_opening(manifest, frames)}",
        f"## Contents\n\n{_contents(manifest)}",
        f"## How to load\n\n{_loading(manifest)}",
        f"## How it was made\n\n{_making(manifest, frames)}",
        f"## Models and judges\n\n{_models(manifest)}",
        *_constitution(frames),
        *_rationales(frames),
        f"## How far to trust it\n\n{_sampled(manifest)}{trust(manifest, frames)}",
        f"## Limitations\n\n{_limitations(manifest, frames)}",
        *([f"## Recipe\n\n{_fenced(recipe)}"] if recipe.strip() else []),
    ]
    text = "\n\n".join(sections) + "\n"
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc")


def _metadata(manifest: Mapping[str, Any]) -> str:
    exports: Mapping[str, Any] = manifest["exports"]
    rows = max((sum(each["splits"].values()) for each in exports.values()), default=0)
    size = next((name for upto, name in SIZES.items() if rows < upto), "1B<n<10B")
    lines = ["---", f"pretty_name: {json.dumps(manifest['name'])}", *_license(manifest)]
    lines += ["size_categories:", f"- {size}", "tags:", "- preference", "- prefdata"]
    # `datasets` loads no view of which the card names a split without rows
    held = {view: [s for s, n in each["splits"].items() if n] for view, each in exports.items()}
    held = {view: splits for view, splits in held.items() if splits}
    if held:
        lines.append("configs:")
    for at, (view, splits) in enumerate(held.items()):
        lines.append(f"- config_name: {json.dumps(view)}")
        if at == 0:
            lines.append("  default: true")
        lines.append("  data_files:")
        for split in splits:
            lines.append(f"  - split: {split}")
            lines.append(f"    path: {json.dumps(f'{view}/{split}/*.arrow')}")
    return "\n".join([*lines, "---"])


def _license(manifest: Mapping[str, Any]) -> list[str]:
    said = sorted({str(each).lower() for each in manifest["licenses"].values()})
    if not said:
        return []
    if len(said) == 1 and said[0] in LICENSES:
        return [f"license: {said[0]}"]
    if all(each in LICENSES for each in said):
        return ["license:", *(f"- {each}" for each in said)]
    # an identifier of one's own, for which the Hub takes no spaces
    name = re.sub(r"[^a-z0-9.]+", "-", " and ".join(said)).strip("-")
    return ["license: other", f"license_name: {json.dumps(name)}"]


def _partial(manifest: Mapping[str, Any]) -> str:
    """A warning where a limit ended the asking."""
    partial: Mapping[str, Any] | None = manifest.get("partial")
    if not partial:
        return ""
    missing: Mapping[str, int] = partial["missing"]
    stages = ", ".join(f"`{stage}` {n:,}" for stage, n in missing.items())
    return (
        f"> **Partial.** {partial['reason'].capitalize()}: requests that were not sent: {stages}. "
        f"{partial['go_on'].capitalize()}.\n\n"
    )


def _sampled(manifest: Mapping[str, Any]) -> str:
    said = shown(manifest)
    return f"> {said}\n\n" if said else ""


def _opening(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    kinds = ("prompts", "completions", "votes", "ratings", "pairs")
    rows = counted(manifest, frames)
    sizes = [plural(rows[name], name) for name in kinds if name in rows]
    held = f": {', '.join(sizes)}" if sizes else ""
    described = f"{_described(manifest['description'])}\n\n" if manifest["description"] else ""
    return (
        f"{described}A preference dataset{held}. Version `{manifest['id']}`, built by prefdata "
        f"{manifest['prefdata']}; the id names the content, so equal ids are equal data."
    )


def _described(text: str) -> str:
    """A description, in which lines that are set in are commands."""
    lines = ["    " + line.strip() if line[:1].isspace() else line for line in text.splitlines()]
    parts = [
        "\n".join(part) for _, part in groupby(lines, key=lambda line: line.startswith("    "))
    ]
    return "\n\n".join(parts)


def _contents(manifest: Mapping[str, Any]) -> str:
    rows = [
        (view, split, n, ", ".join(f"`{column}`" for column in each["columns"]))
        for view, each in manifest["exports"].items()
        for split, n in each["splits"].items()
    ]
    text = grid(("view", "split", "rows", "columns"), rows) if rows else "No view was exported."
    if manifest["splits"]:
        text += "\n\nA prompt and all that shares its group are in one split."
    return text + (
        "\n\nBeside the views stand the tables they were made of (`*.parquet`), the recipe "
        "(`recipe.toml`), the judges and `manifest.json`. Ids lead from each row to its prompt, "
        "completions and votes."
    )


def _loading(manifest: Mapping[str, Any]) -> str:
    view = next(iter(manifest["exports"]), "pairs")
    return (
        "```python\nimport prefdata\n"
        f'rows = prefdata.load("{manifest["name"]}@{manifest["id"]}", "{view}")\n```\n\n'
        "or, in this folder, `datasets.load_from_disk(view)`, and for a table "
        "`polars.read_parquet`; from the Hub, `datasets.load_dataset(repository, view, "
        f'revision="{manifest["id"]}")`.'
    )


def _making(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    counts: Mapping[str, Any] = manifest["counts"]
    stages = cast(Sequence[Mapping[str, Any]], counts.get("stages", ()))
    words = ("use", "table", "in", "out", "dropped")
    parts = [_sources(manifest)]
    if stages:
        rows = [[stage.get(word, "") for word in words] for stage in stages]
        parts.append(grid(("stage", "table", "in", "out", "dropped"), rows))
    nothing: Mapping[str, str] = counts.get("nothing_made", {})
    parts += [f"{code(stage)}: {literal(why)}." for stage, why in nothing.items()]
    if has_page(frames):
        parts.append(
            "`report.html` draws it: from prompts to pairs, how sure labels are, agreement, "
            "position and length, scores, cost, and pairs to page through."
        )
    if "dropped" in frames:
        why = frames["dropped"].group_by("stage", "table", "reason").len("n")
        why = why.sort(pl.col("n"), "stage", "table", "reason", descending=[True, *[False] * 3])
        why = why.head(REASONS_SHOWN).with_columns(
            pl.Series(name, [literal(each) for each in why[name].head(REASONS_SHOWN)])
            for name in ("stage", "reason")
        )
        parts.append("Dropped:\n\n" + grid(why.columns, why.rows()))
    if manifest["quarantined"]:
        unread = plural(manifest["quarantined"], "source rows")
        parts.append(f"{unread} could not be read; they stand in `quarantine.jsonl`.")
    spent = [f"{name} {_words(counts[name])}" for name in ("requests", "tokens") if name in counts]
    spent += [f"cost {counts['cost']}"] if counts.get("cost") else []
    if spent:
        parts.append(f"The build that wrote it: {'; '.join(spent)}.")
    return "\n\n".join(part for part in parts if part) or "No stages were recorded."


def _sources(manifest: Mapping[str, Any]) -> str:
    licenses: Mapping[str, str] = manifest["licenses"]
    if not licenses:
        return "No licence was stated for its sources."
    said = [f"{code(source)} ({literal(license)})" for source, license in licenses.items()]
    lines = [f"Sources: {', '.join(said)}."]
    if bare := unstated(manifest):
        named = ", ".join(map(code, bare))
        lines.append(f"> **No licence** is stated for {named}: ask before you pass it on.")
    lines += [f"> **Licences conflict.** {literal(each)}." for each in conflicts(manifest)]
    return "\n\n".join(lines)


def _models(manifest: Mapping[str, Any]) -> str:
    models = cast(Mapping[str, Mapping[str, Any]], manifest["recipe"].get("models", {}))
    rows = [
        (role, spec["label"], f"`{spec['identity']}`", _words(spec["options"]))
        for role, spec in models.items()
    ]
    parts = [grid(("role", "model", "identity", "options"), rows)] if rows else []
    judges: Mapping[str, str] = manifest["judges"]
    if judges:
        parts.append(grid(("judge", "digest"), [(n, f"`{d}`") for n, d in judges.items()]))
    return "\n\n".join(parts) or "No model was asked."


def _constitution(frames: Mapping[str, pl.DataFrame]) -> list[str]:
    """The principles by rank, how each fares, and what shows it."""
    found = standing(frames)
    if not found:
        return []
    rows = [(each.rank, literal(each.principle), *each.figures) for each in found]
    shown = [
        f"- {each.rank}, {kind}: {literal(one)} *over* {literal(other)}"
        for each in found
        for kind, (one, other) in each.examples.items()
    ]
    examples = ["Of what each is for and against, the chosen one over the other:", "\n".join(shown)]
    parts = [ABOUT, grid(("rank", "principle", *FIGURES), rows), *(examples if shown else ())]
    return ["## Constitution\n\n" + "\n\n".join(parts)]


def _rationales(frames: Mapping[str, pl.DataFrame]) -> list[str]:
    """The kinds of rationales, how many hold, and one of each."""
    found = kept(frames)
    if not found:
        return []
    rows = [(literal(each.kind), *each.figures) for each in found]
    shown = [f"- {literal(each.kind)}: {literal(each.example)}" for each in found if each.example]
    parts = [ABOUT_REASONS, grid(("kind", *OF_REASONS), rows), "\n".join(shown)]
    return ["## Rationales\n\n" + "\n\n".join(part for part in parts if part)]


def _limitations(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    lines = ["Labels say what these annotators preferred, not what is true or safe."]
    tables = [frames[name] for name in VALUES if name in frames]
    kinds = {who.partition(":")[0] for table in tables for who in table["annotator"].unique()}
    if kinds and "human" not in kinds:
        lines.append("No person judged any of it.")
    if "llm" in kinds:
        lines.append(
            "Judges that are language models may favour a position, a length or their own family."
        )
    if frames.get("pairs", pl.DataFrame()).height:
        unsure = frames["pairs"].filter(pl.col("soft_label") < 0.6).height
        share = unsure / frames["pairs"].height
        lines.append(f"{share:.1%} of the pairs have a soft label below 0.6: close to a coin.")
    return "\n".join(f"- {line}" for line in lines)


def _fenced(text: str) -> str:
    """A text in a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}toml\n{text.strip()}\n{fence}"


def _words(said: Any) -> str:
    if isinstance(said, Mapping):
        pairs = cast(Mapping[str, Any], said).items()
        return ", ".join(f"{key} {_words(value)}" for key, value in pairs)
    return said if isinstance(said, str) else json.dumps(said)
