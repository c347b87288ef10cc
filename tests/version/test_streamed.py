"""A version that is written from shards is the one that is written from frames."""

import polars as pl
import pytest

from prefdata import tables, version
from prefdata.disk.shards import Shards
from prefdata.disk.streaming import place
from prefdata.errors import TableError
from prefdata.export.listwise import listwise
from prefdata.export.pairwise import pairwise
from prefdata.stage import Saving
from prefdata.version import streamed

SAID = {"recipe_text": "", "resolved": {}}
BESIDE = {"pairwise": Saving(saved_as="jsonl")}


def scored(made):
    pairs = made["pairs"].select(
        subject_id="pair_id", subject=pl.lit("pair"), score=pl.lit("flipped"), value=pl.lit(1.0)
    )
    person = pairs.head(1).with_columns(
        subject_id=pl.lit("human:u"), subject=pl.lit("annotator"), score=pl.lit("skill")
    )
    gone = {"table": ["pairs"], "key": ["x"], "stage": ["s"], "reason": ["r"]}
    measured = {"measure": "m", "subject": "s", "value": 0.5, "n": 3}
    extra = {
        "scores": pl.concat([pairs, person]),
        "dropped": pl.DataFrame(gone),
        "measures": pl.DataFrame([measured]),
    }
    return made | {name: tables.check(name, each, where="test") for name, each in extra.items()}


def parted(folder, made, views, n):
    shards = Shards(folder, n)
    for name, frame in made.items():
        place(name, frame, shards)
    for view, rows in views.items():
        key = "pair_id" if view == "pairwise" else "prompt_id"
        home = rows.select(pl.col(key).str.slice(0, 2).str.to_integer(base=16) % n).to_series()
        own = rows[key] if view == "listwise" else None
        if own is None:  # a pair's prompt tells its shard
            of = made["pairs"].select("pair_id", home=pl.col("prompt_id"))
            own = rows.join(of, on="pair_id", how="left", maintain_order="left")["home"]
        home = own.fill_null("0" * 8).str.slice(0, 8).str.to_integer(base=16) % n
        for at in range(n):
            shards.put(at, {view: rows.filter(home == at)})
    return shards


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("splits", [{}, {"test": 0.3}])
@pytest.mark.parametrize("savings", [{}, BESIDE])
def test_shards_give_the_version_of_frames(tmp_path, world, n, splits, savings):
    made = scored(world(20, groups={0: "g", 1: "g", 7: "g"}))
    texts = made["prompts"], made["completions"]
    views = {
        "pairwise": pairwise(*texts, made["pairs"]),
        "listwise": listwise(*texts, made["strengths"]),
    }
    how = {**SAID, "splits": splits, "seed": 2, "savings": savings}
    one = version.write(tmp_path / "one", "v", tables=made, exports=views, **how)
    shards = parted(tmp_path / "shards", made, views, n)
    other = version.write_shards(tmp_path / "two", "v", shards=shards, exports=[*views], **how)
    assert other.id == one.id
    was, now = version.verify(one.path), version.verify(other.path)
    for name in was.manifest["tables"]:
        assert now.table(name).equals(was.table(name)), name
        assert now.table(name).equals(was.table(name)), name
    assert now.table("principles").equals(tables.empty("principles"))
    for part in ("exports", "noise", "tables"):
        assert now.manifest[part] == was.manifest[part]
    assert now.manifest["noise"]["flipped"] == made["pairs"].height
    for view, shape in was.manifest["exports"].items():
        for split in shape["splits"]:
            key = tables.schema(view).key[0]
            assert now.rows(view, split).sort(key).equals(was.rows(view, split).sort(key))
    for text in ("README.md", "report.html"):
        assert (one.path / text).read_text() == (other.path / text).read_text()
    jsonl = {path.relative_to(other.path) for path in other.path.rglob("*.jsonl")}
    assert jsonl == {path.relative_to(one.path) for path in one.path.rglob("*.jsonl")}
    assert bool(jsonl) == bool(savings)


def test_pairs_across_prompts_are_held_whole(tmp_path, world):
    made = scored(world(12))
    ids = made["completions"]["completion_id"]
    joint = (
        made["pairs"]
        .head(1)
        .with_columns(
            prompt_id=pl.lit(None, pl.String), chosen_id=pl.lit(ids[0]), rejected_id=pl.lit(ids[-1])
        )
    )
    joint = joint.with_columns(tables.pair_ids(joint["chosen_id"], joint["rejected_id"]))
    made["pairs"] = tables.union("pairs", made["pairs"], joint, where="test")
    rows = {"pairwise": pairwise(*(made[n] for n in ("prompts", "completions", "pairs")),
                                 explicit_prompt=False)}  # fmt: skip
    how = {**SAID, "splits": {"test": 0.5}, "seed": 1}
    one = version.write(tmp_path / "one", "v", tables=made, exports=rows, **how)
    shards = parted(tmp_path / "shards", made, rows, 4)
    other = version.write_shards(tmp_path / "two", "v", shards=shards, exports=["pairwise"], **how)
    assert other.id == one.id
    was, now = version.verify(one.path), version.verify(other.path)
    assert now.manifest["exports"] == was.manifest["exports"]


def test_a_row_that_refers_to_none_is_refused_though_it_is_in_another_shard(tmp_path, world):
    made = world(12)
    first = made["completions"].sort("prompt_id")
    drawn = first.tail(1).select(
        "completion_id", "prompt_id", generator=pl.lit("g"), draw=0, parent_id=pl.lit("nobody")
    )
    for parent, refused in ((first["completion_id"][0], False), ("f" * 20, True)):
        samples = tables.check(
            "samples", drawn.with_columns(parent_id=pl.lit(parent)), where="test"
        )
        shards = parted(tmp_path / f"s{refused}", made | {"samples": samples}, {}, 5)
        if refused:
            with pytest.raises(TableError, match="refers to 1 completions that are not there"):
                version.write_shards(tmp_path, "v", shards=shards, exports=[], **SAID)
        else:
            assert version.write_shards(tmp_path, "v", shards=shards, exports=[], **SAID).is_new


def test_many_prompts_are_counted_in_full_and_shown_in_part(tmp_path, world, monkeypatch):
    monkeypatch.setattr(streamed, "SHOWN", 7)
    made = scored(world(40))
    shards = parted(tmp_path / "shards", made, {}, 3)
    written = version.write_shards(tmp_path, "v", shards=shards, exports=[], **SAID)
    manifest = version.verify(written.path).manifest
    assert manifest["sampled"] == {"prompts": 7, "of": 40}
    for text in ("README.md", "report.html"):
        said = (written.path / text).read_text()
        assert "of the first 7 of 40 prompts" in said
    card = (written.path / "README.md").read_text()
    assert f"40 prompts, {made['completions'].height} completions" in card
    whole = version.write(tmp_path / "whole", "v", tables=made, exports={}, **SAID)
    assert whole.id == written.id
