"""Lineage is PROV that the reference implementation reads, true, and no part of a version's id."""

import json

import polars as pl
import pytest
from prov.model import ProvDocument

from prefdata import tables, version
from prefdata.version.lineage import lineage
from prefdata.version.stored import manifest_id

RECIPE = {
    "models": {"judge": {"label": "one", "identity": "one@1", "options": {}}},
    "stages": [
        {"use": "annotate.pairwise", "model": "judge", "judge": "helpfulness"},
        {"use": "pair.all_pairs"},
    ],
}
STAGES = [
    {
        "stage": "annotate.pairwise",
        "use": "annotate.pairwise",
        "table": "votes",
        "in": 18,
        "out": 18,
    },
    {"stage": "pair.all_pairs", "use": "pair.all_pairs", "table": "pairs", "in": 18, "out": 18},
]


@pytest.fixture
def made(tmp_path, world):
    frames = world()
    written = version.write(
        tmp_path,
        "mini",
        tables=frames,
        exports={"all": frames["pairs"].select("pair_id")},
        recipe_text="",
        resolved=RECIPE,
        judges={"helpfulness": "be helpful"},
        counts={"stages": STAGES, "sources": {"seeds: a/b": 6}},
        licenses={"seeds: a/b": "mit"},
    )
    return version.verify(written.path)


def read(found):
    return ProvDocument.deserialize(content=json.dumps(found.manifest["lineage"]), format="json")


def test_the_reference_implementation_reads_it_and_writes_it_back(made):
    document = read(made)
    again = ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
    assert again == document
    kinds = {type(record).__name__ for record in document.get_records()}
    assert {"ProvEntity", "ProvActivity", "ProvAgent", "ProvGeneration", "ProvUsage"} <= kinds


def test_every_name_that_a_relation_uses_is_stated(made):
    said = made.manifest["lineage"]
    stated = {id for kind in ("entity", "activity", "agent") for id in said[kind]}
    relations = [r for kind, rs in said.items() if rs and kind[0] in "wuh" for r in rs.values()]
    assert relations
    assert {id for relation in relations for id in relation.values()} <= stated


def test_it_says_what_made_what(made):
    said = made.manifest["lineage"]
    label = {
        id: each["prov:label"]
        for kind in ("entity", "activity", "agent")
        for id, each in said[kind].items()
    }
    by = {
        label[r["prov:entity"]]: label[r["prov:activity"]] for r in said["wasGeneratedBy"].values()
    }
    assert by["votes"] == "annotate.pairwise"
    assert by["pairs"] == "pair.all_pairs"
    assert by["prompts"] == "sources"
    assert by["all"] == by[made.ref] == f"build of {made.ref}"
    asked = [r for r in said["wasAssociatedWith"].values() if "prov:plan" not in r]
    assert [(label[r["prov:activity"]], label[r["prov:agent"]]) for r in asked] == [
        ("annotate.pairwise", "one")
    ]
    (derived,) = said["wasDerivedFrom"].values()
    source = said["entity"][derived["prov:usedEntity"]]
    assert source == {"prov:label": "seeds: a/b", "prefdata:licence": "mit", "prefdata:rows": 6}
    members = {label[r["prov:entity"]] for r in said["hadMember"].values()}
    assert members == {*made.manifest["tables"], "all"}


def test_the_id_is_that_of_a_manifest_without_lineage(made):
    bare = {key: value for key, value in made.manifest.items() if key != "lineage"}
    assert manifest_id(bare) == made.id
    assert lineage(bare) == made.manifest["lineage"]


def test_a_version_of_nothing_has_one_too(tmp_path):
    written = version.write(tmp_path, "v", tables={}, exports={}, recipe_text="", resolved={})
    document = read(version.verify(written.path))
    assert document.get_records()


def test_tables_of_equal_content_are_one_entity(made, tmp_path, world):
    more = tables.check("pairs", world()["pairs"].with_columns(weight=pl.lit(2.0)), where="t")
    other = version.write(
        tmp_path, "mini", tables={**world(), "pairs": more}, exports={}, recipe_text="", resolved={}
    )
    one, two = (
        set(each.manifest["lineage"]["entity"]) for each in (made, version.verify(other.path))
    )
    shared = {id.split("/")[0] + "/" + id.split("/")[1] for id in one & two}
    assert shared == {
        f"prefdata:table/{name}" for name in ("prompts", "completions", "votes", "strengths")
    }
