import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import datasets
import polars as pl
import pytest

from prefdata import tables, version
from prefdata.errors import PrefdataError, RecipeError, TableError, VersionError
from prefdata.export.binary import binary
from prefdata.export.listwise import listwise
from prefdata.export.pairwise import pairwise
from prefdata.version import arrow, writing

RECIPE = 'name = "mini"\n[[stages]]\nuse = "aggregate.bradley_terry"\n'
RESOLVED = {"name": "mini", "stages": [{"use": "aggregate.bradley_terry", "prior": 0.1}]}
JUDGES = {"helpfulness": 'criterion = "helpfulness"\n'}


def views(made):
    texts = made["prompts"], made["completions"]
    return {
        "pairwise": pairwise(*texts, made["pairs"]),
        "listwise": listwise(*texts, made["strengths"]),
        "binary": binary(*texts, made["pairs"]),
    }


def write(data, made, **changes):
    said = {
        "name": "mini",
        "tables": made,
        **({} if "exports" in changes else {"exports": views(made)}),
        "recipe_text": RECIPE,
        "resolved": RESOLVED,
        "judges": JUDGES,
        **changes,
    }
    return version.write(data, said.pop("name"), **said)


def test_each_view_loads_and_leads_back(tmp_path, world):
    made = world(40)
    written = write(tmp_path, made, splits={"test": 0.2}, seed=4)
    for name, rows in views(made).items():
        loaded = datasets.load_from_disk(str(written.path / name))
        assert set(loaded) == {"train", "test"}
        assert all(split.num_rows for split in loaded.values())
        found = pl.concat([pl.DataFrame(split.to_list()) for split in loaded.values()])
        key = tables.schema(name).key[0]
        assert found.select(rows.columns).sort(key).to_dicts() == rows.sort(key).to_dicts()
        prompts = {split: set(each["prompt_id"]) for split, each in loaded.items()}
        assert not prompts["train"] & prompts["test"]
    stored = version.find(tmp_path, "mini")
    pairs = stored.table("pairs")
    assert pairs.drop("split").equals(made["pairs"].drop("split"))
    said = stored.rows("pairwise", "test").select("pair_id").to_series()
    assert set(said) == set(pairs.filter(split="test")["pair_id"])


def test_tables_round_trip(tmp_path, world):
    made = world()
    written = write(tmp_path, made)
    stored = version.find(tmp_path, f"mini@{written.id}")
    for name, table in made.items():
        assert stored.table(name).equals(table)
        assert pl.read_parquet(written.path / f"{name}.parquet").equals(table)
    assert stored.table("scores").equals(tables.empty("scores"))


def test_the_same_thing_twice_is_one_version_and_writes_nothing(tmp_path, world, shuffled):
    made = world()
    first = write(tmp_path, made, counts={"requests": {"asked": 9}})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    other = {name: shuffled(t, 7).select(t.columns[::-1]) for name, t in reversed(made.items())}
    second = write(tmp_path, other, exports=views(made), counts={"requests": {"asked": 0}})
    assert first.is_new
    assert (second.path, second.id, second.is_new) == (first.path, first.id, False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def ids(tmp_path, made, *changes):
    return [write(tmp_path / str(at), made, **each).id for at, each in enumerate(changes)]


def test_noise_below_rounding_and_empty_tables_leave_the_id(tmp_path, world):
    made = world()
    noisy = made["strengths"].with_columns(pl.col("strength") * (1 + 1e-13))
    changes = [
        {},
        {"tables": {**made, "strengths": noisy}},
        {"tables": {**made, "scores": tables.empty("scores")}},
        {"quarantined": [{"line": 3, "reason": "no prompt"}]},
        {"recipe_text": RECIPE + "# a comment\n"},
    ]
    assert len(set(ids(tmp_path, made, *changes))) == 1


def test_judge_recipe_splits_and_any_row_change_the_id(tmp_path, world):
    made = world()
    flipped = made["votes"].with_columns(
        preference=pl.when(pl.int_range(pl.len()) == 3)
        .then(1 - pl.col("preference"))
        .otherwise("preference")
    )
    changes = [
        {},
        {"judges": {"helpfulness": JUDGES["helpfulness"] + "\n"}},
        {"resolved": {**RESOLVED, "seed": 1}},
        {"splits": {"test": 0.1}},
        {"tables": {**made, "votes": flipped}},
        {"tables": {**made, "votes": made["votes"][1:]}},
    ]
    assert len(set(ids(tmp_path, made, *changes))) == len(changes)


def test_the_bytes_are_equal_but_for_the_time(tmp_path, world):
    one, other = (write(tmp_path / name, world()).path for name in "ab")
    stated = [json.loads((path / "manifest.json").read_text()) for path in (one, other)]
    assert stated[0].pop("created") != stated[1].pop("created")
    assert stated[0] == stated[1]


def test_a_reference_to_no_row_is_refused(tmp_path, world):
    made = world()
    fewer = {**made, "completions": made["completions"][1:]}
    with pytest.raises(TableError, match=r"votes, column completion_[ab]: refers to 1 completions"):
        write(tmp_path, fewer, exports={})
    with pytest.raises(TableError, match="prompts that are not there"):
        write(tmp_path, {"completions": made["completions"]}, exports={})
    assert version.listed(tmp_path) == []


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "-x", ".hidden", "ä", "a b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, world, name):
    with pytest.raises(VersionError, match="cannot name a folder"):
        write(tmp_path, world(), name=name)
    with pytest.raises(VersionError, match="cannot name a folder"):
        write(tmp_path, world(), judges={name: "x"})
    made = world()
    with pytest.raises(VersionError, match="cannot name a folder"):
        write(tmp_path, made, exports={name: made["pairs"]})
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["judges", "votes", "manifest.json"])
def test_an_export_cannot_take_the_name_of_a_table_or_file(tmp_path, world, name):
    made = world()
    with pytest.raises(VersionError, match="take another"):
        write(tmp_path, made, exports={name: made["pairs"]})


