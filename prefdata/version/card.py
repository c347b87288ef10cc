"""The dataset card of a version: what is in it, how it was made, how far to trust it.

Markdown under the metadata that the Hugging Face Hub reads. It says only what the version holds:
no times, no machine, no claim that was not counted or measured.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import polars as pl

from prefdata.measure._wilson import Z95, wilson
from prefdata.tables import VALUES
from prefdata.version.page import has_page

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
MEASURES_SHOWN = 40


def card(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    """README.md for a version, from its manifest (without files) and its tables."""
    sections = [
        _metadata(manifest),
        f"# {manifest['name']}\n\n{_partial(manifest)}{_opening(manifest, frames)}",
        f"## Contents\n\n{_contents(manifest)}",
        f"## How to load\n\n{_loading(manifest)}",
        f"## How it was made\n\n{_making(manifest, frames)}",
        f"## Models and judges\n\n{_models(manifest)}",
        *_constitution(frames),
        f"## How far to trust it\n\n{_trust(manifest, frames)}",
        f"## Limitations\n\n{_limitations(manifest, frames)}",
    ]
    text = "\n\n".join(sections) + "\n"
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc")


def _metadata(manifest: Mapping[str, Any]) -> str:
    exports: Mapping[str, Any] = manifest["exports"]
    rows = max((sum(each["splits"].values()) for each in exports.values()), default=0)
    size = next((name for upto, name in SIZES.items() if rows < upto), "1B<n<10B")
    lines = ["---", f"pretty_name: {json.dumps(manifest['name'])}", *_license(manifest)]
    lines += ["size_categories:", f"- {size}", "tags:", "- preference", "- prefdata"]
    if exports:
        lines.append("configs:")
    for at, (view, each) in enumerate(exports.items()):
        lines.append(f"- config_name: {json.dumps(view)}")
        if at == 0:
            lines.append("  default: true")
        lines.append("  data_files:")
        for split in each["splits"]:
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
    return ["license: other", f"license_name: {json.dumps(' and '.join(said))}"]


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


def _opening(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    kinds = ("prompts", "completions", "votes", "ratings", "pairs")
    sizes = [_plural(frames[name].height, name) for name in kinds if name in frames]
    held = f": {', '.join(sizes)}" if sizes else ""
    described = f"{manifest['description']}\n\n" if manifest["description"] else ""
    return (
        f"{described}A preference dataset{held}. Version `{manifest['id']}`, built by prefdata "
        f"{manifest['prefdata']}; the id names the content, so equal ids are equal data."
    )


def _contents(manifest: Mapping[str, Any]) -> str:
    rows = [
        (view, split, n, ", ".join(f"`{column}`" for column in each["columns"]))
        for view, each in manifest["exports"].items()
        for split, n in each["splits"].items()
    ]
    text = _grid(("view", "split", "rows", "columns"), rows) if rows else "No view was exported."
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
        "`polars.read_parquet`."
    )


def _making(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    counts: Mapping[str, Any] = manifest["counts"]
    stages = cast(Sequence[Mapping[str, Any]], counts.get("stages", ()))
    words = ("use", "table", "in", "out", "dropped")
    parts = [_sources(manifest)]
    if stages:
        rows = [[stage.get(word, "") for word in words] for stage in stages]
        parts.append(_grid(("stage", "table", "in", "out", "dropped"), rows))
    nothing: Mapping[str, str] = counts.get("nothing_made", {})
    parts += [f"`{stage}`: {why}." for stage, why in nothing.items()]
    if has_page(frames):
        parts.append(
            "`report.html` draws it: from prompts to pairs, how sure labels are, agreement, "
            "position and length, scores, cost, and pairs to page through."
        )
    if "dropped" in frames:
        why = frames["dropped"].group_by("stage", "table", "reason").len("n")
        why = why.sort(pl.col("n"), "stage", "table", "reason", descending=[True, *[False] * 3])
        parts.append("Dropped:\n\n" + _grid(why.columns, why.head(MEASURES_SHOWN).rows()))
    if manifest["quarantined"]:
        unread = _plural(manifest["quarantined"], "source rows")
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
    said = [f"`{source}` ({license})" for source, license in licenses.items()]
    return f"Sources: {', '.join(said)}."


def _models(manifest: Mapping[str, Any]) -> str:
    models = cast(Mapping[str, Mapping[str, Any]], manifest["recipe"].get("models", {}))
    rows = [
        (role, spec["label"], f"`{spec['identity']}`", _words(spec["options"]))
        for role, spec in models.items()
    ]
    parts = [_grid(("role", "model", "identity", "options"), rows)] if rows else []
    judges: Mapping[str, str] = manifest["judges"]
    if judges:
        parts.append(_grid(("judge", "digest"), [(n, f"`{d}`") for n, d in judges.items()]))
    return "\n\n".join(parts) or "No model was asked."


def _constitution(frames: Mapping[str, pl.DataFrame]) -> list[str]:
    """The principles by rank, each with how it fares where it was found and where it was not."""
    principles = frames.get("principles", pl.DataFrame())
    if principles.is_empty():
        return []
    measures = frames.get("measures", pl.DataFrame({"measure": [], "subject": []}))
    unseen = {
        row["subject"].removeprefix("principle:").partition("/")[0]: row
        for row in measures.filter(pl.col("measure") == "principle_accuracy_held_out").to_dicts()
    }
    rows: list[Sequence[Any]] = []
    for each in principles.sort("rank").to_dicts():
        told = each["for"] + each["against"]
        n = told + each["abstain"] + each["invalid"]
        held = unseen.get(each["principle_id"])
        rows.append(
            (
                each["rank"],
                each["principle"],
                each["for"],
                each["against"],
                _share(each["for"], told),
                _share(told, n),
                f"{_number(held['value'])} ({_interval(held)})" if held else "",
            )
        )
    head = ("rank", "principle", "for", "against", "accuracy", "relevance", "on pairs not seen")
    said = (
        "What the labels follow, as far as these principles tell. Accuracy is for / (for + "
        "against), relevance the share of pairs where a principle speaks, each with its 95 % "
        "interval; of many candidates the best always look good where they were chosen, so trust "
        "the last column."
    )
    return [f"## Constitution\n\n{said}\n\n{_grid(head, rows)}"]


def _share(k: int, n: int) -> str:
    """A share with Wilson's 95 % interval."""
    if n == 0:
        return ""
    low, high = wilson(k / n, float(n))
    return f"{_number(k / n)} ({_number(low)} to {_number(high)})"


