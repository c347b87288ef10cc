"""What lies between two versions: the pairs that came, went or flipped, and why."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import polars as pl

from prefdata.tables import TABLES
from prefdata.version.attribution import FIRST, Change, Reason, behind, reasons
from prefdata.version.drift import Moved, drift
from prefdata.version.stored import Version

SHOWN = 5
CHANGES: tuple[Change, ...] = ("added", "removed", "flipped", "moved")
Kind = Literal["limit", "judge", "model", "source", "option", "table"]


@dataclass(frozen=True)
class Cause:
    """One thing in which two versions differ; null: it is not there.

    `where` is a judge's name, a dotted key of the recipe (`stages.annotate.pairwise.judge`) or a
    table; for a table, `before` and `after` are its numbers of rows.
    """

    kind: Kind
    where: str
    before: Any
    after: Any

    def __str__(self) -> str:
        sides = [_short(side) for side in (self.before, self.after)]
        if self.kind == "table" and self.before == self.after:
            return f"{self.kind} {self.where}: {self.before} rows, with other content"
        return f"{self.kind} {self.where}: {sides[0]} → {sides[1]}"


@dataclass(frozen=True)
class Diff:
    """The difference of two versions: ids of pairs, sorted, and causes, judges first.

    `moved` are pairs that are kept with another soft label or margin. `reasons` say of all pairs
    that changed what of them changed, and which of the causes can have led to it. `drift` says how
    the pairs differ as a whole.
    """

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    flipped: tuple[str, ...]
    moved: tuple[str, ...]
    kept: int
    causes: tuple[Cause, ...]
    reasons: tuple[Reason, ...]
    drift: tuple[Moved, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The difference as what JSON can hold."""
        return json.loads(json.dumps(asdict(self)))

    def __str__(self) -> str:
        lines = [f"{self.before} → {self.after}"]
        for name in CHANGES:
            ids: tuple[str, ...] = getattr(self, name)
            more = ", ..." if len(ids) > SHOWN else ""
            first = f"  ({', '.join(ids[:SHOWN])}{more})" if ids else ""
            lines.append(f"  {name:<8}{len(ids):>8} pairs{first}")
        lines.append(f"  {'kept':<8}{self.kept:>8} pairs")
        lines += [f"  {reason}" for reason in self.reasons]
        lines += [f"  {moved}" for moved in self.drift]
        lines.append("because of" if self.causes else "nothing differs")
        return "\n".join([*lines, *(f"  {cause}" for cause in self.causes)])


def diff(a: Version, b: Version) -> Diff:
    """What `b` has that `a` has not, and the other way round.

    A pair is the same where its two completions and its annotator are; it flipped where the other
    one is chosen.
    """
    said = ("pair_id", "prompt_id", "chosen_id", "rejected_id", "soft_label", "margin")
    sides = [version.table("pairs", *said) for version in (a, b)]
    both = sides[1].join(sides[0], on="pair_id", suffix="_a")
    is_flipped = pl.col("chosen_id") != pl.col("chosen_id_a")
    is_moved = ~is_flipped & ~pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(f"{name}_a")) for name in ("soft_label", "margin")
    )
    changed: dict[Change, pl.DataFrame] = {
        "added": sides[1].join(sides[0], on="pair_id", how="anti"),
        "removed": sides[0].join(sides[1], on="pair_id", how="anti"),
        "flipped": both.filter(is_flipped),
        "moved": both.filter(is_moved),
    }
    causes = (*_limits(a, b), *_judges(a, b), *_options(a, b), *_sources(a, b), *_tables(a, b))
    named = [(cause.kind, cause.where) for cause in causes]
    return Diff(
        before=a.ref,
        after=b.ref,
        **{change: tuple(rows["pair_id"].sort()) for change, rows in changed.items()},
        kept=both.height - changed["flipped"].height,
        causes=causes,
        reasons=tuple(
            Reason(change, why, of, ids.len(), tuple(ids.head(FIRST)), behind(why, of, named))
            for change, why, of, ids in reasons(a, b, changed)
        ),
        drift=drift(a, b),
    )


def _limits(a: Version, b: Version) -> list[Cause]:
    """Requests that one of them lacks because a limit was reached."""
    one, other = (sum(v.partial["missing"].values()) if v.partial else 0 for v in (a, b))
    return [Cause("limit", "requests not sent", one, other)] if one != other else []


def _judges(a: Version, b: Version) -> list[Cause]:
    one, other = (cast(Mapping[str, str], v.manifest["judges"]) for v in (a, b))
    names = sorted({*one, *other})
    found = [Cause("judge", name, one.get(name), other.get(name)) for name in names]
    return [cause for cause in found if cause.before != cause.after]


def _options(a: Version, b: Version) -> list[Cause]:
    one, other = (_dotted(v) for v in (a, b))
    keys = list(dict.fromkeys([*one, *other]))
    found = [Cause(_kind(key), key, one.get(key), other.get(key)) for key in keys]
    order: list[Kind] = ["model", "source", "option"]
    different = [cause for cause in found if cause.before != cause.after]
    return sorted(different, key=lambda cause: order.index(cause.kind))


def _sources(a: Version, b: Version) -> list[Cause]:
    """Sources that have another number of rows."""
    one, other = (cast(Mapping[str, int], v.manifest["counts"].get("sources", {})) for v in (a, b))
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return [Cause("source", name, one.get(name), other.get(name)) for name in names]


def _kind(key: str) -> Kind:
    kinds: dict[str, Kind] = {"models": "model", "sources": "source"}
    return kinds.get(key.partition(".")[0], "option")


def _dotted(version: Version) -> dict[str, Any]:
    """A recipe's options by dotted key.

    A stage goes by what it uses, so that one more stage is not a change of all after it.
    """
    recipe = {**version.manifest["recipe"], "splits": version.manifest["splits"]}
    recipe["seed"] = version.manifest["seed"]
    flat: dict[str, Any] = {}
    for key, said in recipe.items():
        if key in ("stages", "exports") and isinstance(said, list):
            used: list[str] = []
            for stage in cast(list[dict[str, Any]], said):
                use = str(stage.get("use"))
                used.append(use)
                nth = f"#{used.count(use)}" if used.count(use) > 1 else ""
                options = {name: value for name, value in stage.items() if name != "use"}
                _flatten(f"{key}.{use}{nth}", options, flat)
            flat[key] = ", ".join(used)
        else:
            _flatten(key, said, flat)
    return flat


def _flatten(key: str, said: Any, flat: dict[str, Any]) -> None:
    if isinstance(said, Mapping):
        for name, value in sorted(cast(Mapping[str, Any], said).items()):
            _flatten(f"{key}.{name}", value, flat)
    else:
        flat[key] = said


def _tables(a: Version, b: Version) -> list[Cause]:
    one, other = (cast(Mapping[str, Any], v.manifest["tables"]) for v in (a, b))
    return [
        Cause("table", name, one.get(name, {}).get("rows", 0), other.get(name, {}).get("rows", 0))
        for name in TABLES
        if one.get(name, {}).get("digest") != other.get(name, {}).get("digest")
    ]


def _short(said: Any) -> str:
    text = "absent" if said is None else json.dumps(said, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