@pytest.mark.parametrize(
    "change",
    [
        {"resolved": {"models": {"judge": {"api_key": "anything"}}}},
        {"resolved": {"models": {"judge": {"base_url": "http://me:pass@host/v1"}}}},
        {"recipe_text": 'key = "sk-' + "a1" * 20 + '"'},
        {"judges": {"helpfulness": "hf_" + "x" * 34}},
        {"counts": {"note": "Bearer abcdefghijklmnopqrstuvwxyz"}},
    ],
)
def test_a_secret_is_refused_and_not_repeated(tmp_path, world, change):
    with pytest.raises(RecipeError, match="api_key_env") as caught:
        write(tmp_path, world(), **change)
    assert not any(secret in str(caught.value) for secret in ("sk-a1", "hf_x", "pass@", "Bearer"))
    assert not list(tmp_path.rglob("*.json"))


def test_the_name_of_an_environment_variable_is_no_secret(tmp_path, world):
    options = {"api_key_env": "OPENAI_API_KEY", "max_tokens": 64}
    models = {"judge": {"label": "m", "identity": "m", "options": options}}
    assert write(tmp_path, world(), resolved={**RESOLVED, "models": models}).is_new


def visible(data):
    return [path for path in (data / "versions").iterdir() if not path.name.startswith(".")]


def test_failing_at_any_step_leaves_nothing(tmp_path, world, monkeypatch):
    made, exports, steps = world(), views(world()), []
    real = writing.sync
    monkeypatch.setattr(writing, "sync", lambda path: steps.append(path) or real(path))
    write(tmp_path / "whole", made, exports=exports)
    before_rename = len(steps) - 2  # the folders that have the new names follow
    for failing in range(before_rename):
        left = iter(range(before_rename))

        def sync(path, failing=failing, left=left):
            if next(left) == failing:
                raise OSError("disk full")
            real(path)

        monkeypatch.setattr(writing, "sync", sync)
        with pytest.raises(VersionError, match="disk full"):
            write(tmp_path / "d", made, exports=exports)
        assert list((tmp_path / "d" / "versions").iterdir()) == []
    monkeypatch.setattr(writing, "sync", real)
    assert write(tmp_path / "d", made, exports=exports).is_new


SCRIPT = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {tests!r} + "/version"]
import conftest, test_writing
from prefdata import version
from prefdata.version import writing
steps, kill_at = 0, int(sys.argv[2])
real = writing.sync
def sync(path):
    global steps
    real(path)
    steps += 1
    if steps == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