def _trust(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    shares = [
        (each["table"], each["annotator"], each["rows"], each["unscored"], f"{each['share']:.1%}")
        for each in unscored(frames)
    ]
    parts: list[str] = []
    if shares:
        parts.append(_grid(("table", "annotator", "rows", "unscored", "share"), shares))
    if said := _noise(manifest["noise"]):
        parts.append(said)
    if "measures" in frames:
        measures, shown = frames["measures"], some_of_each(frames["measures"], MEASURES_SHOWN)
        rows = [
            (
                row["measure"],
                row["subject"],
                _number(row["value"]),
                _interval(row),
                row["n"],
                row["note"],
            )
            for row in shown.to_dicts()
        ]
        parts.append(_grid(("measure", "of", "value", "95 % interval", "rows", "note"), rows))
        if measures.height > shown.height:
            parts.append(f"{measures.height - shown.height:,} more in `measures.parquet`.")
    else:
        parts.append("Nothing was measured: neither agreement nor position bias is known.")
    return "\n\n".join(parts)


def _noise(noise: Mapping[str, Any]) -> str:
    """How many labels are estimated to be wrong, and what was done about it."""
    rates, done = noise.get("flip_rate", ()), noise.get("label_smoothing", ())
    used = {each["subject"]: each for each in done if each["n"]}
    lines = [
        f"Labels that are the wrong way round, by {each['subject']}: {_rate(each)}"
        f"{'; ' + each['note'] if each['note'] else ''}."
        for each in rates
    ]
    if "flipped" in noise:
        lines.append(f"{_plural(noise['flipped'], 'pairs')} had the label turned round.")
    if each := used.get("order.soften"):
        lines.append(
            f"The column `soft_label` is smoothed by {_rate(each)}, {each['note']}: a loss that "
            "takes it needs no label smoothing of its own."
        )
    if each := used.get("order.robust_weights"):
        lines.append(
            f"`robust_weight` and `robust_weight_flipped` are those of a rate of {_rate(each)}, "
            f"{each['note']}."
        )
    if not used and any(each["value"] for each in rates):
        lines.append("Nothing was smoothed by it: give a loss the rate as its `label_smoothing`.")
    return "\n".join(f"- {line}" for line in lines)


def _rate(row: Mapping[str, Any]) -> str:
    """A rate with its interval, as "12.3% (95 % interval 10.1% to 14.8%)"."""
    ends = [row["low"], row["high"]]
    said = "not known" if row["value"] is None else f"{row['value']:.1%}"
    return said if None in ends else f"{said} (95 % interval {ends[0]:.1%} to {ends[1]:.1%})"


def some_of_each(measures: pl.DataFrame, n: int) -> pl.DataFrame:
    """About `n` rows in order: of every measure one, then of each as many, unknown values last."""
    rank = pl.int_range(pl.len()).over("measure")
    unknown = pl.col("value").is_null()
    ranked = measures.sort("measure", unknown, "subject").with_columns(rank=rank)
    some = ranked.sort(pl.col("rank") > 0, unknown, "rank", "measure")
    shown = some.head(max(n, measures["measure"].n_unique())).drop("rank")
    return shown.sort("measure", "subject")


def unscored(frames: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Rows without a value, by table and annotator: `table, annotator, rows, unscored, share`."""
    found: list[dict[str, Any]] = []
    for name, column in VALUES.items():
        if name not in frames:
            continue
        missing = pl.col(column).is_null()
        by = (
            frames[name]
            .group_by("annotator")
            .agg(rows=pl.len(), unscored=missing.sum(), share=missing.mean())
        )
        found += [{"table": name, **row} for row in by.sort("annotator").to_dicts()]
    return found


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


def _grid(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)


def _cell(said: Any) -> str:
    return "" if said is None else " ".join(str(said).replace("|", "\\|").split())


def _words(said: Any) -> str:
    if isinstance(said, Mapping):
        pairs = cast(Mapping[str, Any], said).items()
        return ", ".join(f"{key} {_words(value)}" for key, value in pairs)
    return said if isinstance(said, str) else json.dumps(said)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _interval(row: Mapping[str, Any]) -> str:
    """The stated interval, else that of value and standard error; empty where neither is known."""
    low, high, value, error = (row[name] for name in ("low", "high", "value", "stderr"))
    if (low is None or high is None) and value is not None and error is not None:
        low, high = value - Z95 * error, value + Z95 * error
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _plural(n: int, name: str) -> str:
    return f"{n:,} {name if n != 1 else name.removesuffix('s')}"
