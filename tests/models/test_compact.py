"""Merging loses nothing and doubles nothing, whoever writes, reads or dies meanwhile."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import locks
from prefdata.errors import ModelError
from prefdata.models import compact as compact_module
from prefdata.models import segment
from prefdata.models.compact import alone, compact
from prefdata.models.ledger import Ledger
from prefdata.models.upkeep import stats, verify
from tests.models.kept import answers, asked, ids, record, run, texts_of

NAMES = [f"text {i}" for i in range(8)]
# Each history is a list of segments: which texts a writer answered.
HISTORIES = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True), min_size=1, max_size=5
)


@settings(max_examples=25, deadline=None)
@given(HISTORIES)
def test_every_request_keeps_its_newest_answer(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[str]]
):
    folder = tmp_path_factory.mktemp("ledger")
    for turn, texts in enumerate(history):
        record(folder, texts, f" {turn}")
        time.sleep(0.002)
    truth = {text: f"{text} {turn}" for turn, texts in enumerate(history) for text in texts}
    assert texts_of(folder, NAMES) == truth
    done = compact(folder, idle=0)
    assert texts_of(folder, NAMES) == truth
    told = stats(folder)
    assert (told.segments, told.responses, told.superseded) == (1, len(truth), 0)
    assert done.segments in (0, len(history))
    assert verify(folder).is_sound
    assert compact(folder, idle=0).segments == 0, "a second run finds nothing to do"


KILLS = """
import sys
from pathlib import Path
from tests.models.kept import kills
from prefdata.models.compact import compact
print(*kills(Path(sys.argv[1]), lambda folder: compact(folder, idle=0)))
"""


def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(tmp_path: Path):
    truth = {"a": "a 1", "b": "b 0", "c": "c 1", "d": "d 2"}
    whole = tmp_path / "ledger"
    for turn, texts in enumerate((["a", "b"], ["a", "c"], ["d"])):
        last = record(whole, texts, f" {turn}")
        time.sleep(0.002)
    with last.open("ab") as file:
        file.write(b"torn")
    log = run(KILLS, whole).communicate(timeout=60)[0].split()
    assert log.count("rename") == 3, "every source is retired"
    assert len(log) > 10
    for step in range(len(log) + 1):
        folder = tmp_path / f"ledger-{step}"
        assert texts_of(folder, [*truth]) == truth, f"after {log[:step]}"
        compact(folder, idle=0)
        assert texts_of(folder, [*truth]) == truth
        told = stats(folder)
        assert (told.segments, told.responses, told.unique, told.torn) == (1, 4, 4, 0)
        assert not [*folder.glob("*.part"), *folder.glob("*.old"), *folder.glob("*.index*")]
        assert [path.read_bytes() for path in folder.glob("*.damaged")] == [b"torn"]


WRITER = """
import sys
from prefdata.models.ledger import Ledger
from tests.models.kept import answers, asked
folder, name = sys.argv[1:]
with Ledger(folder) as ledger:
    for i in range(40):
        requests = asked([f"{name} {i} {j}" for j in range(3)])
        ledger.append(requests, answers(requests))
        if i == 0:
            print("ready", flush=True)
    sys.stdin.readline()
