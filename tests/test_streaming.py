"""Builds by shards on disk are those in memory."""

import errno
import json
import os
import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata import build, dataset, holding, sources, version
from prefdata import tables as t
from prefdata.dataset import estimate
from prefdata.disk import streaming
from prefdata.disk.shards import Shards
from prefdata.disk.spill import Spill
from prefdata.errors import PrefdataError
from prefdata.loop import run_stage
from prefdata.screen.progress import Lines
from prefdata.sources import Sources
from prefdata.watch import Advanced, Event, Spilling, Started, Warned


def test_what_is_spilled_is_taken_up_by_bins(tmp_path):
    spill = Spill(tmp_path / "spill")
    frames = [
        pl.DataFrame(
            {"x": range(at, at + 5), "m": [[{"role": "user", "content": "é"}]] * 5},
            schema_overrides={"m": t.MESSAGES},
        )
        for at in (0, 5)
    ]
    for frame in frames:
        spill.add("rows", frame, frame["x"] % 3)
    taken = [spill.take("rows", at) for at in range(3)]
    assert [rows["x"].to_list() for rows in taken] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert pl.concat(taken).sort("x").equals(pl.concat(frames))
    assert spill.take("rows", 0).is_empty()
    assert spill.take("rows", 7).schema == frames[0].schema


def rows_of(n: int, seed: int) -> list[dict]:
    """Pairs with repeats, contradictions, ties in votes and rows that cannot be read."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        prompt = rng.randrange(n // 3)
        one, other = rng.sample(range(4), 2)
        row = {
            "prompt": f"question {prompt}",
            "chosen": f"answer {one} " * (one + 1),
            "rejected": f"answer {other}",
            "rating_chosen": rng.randrange(5, 11),
            "rating_rejected": rng.randrange(0, 6),
        }
        if rng.random() < 0.1:
            row["reference"] = rng.choice("ab")
        if rng.random() < 0.05:
            row["rejected"] = row["chosen"]
        if rng.random() < 0.03:
            row["chosen"] = None
        if rng.random() < 0.1:
            row["draw"] = rng.randrange(2)
        rows.append(row)
    return rows


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    rows = rows_of(400, 0)
    lines = [json.dumps(row) for row in rows]
    lines[17] = "{broken"
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    rng = random.Random(1)
    votes = [
        {
            "prompt": row["prompt"],
            "completion_a": row["chosen"],
            "completion_b": row["rejected"],
            "annotator": rng.choice("uvw"),
            "preference": rng.choice([0, 0.5, 1, 1, 1]),
        }
        for row in rows
    ]
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, votes)) + "\n")
    return folder


def given(**more) -> Sources:
    pairs = {"path": "pairs.jsonl", "scale": [0, 10], "higher_is_better": True, **more}
    return Sources.model_validate({"pairs": pairs, "votes": "votes.jsonl"})


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("limit", [None, 20])
def test_sources_by_shards_are_the_same_tables(tmp_path, files, n: int, limit):
    whole = sources.read(given(), files, limit=limit)
    shards = Shards(tmp_path, n)
    parted = sources.read_into(shards, given(), files, limit=limit)
    assert shards.names == list(whole.tables)
    for name, frame in shards.whole(shards.names).items():
        assert frame.equals(whole.tables[name]), name
    assert whole.quarantined.height
    assert parted.quarantined.equals(whole.quarantined)
    assert [*map(str, parted.audit)] == [*map(str, whole.audit)]
    assert parted.rows == whole.rows
    if n > 1:
        homes = [set(shards.own(at, ["prompts"])["prompts"]["prompt_id"]) for at in range(n)]
        assert sum(map(bool, homes)) > 1
        assert sum(map(len, homes)) == len(set.union(*homes))


RECIPE = """
name = "streamed"
seed = 3
{splits}
[sources.pairs]
path = "pairs.jsonl"
scale = [0, 10]
higher_is_better = true