writing.sync = sync
written = test_writing.write(sys.argv[1], conftest.make_world())
print(written.id, written.is_new)
"""


def start(data, kill_at=0):
    script = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    return subprocess.Popen(
        [sys.executable, "-c", script, str(data), str(kill_at)], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_writer_leaves_no_version(tmp_path, world):
    for kill_at in (1, 12):
        child = start(tmp_path, kill_at)
        child.communicate()
        assert child.returncode == -signal.SIGKILL
    assert visible(tmp_path) == []
    assert version.listed(tmp_path) == []
    assert len(list((tmp_path / "versions").glob(".tmp-*"))) == 1  # the second cleared the first
    assert write(tmp_path, world()).is_new
    version.verify(version.find(tmp_path, "mini").path)
    assert not list((tmp_path / "versions").glob(".*"))


def test_two_processes_at_once_make_one_version(tmp_path):
    children = [start(tmp_path) for _ in range(2)]
    said = [child.communicate()[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert said[0][0] == said[1][0]
    assert sum(is_new == "True" for _, is_new in said) == 1
    version.verify(version.find(tmp_path, "mini").path)
    assert not list((tmp_path / "versions").glob(".*"))


def test_the_one_who_comes_second_finds_it_there(tmp_path, world, monkeypatch):
    made, real = world(), writing._finish
    first = []

    def fill(*args):
        real(*args)
        monkeypatch.setattr(writing, "_finish", real)
        if not first:
            first.append(None)
            first[0] = write(tmp_path, made)  # another writer, whole before this one is renamed

    monkeypatch.setattr(writing, "_finish", fill)
    second = write(tmp_path, made)
    assert first[0].is_new
    assert not second.is_new
    assert first[0].path == second.path
    version.verify(second.path)


DAMAGE = {
    "a file is cut": lambda p: (p / "votes.parquet").write_bytes(b"PAR1"),
    "a file is gone": lambda p: (p / "pairwise/train/state.json").unlink(),
    "the manifest is cut": lambda p: (p / "manifest.json").write_text('{"format": 1'),
    "the manifest is gone": lambda p: (p / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_version_is_seen_and_replaced(tmp_path, world, damage):
    path = write(tmp_path, world()).path
    DAMAGE[damage](path)
    assert not version.is_whole(path)
    with pytest.raises(VersionError, match="build again"):
        version.verify(path)
    assert write(tmp_path, world()).is_new
    version.verify(path)
    assert len(list((tmp_path / "versions").glob(".damaged-mini-*"))) == 1
    assert [each.id for each in version.listed(tmp_path)] == [path.name]


SAME_SIZE = {
    "a bit of a table": lambda p: flip_byte(p / "votes.parquet"),
    "a table of zeros": lambda p: (p / "pairs.parquet").write_bytes(bytes(size(p))),
    "a bit of an export": lambda p: flip_byte(p / "pairwise/train/data-00000-of-00001.arrow"),
    "a digest in the manifest": lambda p: edit(p, "files", "votes.parquet", "bytes"),
    "no digest in the manifest": lambda p: edit(p, "tables", "votes", "digest"),
}


def size(path):
    return (path / "pairs.parquet").stat().st_size


def edit(path, part, of, key):
    said = json.loads((path / "manifest.json").read_text())
    said[part][of][f"{key}s"] = said[part][of].pop(key)
    (path / "manifest.json").write_text(json.dumps(said))


@pytest.mark.parametrize("damage", SAME_SIZE)
def test_a_version_that_is_damaged_in_place_is_not_given_to_who_builds_it_again(
    tmp_path, world, damage
):
    path = write(tmp_path, world()).path
    SAME_SIZE[damage](path)
    assert write(tmp_path, world()).is_new
    assert version.verify(path)
    assert len(list((tmp_path / "versions").glob(".damaged-mini-*"))) == 1


@pytest.mark.parametrize("why", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("file", ["manifest.json", "votes.parquet"])
def test_what_cannot_be_read_just_now_is_neither_replaced_nor_called_damaged(
    tmp_path, world, monkeypatch, why, file
):
    path = write(tmp_path, world()).path
    real = Path.open

    def opened(self, *how, **more):
        if self == path / file:
            raise OSError(why, os.strerror(why), str(self))
        return real(self, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(VersionError, match=f"{file} cannot be read: {os.strerror(why)}"):
            write(tmp_path, world())
        with pytest.raises(VersionError, match="cannot be read"):
            version.verify(path)
    assert not write(tmp_path, world()).is_new
    assert not list((tmp_path / "versions").glob(".damaged-*"))


def test_a_text_that_somebody_edited_and_a_file_beside_it_are_no_damage(tmp_path, world):
    path = write(tmp_path, world()).path
    (path / "README.md").write_text("My own words.")
    (path / "pairwise/train/cache-1f.arrow").write_bytes(b"as datasets leaves it")
    assert version.is_whole(path)
    assert version.broken(tmp_path) == {}
    assert not write(tmp_path, world()).is_new
    assert (path / "README.md").read_text() == "My own words."
    with pytest.raises(VersionError, match=r"cache-1f.arrow is not of this version"):
        version.verify(path)
    (path / "pairwise/train/cache-1f.arrow").unlink()
    with pytest.raises(VersionError, match=r"README.md is not as it was written"):
        version.verify(path)


def flip_byte(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def edit_manifest(path):
    said = json.loads((path / "manifest.json").read_text())
    said["recipe"]["stages"][0]["prior"] = 0.2
    (path / "manifest.json").write_text(json.dumps(said))


CHANGES = {
    "one bit of a table": lambda p: flip_byte(p / "pairs.parquet"),
    "one bit of a view": lambda p: flip_byte(p / "binary/train/data-00000-of-00001.arrow"),
    "one file more": lambda p: (p / "pairwise/note.txt").write_text("x"),
    "the recipe in the manifest": edit_manifest,
    "the name of the folder": lambda p: p.rename(p.with_name("0" * 12)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_verify_sees(tmp_path, world, change):
    path = write(tmp_path, world()).path
    version.verify(path)
    CHANGES[change](path)
    (found,) = (tmp_path / "versions" / "mini").iterdir()
    with pytest.raises(VersionError):
        version.verify(found)


def test_find_by_name_id_and_start(tmp_path, world):
    made = world()
    first, second = (write(tmp_path, made, seed=seed) for seed in (1, 2))
    assert version.find(tmp_path, "mini").id == second.id
    for written in (first, second):
        assert version.find(tmp_path, f"mini@{written.id}").path == written.path
        unique = next(written.id[:n] for n in range(1, 13) if first.id[:n] != second.id[:n])
        assert version.find(tmp_path, f"mini@{unique}").path == written.path
    assert [each.id for each in version.listed(tmp_path)] == [first.id, second.id]


def test_find_says_what_there_is(tmp_path, world):
    written = write(tmp_path, world())
    with pytest.raises(VersionError, match="did you mean 'mini'"):
        version.find(tmp_path, "minni")
    with pytest.raises(VersionError, match=written.id):
        version.find(tmp_path, "mini@" + ("0" if written.id[0] != "0" else "1") * 12)
    for ref in ("../mini", "mini@../x", "mini@-v", ""):
        with pytest.raises(VersionError, match="names no version"):
            version.find(tmp_path, ref)


def test_one_damaged_version_does_not_hide_the_others(tmp_path, world):
    made = world()
    whole, damaged = write(tmp_path, made), write(tmp_path, made, name="other")
    (damaged.path / "manifest.json").write_text("{")
    assert [each.ref for each in version.listed(tmp_path)] == [f"mini@{whole.id}"]
    with pytest.raises(VersionError, match="damaged"):
        version.find(tmp_path, "other")


def test_a_start_that_two_share_is_refused(tmp_path, world):
    made, seen = world(2, 2), {}
    for seed in range(17):
        written = write(tmp_path, made, seed=seed, exports={})
        seen.setdefault(written.id[0], []).append(written.id)
    start, several = next((start, each) for start, each in seen.items() if len(each) > 1)
    with pytest.raises(VersionError, match="several") as caught:
        version.find(tmp_path, f"mini@{start}")
    assert all(each in str(caught.value) for each in several)


def test_load_gives_views_and_tables(tmp_path, world, monkeypatch):
    made = world()
    write(tmp_path, made)
    monkeypatch.setenv("PREFDATA_DATA", str(tmp_path))
    loaded = version.load("mini", "pairwise")
    assert isinstance(loaded, datasets.DatasetDict)
    assert loaded["train"].num_rows == made["pairs"].height
    assert version.load("mini", "votes").equals(made["votes"])
    with pytest.raises(VersionError, match="did you mean 'pairwise'"):
        version.load("mini", "pairwize")


def test_the_data_folder_is_that_of_the_project(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFDATA_DATA", raising=False)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert version.data_folder() == tmp_path / "data"
    assert version.data_folder("x") == Path("x")
    monkeypatch.setenv("PREFDATA_DATA", "/elsewhere")
    assert version.data_folder() == Path("/elsewhere")


def test_quarantined_rows_are_kept_with_their_reason(tmp_path, world):
    bad = [{"file": "x.jsonl", "line": 3, "reason": "no prompt"}]
    written = write(tmp_path, world(), quarantined=bad)
    lines = (written.path / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == bad
    assert version.find(tmp_path, "mini").summary()["quarantined"] == 1


def test_nothing_of_the_environment_is_written(tmp_path, world, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-to-be-written")
    written = write(tmp_path, world())
    every = [path.read_bytes() for path in written.path.rglob("*") if path.is_file()]
    assert not any(b"not-to-be-written" in each for each in every)


def test_every_error_is_one_of_ours(tmp_path, world):
    made = world()
    with pytest.raises(PrefdataError, match="did you mean 'votes'"):
        write(tmp_path, {**made, "vote": made["votes"]})
    with pytest.raises(TableError, match="table votes"):
        write(tmp_path, {**made, "votes": made["votes"].with_columns(preference=2.0)})


def test_a_version_of_a_later_format_asks_for_an_upgrade(tmp_path, world):
    path = write(tmp_path, world()).path
    said = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**said, "format": 99}))
    with pytest.raises(VersionError, match="upgrade"):
        version.find(tmp_path, "mini")


def test_views_are_read_without_datasets(tmp_path, world):
    made = world()
    written = write(tmp_path, made)
    assert arrow.read(written.path / "pairwise").equals(views(made)["pairwise"])