"""


def test_builds_write_and_read_while_others_compact(tmp_path: Path):
    old = [f"old {i}" for i in range(20)]
    record(tmp_path, old)
    record(tmp_path, old, " again")
    writers = [run(WRITER, tmp_path, name) for name in ("one", "two")]
    for each in writers:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    reader = Ledger(tmp_path)
    n = 0
    while stats(tmp_path).unique < 20 + 2 * 120:
        n += compact(tmp_path, idle=0).segments
        record(tmp_path, [f"between {n}"])
        assert set(reader.find(ids(old))["text"]) == {f"{each} again" for each in old}
    assert compact(tmp_path, idle=0).left
    assert stats(tmp_path).being_written == 2
    for each in writers:
        each.communicate("end\n", timeout=30)
    compact(tmp_path, idle=0)
    texts = [f"{name} {i} {j}" for name in ("one", "two") for i in range(40) for j in range(3)]
    assert texts_of(tmp_path, texts) == {text: text for text in texts}
    assert stats(tmp_path).segments == 1


def test_a_reader_follows_when_segments_go_under_its_feet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for text in NAMES:
        record(tmp_path, [text])
    reader = Ledger(tmp_path)
    places = Ledger._places  # pyright: ignore[reportPrivateUsage]
    looks: list[int] = []

    def late(self: Ledger, wanted: object) -> object:
        found = places(self, wanted)  # pyright: ignore
        if not looks:
            compact(tmp_path, idle=0)
        looks.append(1)
        return found

    monkeypatch.setattr(Ledger, "_places", late)
    assert reader.find(ids(NAMES)).height == len(NAMES)
    assert len(looks) == 2


def test_what_lives_or_is_recent_is_left_alone(tmp_path: Path):
    mine = record(tmp_path, ["a"])
    with Ledger(tmp_path) as ledger:
        ledger.append(requests := asked(["b"]), answers(requests))
        left = compact(tmp_path).left
        assert sorted(left) == sorted(path.name for path in tmp_path.glob("*.jsonl"))
        assert "s ago, less than 60" in left[mine.name]
        living = compact(tmp_path, idle=0).left
        assert [why for why in living.values() if f"(process {os.getpid()} on" in why]
    hour_ago = time.time() - 3600
    for path in tmp_path.glob("*.jsonl"):
        os.utime(path, (hour_ago, hour_ago))
    done = compact(tmp_path)
    assert (done.segments, done.left) == (2, {})
    (made,) = tmp_path.glob("*.jsonl")
    assert made.stat().st_mtime == pytest.approx(hour_ago, abs=1), "as old as what is in it"


def test_a_dead_writer_is_told_from_a_living_one_at_once(tmp_path: Path):
    process = run(WRITER, tmp_path, "x")
    assert process.stdout
    process.stdout.readline()
    while stats(tmp_path).responses < 120:
        time.sleep(0.01)
    assert [each.state for each in segment.segments(tmp_path, idle=0)] == ["written"]
    process.kill()
    process.communicate()
    assert [each.state for each in segment.segments(tmp_path, idle=0)] == ["closed"]


def test_where_there_are_no_locks_the_process_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    living = record(tmp_path, ["a"])
    gone = living.with_name(f"0000000000000000001-{locks.host()}-4194305-00000000.jsonl")
    gone.write_bytes(living.read_bytes())
    states = {each.path: each.state for each in segment.segments(tmp_path, idle=0)}
    assert states == {living: "written", gone: "closed"}
    assert list(compact(tmp_path, idle=0).left) == [living.name]


def test_another_machines_segment_is_closed_only_after_its_age(tmp_path: Path):
    mine = record(tmp_path, ["a"])
    theirs = mine.with_name("0000000000000000001-elsewhere-1-00000000.jsonl")
    record(tmp_path, ["b"]).rename(theirs)
    assert list(compact(tmp_path, idle=0).left) == [theirs.name]
    day_ago = time.time() - 24 * 3600
    os.utime(theirs, (day_ago, day_ago))
    assert "another host, elsewhere" in compact(tmp_path, idle=0).left[theirs.name]
    assert compact(tmp_path, idle=0, foreign_idle=3600).left == {}
    assert texts_of(tmp_path, ["a", "b"]) == {"a": "a", "b": "b"}


def test_a_writer_taken_for_dead_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "is_held", lambda _: False)  # as on a machine without locks
    with Ledger(tmp_path) as ledger:
        ledger.append(requests := asked(["a"]), answers(requests))
        record(tmp_path, ["b"])
        assert compact(tmp_path, idle=0).segments == 2
        ledger.append(requests := asked(["c"]), answers(requests))
    assert texts_of(tmp_path, ["a", "b", "c"]) == {"a": "a", "b": "b", "c": "c"}


def test_a_segment_that_grows_while_it_is_merged_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = record(tmp_path, ["a"])
    second = record(tmp_path, ["b"])
    more = record(tmp_path / "other", ["c"]).read_bytes()
    rename = os.rename

    def late(old: Path, new: Path) -> None:
        if old == second:
            with second.open("ab") as file:
                file.write(more)
        rename(old, new)

    monkeypatch.setattr(os, "rename", late)
    compact(tmp_path, idle=0)
    assert not first.exists()
    assert second.exists()
    assert texts_of(tmp_path, ["a", "b", "c"]) == {"a": "a", "b": "b", "c": "c"}


def test_a_full_disk_leaves_the_ledger_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for text in NAMES:
        record(tmp_path, [text])
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ModelError, match="No space left"):
            compact(tmp_path, idle=0)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
    assert not list(tmp_path.glob("*.part"))


def test_one_at_a_time(tmp_path: Path):
    record(tmp_path, ["a"])
    with alone(tmp_path), pytest.raises(ModelError, match=f"process {os.getpid()} on"):
        compact(tmp_path, idle=0)
    compact(tmp_path, idle=0)


def test_an_index_of_what_was_merged_misleads_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("prefdata.models.index.WORTH_KEEPING", 1)
    reader = Ledger(tmp_path)
    for turn in range(3):
        record(tmp_path, NAMES, f" {turn}")
        time.sleep(0.002)
        assert set(reader.find(ids(NAMES))["text"]) == {f"{each} {turn}" for each in NAMES}
    compact(tmp_path, idle=0)
    assert texts_of(tmp_path, NAMES) == {each: f"{each} 2" for each in NAMES}
    assert len(list(tmp_path.glob("*.index"))) == 1
    assert set(reader.find(ids(NAMES))["text"]) == {f"{each} 2" for each in NAMES}


def test_pieces_of_a_long_segment_are_copied_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compact_module, "COPY", 100)
    texts = ["x" * n for n in range(1, 150)]
    record(tmp_path, texts)
    time.sleep(0.002)
    record(tmp_path, texts[::7], " newer")
    compact(tmp_path, idle=0)
    truth = {t: t + " newer" * (t in texts[::7]) for t in texts}
    assert texts_of(tmp_path, texts) == truth


def test_an_empty_or_absent_ledger_is_nothing_to_do(tmp_path: Path):
    assert compact(tmp_path / "none").segments == 0
    assert not (tmp_path / "none").exists()
    assert compact(tmp_path).segments == 0