[sources.votes]
path = "votes.jsonl"
{stages}
[[exports]]
use = "export.pairwise"
{columns}
[[exports]]
use = "export.binary"

[[exports]]
use = "export.openrlhf"
"""


def stages(*each: str) -> str:
    return "".join(f"\n[[stages]]\n{lines}\n" for lines in each)


IMPORTED = stages('use = "select.distinct"', 'use = "estimate.label_error"\nn_folds = 3',
                  'use = "select.label_error"\nshare = 0.1')  # fmt: skip
MADE = stages('use = "measure.agreement"', 'use = "aggregate.bradley_terry"',
              'use = "pair.best_vs_worst"', 'use = "select.margin"\nmin_margin = 0.3')  # fmt: skip


@pytest.mark.parametrize("of", [IMPORTED, MADE])
@pytest.mark.parametrize("n", [1, 4])
def test_a_build_on_disk_is_that_in_memory(tmp_path, files, of: str, n: int):
    columns = 'columns = ["label_error"]' if of == IMPORTED else ""
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="splits.test = 0.2", stages=of, columns=columns))
    one = build(recipe, data=tmp_path / "one", on_disk=False)
    other = build(recipe, data=tmp_path / "other", on_disk=True, n_shards=n)
    assert one.dropped
    assert one.quarantined
    assert one.to_json() | {"path": ""} == other.to_json() | {"path": ""}
    was, now = (version.find(tmp_path / data, "streamed") for data in ("one", "other"))
    for name in was.manifest["tables"]:
        assert now.table(name).equals(was.table(name)), name
    for view in was.manifest["exports"]:
        assert now.manifest["exports"][view] == was.manifest["exports"][view]
        for split in was.manifest["exports"][view]["splits"]:
            rows = [each.rows(view, split) for each in (was, now)]
            assert rows[0].sort(pl.all()).equals(rows[1].sort(pl.all())), (view, split)
    counts = ("stages", "unscored", "audit", "sources")
    assert {c: was.manifest["counts"][c] for c in counts} == {
        c: now.manifest["counts"][c] for c in counts
    }
    assert version.verify(now.path)
    assert [path.name for path in (tmp_path / "other" / "versions").iterdir()] == ["streamed"]


def test_a_run_takes_up_the_shards_of_a_stage_as_it_likes_and_has_each_while_it_does(
    tmp_path, files
):
    """What runs on several machines reads some shards at once; the results are settled in order."""
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="", stages=MADE, columns=""))
    plain = build(recipe, data=tmp_path / "one")
    numbers = {}

    def run(stage, shards, ask):
        numbers[stage.name] = len(shards)
        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(lambda at: run_stage(stage, shards[at], ask), range(len(shards)))

    built = build(recipe, data=tmp_path / "other", on_disk=True, n_shards=5, run=run)
    assert built.id == plain.id
    assert numbers["select.margin"] == 5
    assert numbers["aggregate.bradley_terry"] == 1, "it sees all prompts"


LINES = """
from prefdata.tables import Completions, Pairs, Prompts, Rows
SAVED_AS = "{suffix}"

def lines_{suffix}(pairs: Pairs) -> Rows:
    return Rows(pairs.select("pair_id", "prompt_id", "n_votes"))
