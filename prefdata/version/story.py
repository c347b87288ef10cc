"""The whole story of one row: what was asked and answered, who said what of it, and its fate.

A row is a pair, a completion or a prompt, by its id or the start of it. A pair that a stage dropped
is in no table any more; its two completions are found again through its id, which is a digest of
theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from prefdata.errors import VersionError
from prefdata.tables import SIDES, VALUES, pair_ids
from prefdata.version.samples import says
from prefdata.version.stored import Version, data_folder, is_whole, listed

Kind = Literal["pair", "completion", "prompt"]
# In the order in which an id is looked for; an id is of one kind only.
KINDS: Mapping[Kind, str] = {"pair": "pairs", "completion": "completions", "prompt": "prompts"}
SHORTEST = 4
_PAIR = ("chosen_id", "rejected_id")


def story(version: Version, row: str) -> dict[str, Any]:
    """All that the version knows of a row, as what JSON can hold.

    `kind`, `id`, `fate` (kept or dropped) and, in sentences, `because`; the `prompts`,
    `completions` (with generators, strengths, ratings and scores), `votes`, `rankings`,
    `rationales`, `pairs`, `scores` and `dropped` rows that are about it; `stages`, what each did
    with it; `exports`, the views and splits in which it stands.

    Raises `VersionError` where no row or more than one has an id that begins so.
    """
    kind, id = _found(version, row)
    prompt_ids: Sequence[str] = []
    if kind == "pair":
        mine = version.table("pairs", where=pl.col("pair_id") == id)
        two = mine.select("chosen_id", "rejected_id").rows() or _dropped_sides(version, id)
        about = [each for sides in two for each in sides]
    elif kind == "completion":
        about, mine = [id], version.table("pairs", where=pl.any_horizontal(_is_side(id)))
    else:
        of_it = version.table("completions", "completion_id", where=pl.col("prompt_id") == id)
        about = of_it["completion_id"].to_list()
        is_either = pl.any_horizontal(pl.col(side).is_in(about) for side in _PAIR)
        mine = version.table("pairs", where=is_either)
        prompt_ids = [id]
    shown = version.table("completions", where=pl.col("completion_id").is_in(about))
    prompt_ids = prompt_ids or shown["prompt_id"].unique(maintain_order=True).to_list()
    votes = _votes(version, kind, about)
    better = dict(zip(mine["pair_id"], mine["chosen_id"], strict=True)) if kind == "pair" else {}
    ids = [id, *about, *mine["pair_id"], *prompt_ids]
    if kind == "prompt":
        ids += _possible(version, about)
    gone = version.table("dropped", where=pl.col("key").is_in(ids))
    texts = version.table("rationales", where=pl.col("pair_id").is_in(mine["pair_id"].to_list()))
    made: dict[str, Any] = {
        "version": version.ref,
        "kind": kind,
        "id": id,
        "fate": "kept" if _is_there(version, kind, id) else "dropped",
        "prompts": _rows(version, "prompts", "prompt_id", prompt_ids),
        "completions": _completions(version, shown, about, better.get(id)),
        "votes": _said(votes, better.get(id)),
        "rankings": _rankings(version, prompt_ids, about),
        "rationales": texts.to_dicts(),
        "pairs": mine.to_dicts(),
        "scores": _scores(version, [id] if kind == "pair" else mine["pair_id"].to_list()),
        "dropped": gone.to_dicts(),
        "exports": _exports(version, kind, id),
    }
    made["stages"] = _stages(version, kind, id, gone)
    return {**made, "because": _because(made)}


def anywhere(data: Path | str | None, row: str) -> dict[str, Any]:
    """The story of a row in the newest of the versions that know it."""
    versions = sorted(listed(data), key=lambda version: version.created, reverse=True)
    # a damaged one hides no other; `prefdata list` names it
    versions = [version for version in versions if is_whole(version.path)]
    for version in versions:
        if _meant(version, row):
            return story(version, row)
    raise VersionError(
        f"none of the {len(versions)} versions in {data_folder(data)} has a row {row!r}, kept or "
        "dropped; `prefdata list` names them"
    )


def _is_side(id: str) -> list[pl.Expr]:
    return [pl.col(side) == id for side in _PAIR]


def _found(version: Version, row: str) -> tuple[Kind, str]:
    """The kind and the whole id of the one row that is meant."""
    found = _meant(version, row)
    if not found:
        raise VersionError(
            f"{version.ref} has no prompt, completion or pair {row!r}, kept or dropped; exports "
            "name theirs in the columns prompt_id, completion_id and pair_id"
        )
    if len(found) > 1:
        first = ", ".join(f"{kind} {each}" for kind, each in found[:3])
        raise VersionError(f"{version.ref}: {row!r} is the start of {len(found)} ids: {first} ...")
    return found[0]


def _meant(version: Version, row: str) -> list[tuple[Kind, str]]:
    """All rows, kept or dropped, whose ids begin so."""
    if len(row) < SHORTEST:
        raise VersionError(f"{row!r} is too short for the start of an id; give {SHORTEST} digits")
    gone = version.table("dropped", "table", "key", where=pl.col("key").str.starts_with(row))
    found: list[tuple[Kind, str]] = []
    for kind, table in KINDS.items():
        key = f"{kind}_id"
        there = version.table(table, key, where=pl.col(key).str.starts_with(row))[key]
        lost = gone.filter(pl.col("table") == table)["key"]
        found.extend((kind, str(each)) for each in sorted({*there, *lost}))
    return found


def _is_there(version: Version, kind: Kind, id: str) -> bool:
    key = f"{kind}_id"
    return not version.table(KINDS[kind], key, where=pl.col(key) == id).is_empty()


def _dropped_sides(version: Version, id: str) -> list[tuple[str, str]]:
    """The two completions of a pair that is in no table; empty where they are gone too."""
    votes = version.table("votes", *SIDES, "annotator")
    for who, two in _candidates(version, votes):
        there = two.filter(pair_ids(two[SIDES[0]], two[SIDES[1]], who) == id)
        if there.height:
            return [(str(there[SIDES[0]][0]), str(there[SIDES[1]][0]))]
    return []


def _candidates(version: Version, votes: pl.DataFrame) -> Iterable[tuple[str | None, pl.DataFrame]]:
    """Two completions each and whose preference: first those that were compared, then all."""
    compared = votes.select(SIDES).unique()
    yield None, compared
    for (who,), rows in votes.group_by("annotator"):
        yield str(who), rows.select(SIDES).unique()
    yield None, _two_of_each(version.table("completions", "prompt_id", "completion_id"))


def _two_of_each(completions: pl.DataFrame) -> pl.DataFrame:
    each = completions.select("prompt_id", "completion_id")
    two = each.join(each, on="prompt_id", suffix="_b")
    two = two.filter(pl.col("completion_id") < pl.col("completion_id_b"))
    return two.select(completion_a="completion_id", completion_b="completion_id_b")


def _possible(version: Version, about: Sequence[str]) -> list[str]:
    """The ids of all pairs that could be made of a prompt's completions."""
    ids = ("prompt_id", "completion_id")
    two = _two_of_each(
        version.table("completions", *ids, where=pl.col("completion_id").is_in(about))
    )
    votes = version.table("votes", "annotator", where=pl.col(SIDES[0]).is_in(about))
    return [
        id
        for who in (None, *votes["annotator"].unique().sort())
        for id in pair_ids(two[SIDES[0]], two[SIDES[1]], who)
    ]


