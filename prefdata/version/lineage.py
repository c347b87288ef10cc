"""Where a version comes from, in the terms of W3C PROV, for its manifest.

An entity is the version, a table or an export of it, a source, the recipe and each judge (plans);
an activity is the import, each stage and the build that wrote the version; an agent is prefdata and
each model that was asked. It is a PROV-JSON document, so any reader of PROV takes it as it is. It
is made of what the manifest says already, and so is no part of a version's id. The time stands
beside it only, as `created`, so that equal versions have equal lineage.

Source: W3C PROV-DM (2013); the PROV-JSON serialization, W3C member submission (2013).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

NAMESPACE = "urn:prefdata:"
IMPORT = "sources"  # the activity that a table without a stage comes from

Records = dict[str, dict[str, Any]]


def lineage(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The PROV-JSON document of a version, from its manifest."""
    ref = f"{manifest['name']}@{manifest['id']}"
    version, build, plan = _id("version", ref), _id("build", ref), _id("recipe", ref)
    flows = cast(Sequence[Mapping[str, Any]], manifest["counts"].get("stages", ()))
    stages = list(dict.fromkeys(_stage(flow) for flow in flows))
    activities = [_id("stage", ref, stage) for stage in [IMPORT, *stages]]
    writers = {str(flow["table"]): _id("stage", ref, _stage(flow)) for flow in flows}
    tables = {
        _id("table", name, str(said["digest"])): (name, said["rows"])
        for name, said in manifest["tables"].items()
    }
    sources = {_id("source", name): name for name in _sources(manifest)}
    judges = {_id("judge", name, str(d)): name for name, d in manifest["judges"].items()}
    models = {_id("model", role): role for role in manifest["recipe"].get("models", {})}
    asked = list(_asked(manifest, ref, models))
    return {
        "prefix": {"prefdata": NAMESPACE},
        "entity": {
            version: {"prov:type": _type("Collection"), "prov:label": ref},
            plan: {"prov:type": _type("Plan"), "prov:label": f"recipe of {ref}"},
            **{id: {"prov:type": _type("Plan"), "prov:label": name} for id, name in judges.items()},
            **{id: _source(manifest, name) for id, name in sources.items()},
            **{
                id: {"prov:label": name, "prefdata:rows": rows}
                for id, (name, rows) in tables.items()
            },
            **{_id("export", ref, view): {"prov:label": view} for view in manifest["exports"]},
        },
        "activity": {
            build: {"prov:label": f"build of {ref}"},
            **{
                id: {"prov:label": name}
                for id, name in zip(activities, [IMPORT, *stages], strict=True)
            },
        },
        "agent": {
            _id("software", manifest["prefdata"]): {
                "prov:type": _type("SoftwareAgent"),
                "prov:label": f"prefdata {manifest['prefdata']}",
            },
            **{
                id: {
                    "prov:type": _type("SoftwareAgent"),
                    "prov:label": str(manifest["recipe"]["models"][role].get("label", role)),
                    "prefdata:identity": str(manifest["recipe"]["models"][role].get("identity")),
                }
                for id, role in models.items()
            },
        },
        "used": _numbered(
            [{"prov:activity": activities[0], "prov:entity": id} for id in sources]
            + [{"prov:activity": build, "prov:entity": id} for id in (*tables, *judges)]
        ),
        "wasGeneratedBy": _numbered(
            [{"prov:entity": version, "prov:activity": build}]
            + [
                {"prov:entity": id, "prov:activity": writers.get(name, activities[0])}
                for id, (name, _) in tables.items()
            ]
            + [
                {"prov:entity": _id("export", ref, view), "prov:activity": build}
                for view in manifest["exports"]
            ]
        ),
        "wasInformedBy": _numbered(
            {"prov:informed": later, "prov:informant": earlier}
            for earlier, later in zip(activities, [*activities[1:], build], strict=True)
        ),
        "wasAssociatedWith": _numbered(
            [
                {
                    "prov:activity": build,
                    "prov:agent": _id("software", manifest["prefdata"]),
                    "prov:plan": plan,
                },
                *asked,
            ]
        ),
        "wasDerivedFrom": _numbered(
            {"prov:generatedEntity": version, "prov:usedEntity": id} for id in sources
        ),
        "hadMember": _numbered(
            {"prov:collection": version, "prov:entity": id}
            for id in (*tables, *(_id("export", ref, view) for view in manifest["exports"]))
        ),
    }


def _id(kind: str, *parts: str) -> str:
    return f"prefdata:{kind}/{'/'.join(quote(part, safe='@._-') for part in parts)}"


def _stage(flow: Mapping[str, Any]) -> str:
    return str(flow.get("stage", flow["use"]))


def _type(name: str) -> dict[str, str]:
    return {"$": f"prov:{name}", "type": "prov:QUALIFIED_NAME"}


def _numbered(records: Iterable[dict[str, Any]]) -> Records:
    """Relations have no names of their own."""
    return {f"_:r{at}": record for at, record in enumerate(records)}


def _sources(manifest: Mapping[str, Any]) -> list[str]:
    return sorted({*manifest["counts"].get("sources", {}), *manifest["licenses"]})


def _source(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    said: dict[str, Any] = {"prov:label": name}
    if name in manifest["licenses"]:
        said["prefdata:licence"] = str(manifest["licenses"][name])
    if name in manifest["counts"].get("sources", {}):
        said["prefdata:rows"] = manifest["counts"]["sources"][name]
    return said


def _asked(
    manifest: Mapping[str, Any], ref: str, models: Mapping[str, str]
) -> Iterable[dict[str, Any]]:
    """Which stage asked which model, by the names of roles in its options."""
    roles = {role: id for id, role in models.items()}
    for stage in manifest["recipe"].get("stages", ()):
        named = str(stage.get("name", stage.get("use")))
        texts = set(_texts(stage))
        for role in sorted(texts & roles.keys()):
            yield {"prov:activity": _id("stage", ref, named), "prov:agent": roles[role]}


def _texts(said: Any) -> Iterable[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, Mapping):
        for value in cast(Mapping[str, Any], said).values():
            yield from _texts(value)
    elif isinstance(said, Sequence):
        for value in cast(Sequence[Any], said):
            yield from _texts(value)