"""


def test_an_export_of_files_is_written_a_shard_at_a_time(tmp_path, files, monkeypatch):
    recipe, text = (
        files / "recipe.toml",
        RECIPE.format(splits="splits.test = 0.2", stages=MADE, columns=""),
    )
    for suffix in ("jsonl", "parquet"):
        (files / f"lines_{suffix}.py").write_text(LINES.format(suffix=suffix))
        text += f'\n[[exports]]\nuse = "lines_{suffix}:lines_{suffix}"\n'
    recipe.write_text(text)
    build(recipe, data=tmp_path / "one", on_disk=False)
    whole, real = [], Shards.whole
    seen = lambda shards, names: whole.extend(names := list(names)) or real(shards, names)  # noqa: E731
    monkeypatch.setattr(Shards, "whole", seen)
    build(recipe, data=tmp_path / "other", on_disk=True, n_shards=3)
    assert not [name for name in whole if name.startswith("lines")]
    for split in ("train", "test"):
        for suffix, read in (("jsonl", pl.read_ndjson), ("parquet", pl.read_parquet)):
            view = f"lines_{suffix}"
            was, now = (
                read(version.find(tmp_path / data, "streamed").path / view / f"{split}.{suffix}")
                for data in ("one", "other")
            )
            assert was.height
            assert was.sort("pair_id").equals(now.sort("pair_id")), (suffix, split)


WRITERS = [(pl.DataFrame, "write_parquet"), (pa.ipc, "new_stream"), (pq, "ParquetWriter")]


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_step_is_told_and_leaves_nothing(tmp_path, files, monkeypatch):
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="splits.test = 0.2", stages=MADE, columns=""))
    steps, full_at = 0, 0

    def filling(real):
        def step(*words, **options):
            nonlocal steps
            steps += 1
            if steps == full_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*words, **options)

        return step

    for owner, name in WRITERS:
        monkeypatch.setattr(owner, name, filling(getattr(owner, name)))
    right = build(recipe, data=tmp_path / "whole", on_disk=True, n_shards=2).id
    # each step early on, and then every seventh: each kind of them many times
    for full_at in [*range(1, 20), *range(20, steps, 7)]:  # noqa: B007
        steps = 0
        with pytest.raises(PrefdataError, match=r"versions.* cannot be written: No space"):
            build(recipe, data=tmp_path / "full", on_disk=True, n_shards=2)
        assert not list((tmp_path / "full" / "versions").iterdir())
    full_at = 0
    assert build(recipe, data=tmp_path / "full", on_disk=True, n_shards=2).id == right


def test_a_folder_of_versions_that_cannot_be_is_told(tmp_path, files):
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="", stages="", columns=""))
    (tmp_path / "versions").write_text("a file is in its place")
    with pytest.raises(PrefdataError, match=r"versions cannot be written: .*; make room there or"):
        build(recipe, data=tmp_path, on_disk=True)


def test_what_has_no_room_is_not_begun(tmp_path, files, monkeypatch):
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="", stages="", columns=""))
    size = (files / "pairs.jsonl").stat().st_size + (files / "votes.jsonl").stat().st_size
    free = shutil.disk_usage(tmp_path)._replace(free=size * 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(PrefdataError, match=r"about .* GB in all; free are .* Make room "):
        build(recipe, data=tmp_path, on_disk=True)
    assert not list((tmp_path / "versions").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=size * 7))
    told: list[Event] = []
    build(recipe, data=tmp_path, on_disk=True, n_shards=3, watch=told.append)
    [spilling] = [event for event in told if isinstance(event, Spilling)]
    assert spilling.shards == 3
    assert size * 5 < spilling.needed < spilling.free == size * 7
    advanced = [event for event in told if isinstance(event, Advanced)]
    assert [event.done for event in advanced if event.what == "rows"][-1] == 800
    assert [event.done for event in advanced if event.what == "shards"] == [0, 1, 2, 3]


WRITTEN = """
name = "written"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[[stages]]
use = "generate.sample"
model = "writer"
n = 4
"""


def test_what_models_will_write_needs_room_too_and_is_refused_before_it_is_asked_for(
    tmp_path, monkeypatch
):
    rows = [json.dumps({"prompt": f"question {at}"}) for at in range(50)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(WRITTEN)
    tokens = sum(each.tokens_out for each in estimate(recipe, data=tmp_path).asked)
    free = shutil.disk_usage(tmp_path)._replace(free=4 * tokens)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(PrefdataError, match=r"and of about 0.0 GB that models write.* Make room"):
        build(recipe, data=tmp_path, on_disk=True)
    assert not list((tmp_path / "ledger").glob("*.jsonl")), "nothing was asked"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=6 * tokens))
    told: list[Event] = []
    assert build(recipe, data=tmp_path, on_disk=True, watch=told.append).tables["samples"] == 200
    before, after = (event for event in told if isinstance(event, Spilling))
    assert after.needed > before.needed + 4 * tokens


def test_large_sources_are_held_on_disk_without_being_asked(tmp_path, files, monkeypatch):
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="", stages=MADE, columns=""))
    told: list[Event] = []
    build(recipe, data=tmp_path / "small", watch=told.append)
    assert not any(isinstance(event, Spilling) for event in told)
    monkeypatch.setattr(holding, "LARGE", 2000)
    monkeypatch.setattr(holding, "SHARD", 30_000)
    build(recipe, data=tmp_path / "large", watch=told.append)
    [spilling] = [event for event in told if isinstance(event, Spilling)]
    assert spilling.shards > 2
    few: list[Event] = []
    build(recipe, data=tmp_path / "few", limit=5, watch=few.append)
    assert not any(isinstance(event, Spilling) for event in few), "5 prompts are not large"
    many: list[Event] = []
    build(recipe, data=tmp_path / "many", limit=300, watch=many.append)
    [limited] = [event for event in many if isinstance(event, Spilling)]
    assert 0 < limited.needed < spilling.needed


def test_a_plan_reads_the_first_rows_of_large_sources_and_writes_nothing(
    tmp_path, files, monkeypatch
):
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="", stages=MADE, columns=""))
    whole = estimate(recipe, data=tmp_path / "plan")
    assert whole.share == 1
    monkeypatch.setattr(holding, "LARGE", 1000)
    monkeypatch.setattr(dataset, "PLANNED", 100)
    some = estimate(recipe, data=tmp_path / "plan")
    assert not (tmp_path / "plan").exists()
    assert some.share == pytest.approx(0.25, rel=0.1)
    assert some.rows["votes"] == pytest.approx(whole.rows["votes"], rel=0.2)
    limited = estimate(recipe, data=tmp_path / "plan", limit=10)
    assert limited.rows["prompts"] == 10
    assert limited.share == 1


def test_what_has_to_be_in_memory_whole_is_told(tmp_path, files, monkeypatch):
    recipe = files / "recipe.toml"
    recipe.write_text(RECIPE.format(splits="", stages=MADE, columns=""))
    monkeypatch.setattr(streaming, "FEW", 100)
    told: list[Event] = []
    build(recipe, data=tmp_path, on_disk=True, n_shards=2, watch=told.append)
    says = {event.says.partition(":")[0]: event.says for event in told if isinstance(event, Warned)}
    assert says.keys() == {
        *("measure.agreement", "aggregate.bradley_terry", "pair.best_vs_worst"),
        "export.openrlhf",
    }
    assert re.fullmatch(
        r"measure.agreement: [\d,]+ rows are held in memory at once, since it sees all .*",
        says["measure.agreement"],
    )


def test_how_far_it_is_is_said_in_lines():
    now, said = [0.0], []
    lines = Lines(said.append, clock=lambda: now[0])
    lines(Spilling(4, 3 * 10**9, 8 * 10**9))
    for at, event in ((10, Advanced("rows", 0, 0)), (20, Advanced("rows", 5000, 0)),
                      (40, Started("select.margin", 1, 2)), (41, Advanced("shards", 0, 4)),
                      (50, Advanced("shards", 1, 4)), (51, Advanced("shards", 2, 4))):  # fmt: skip
        now[0] = at
        lines(event)
    assert "held on disk in 4 shards: about" in said[0]
    assert said[1] == "sources: 5,000 rows, 500/s"
    assert said[-1] == "[1/2] select.margin: 1 of 4 shards, 27s left"