def _rows(version: Version, table: str, column: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    return version.table(table, where=pl.col(column).is_in(ids)).to_dicts()


def _completions(
    version: Version, shown: pl.DataFrame, order: Sequence[str], chosen: str | None
) -> list[dict[str, Any]]:
    """The completions in their order, each with all that is said of it alone."""
    ids = list(order)
    samples = _by("completion_id", _rows(version, "samples", "completion_id", ids))
    strengths = _by("completion_id", _rows(version, "strengths", "completion_id", ids))
    ratings = _by("completion_id", _rows(version, "ratings", "completion_id", ids))
    scores = _by("subject_id", _scores(version, ids))
    made = [
        {
            **row,
            **(
                {"side": "chosen" if row["completion_id"] == chosen else "rejected"}
                if chosen
                else {}
            ),
            "samples": samples.get(row["completion_id"], []),
            "strengths": strengths.get(row["completion_id"], []),
            "ratings": ratings.get(row["completion_id"], []),
            "scores": scores.get(row["completion_id"], []),
        }
        for row in shown.to_dicts()
    ]
    return sorted(made, key=lambda row: ids.index(row["completion_id"]))


def _by(column: str, rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def _votes(version: Version, kind: Kind, about: Sequence[str]) -> pl.DataFrame:
    """The votes on the two of a pair, or those in which any of the completions stands."""
    sides = [pl.col(side).is_in(about) for side in SIDES]
    both = pl.all_horizontal(sides) if kind == "pair" else pl.any_horizontal(sides)
    return version.table("votes", where=both)


def _said(votes: pl.DataFrame, chosen: str | None) -> list[dict[str, Any]]:
    """The votes, each with what it `says` (a side, tie or unscored) and which was `shown_first`.

    Sides are chosen and rejected where that is known, else a and b.
    """
    first, second = SIDES
    names = [pl.lit("a"), pl.lit("b")]
    if chosen is not None:
        turned = (("chosen", "rejected"), ("rejected", "chosen"))
        is_a = pl.col(first) == chosen
        names = [pl.when(is_a).then(pl.lit(x)).otherwise(pl.lit(y)) for x, y in turned]
    toward, a_first = pl.col("preference"), pl.col("a_first")
    shown = pl.when(a_first).then(names[0]).when(~a_first).then(names[1])
    ordered = votes.with_columns(says=says(toward, *names), shown_first=shown)
    return ordered.sort("annotator", "criterion", first, second, "draw").to_dicts()


def _rankings(
    version: Version, prompt_ids: Sequence[str], about: Sequence[str]
) -> list[dict[str, Any]]:
    rows = version.table("rankings", where=pl.col("prompt_id").is_in(prompt_ids))
    ranked = pl.col(VALUES["rankings"]).list.eval(pl.element().is_in(about)).list.any()
    return rows.filter(ranked | pl.col(VALUES["rankings"]).is_null()).to_dicts()


def _scores(version: Version, ids: Sequence[str]) -> list[dict[str, Any]]:
    return _rows(version, "scores", "subject_id", ids)


def _exports(version: Version, kind: Kind, id: str) -> list[dict[str, Any]]:
    """The views whose rows name it, with split and number of rows."""
    found: list[dict[str, Any]] = []
    for view, shape in version.manifest["exports"].items():
        if f"{kind}_id" not in shape["columns"]:
            continue
        for split in shape["splits"]:
            n = version.rows(view, split, where=pl.col(f"{kind}_id") == id).height
            if n:
                found.append({"view": view, "split": split, "rows": n})
    return found


def _stages(version: Version, kind: Kind, id: str, gone: pl.DataFrame) -> list[dict[str, Any]]:
    """What each stage that made or filtered rows of its table did with it, in their order."""
    lost = gone.filter((pl.col("key") == id) & (pl.col("table") == KINDS[kind])).to_dicts()
    reasons = {row["stage"]: row["reason"] for row in lost}
    flows = [
        flow
        for flow in version.manifest["counts"].get("stages", ())
        if flow["table"] == KINDS[kind]
    ]
    made: list[dict[str, Any]] = []
    for flow in flows:
        stage = str(flow.get("stage", flow["use"]))
        reason = reasons.pop(stage, None)
        added = flow["use"].partition(".")[0] in ("generate", "pair")
        fate = "dropped" if reason is not None else "made" if added else "passed"
        made.append({**flow, "stage": stage, "fate": fate, "reason": reason})
        if reason is not None:
            break
    rest = [{"stage": name, "fate": "dropped", "reason": why} for name, why in reasons.items()]
    return made + rest


def _because(said: Mapping[str, Any]) -> list[str]:
    """Why it was kept or dropped, in sentences."""
    lines: list[str] = []
    if said["kind"] == "pair" and said["pairs"]:
        pair = said["pairs"][0]
        margin = "" if pair["margin"] is None else f", ahead by {pair['margin']:.3g} in strength"
        whose = f" by {pair['annotator']}" if pair["annotator"] else ""
        lines.append(
            f"chosen is preferred{whose} with P = {pair['soft_label']:.3g}{margin}, "
            f"from {pair['n_votes']} scored votes"
        )
    for stage in said["stages"]:
        if stage["fate"] == "dropped":
            lines.append(f"{stage['stage']} dropped it: {stage['reason']}")
        elif stage["fate"] == "passed":
            share = f"{stage['out']:,} of {stage['in']:,} {stage['table']}"
            lines.append(f"{stage['stage']} kept it, with {share}")
    if said["kind"] != "pair" and said["fate"] == "kept" and not said["pairs"]:
        lines.append("it is in no pair of this version")
    for row in said["dropped"]:
        if row["key"] != said["id"]:
            lines.append(f"{row['stage']} dropped its {row['table']} {row['key']}: {row['reason']}")
    return lines
