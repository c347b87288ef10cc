"""Counts are those of what was recorded; what is not sound is named, moved and never deleted."""

import os
from pathlib import Path

import pytest

from prefdata.models import segment
from prefdata.models.client import response, responses
from prefdata.models.compact import compact
from prefdata.models.ledger import Ledger
from prefdata.models.upkeep import stats, verify
from tests.models.kept import SPEC, answers, asked, record, run, texts_of

TEXTS = ["a", "b", "c", "d"]


def test_stats_count_what_was_recorded(tmp_path: Path):
    other = SPEC.model_copy(update={"model": "other"})
    record(tmp_path, TEXTS)
    record(tmp_path, ["a"], " again")
    with Ledger(tmp_path) as ledger:
        wanted = asked(["x", "y"], other)
        ledger.append(wanted, answers(wanted))
        refused = asked(["z"], other)
        ledger.append(refused, responses([response(refused["request_id"][0], error="refused")]))
        told = stats(tmp_path)
    assert (told.segments, told.being_written) == (3, 1)
    assert (told.responses, told.unique, told.superseded) == (8, 7, 1)
    assert (told.tokens_in, told.tokens_out) == (7 * 3, 7 * 2)
    assert told.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.jsonl"))
    assert (told.torn, told.damaged, told.set_aside) == (0, 0, 0)
    assert [*told.models] == [SPEC.identity(), other.identity()]
    assert told.models[other.identity()].responses == 3
    assert told.models[other.identity()].errors == 1
    assert told.first
    assert told.last
    assert told.first <= told.last


def test_a_ledger_as_it_is_written_is_sound(tmp_path: Path):
    record(tmp_path, TEXTS)
    record(tmp_path, TEXTS, draw=3)
    told = verify(tmp_path)
    assert told.is_sound
    assert told.responses == 8


def spoil(path: Path) -> list[bytes]:
    """Four sound lines become: one whole, one rotten, rubbish, zeros, another's, whole and torn."""
    one, two, three, four = path.read_bytes().splitlines(keepends=True)
    rotten = two.replace(b'"text":"b"', b'"text":"B"')
    entry = segment.read(three[:-1])
    assert isinstance(entry, segment.Entry)
    request = {**asked(["c"]).row(0, named=True), "draw": 9}
    another = segment.line(entry.time, request, {"request_id": entry.request_id, "text": "c"})
    bad = [rotten, b"rubbish\n", bytes(90) + b"\n", another]
    path.write_bytes(b"".join([one, *bad, four, one[:50]]))
    return [*bad, one[:50]]


def test_each_fault_is_named_with_its_place_and_way_out(tmp_path: Path):
    path = record(tmp_path, TEXTS)
    bad = spoil(path)
    told = verify(tmp_path, idle=0)
    assert not told.is_sound
    assert (told.responses, told.n_faults) == (2, 5)
    assert [fault.line for fault in told.faults] == [2, 3, 4, 5, 7]
    assert {fault.segment for fault in told.faults} == {path.name}
    whole = path.read_bytes()
    assert [whole[f.offset :].startswith(b) for f, b in zip(told.faults, bad, strict=True)] == [
        True
    ] * 5
    found = [fault.found for fault in told.faults]
    assert "checksum" in found[0]
    assert "digest of its request" in found[3]
    assert "killed" in found[4]
    assert all("--repair" in fault.advice for fault in told.faults)
    assert path.read_bytes() == whole, "to look changes nothing"


def test_repair_moves_what_is_not_sound_and_keeps_the_rest(tmp_path: Path):
    path = record(tmp_path, TEXTS)
    good = path.read_bytes().splitlines(keepends=True)
    bad = spoil(path)
    told = verify(tmp_path, repair=True, idle=0)
    assert (told.n_faults, told.repaired, told.is_sound) == (5, 5, True)
    assert told.moved_to == [path.with_suffix(".damaged").name]
    assert path.with_suffix(".damaged").read_bytes() == b"".join(bad)
    (mended,) = tmp_path.glob("*.jsonl")
    assert mended.read_bytes() == good[0] + good[3]
    assert verify(tmp_path, idle=0).n_faults == 0
    assert texts_of(tmp_path, TEXTS) == {"a": "a", "d": "d"}
    record(tmp_path, ["b", "c"])
    assert texts_of(tmp_path, TEXTS) == {text: text for text in TEXTS}
    assert stats(tmp_path).set_aside == 1


def test_an_older_answer_is_found_when_the_newer_is_moved_away(tmp_path: Path):
    record(tmp_path, ["a"], " old")
    newer = record(tmp_path, ["a"], " new")
    newer.write_bytes(newer.read_bytes().replace(b" new", b" NEW"))
    assert texts_of(tmp_path, ["a"]) == {}, "what rotted is not believed"
    verify(tmp_path, repair=True, idle=0)
    assert texts_of(tmp_path, ["a"]) == {"a": "a old"}


def test_a_living_segment_is_looked_at_and_not_mended(tmp_path: Path):
    with Ledger(tmp_path) as ledger:
        ledger.append(requests := asked(TEXTS), answers(requests))
        (path,) = tmp_path.glob("*.jsonl")
        with path.open("ab") as file:
            file.write(b"0123456789abcdef0123 {")  # a line that is being written right now
        assert verify(tmp_path, idle=0).n_faults == 0
        with path.open("ab") as file:
            file.write(b"\n")
        told = verify(tmp_path, repair=True, idle=0)
        assert (told.n_faults, told.repaired, told.is_sound) == (1, 0, False)
        assert "lives" in told.faults[0].advice
    assert verify(tmp_path, repair=True, idle=0).is_sound


def test_compaction_drops_no_damaged_line_either(tmp_path: Path):
    record(tmp_path, ["e"])
    bad = spoil(record(tmp_path, TEXTS))
    assert compact(tmp_path, idle=0).damaged == 4, "another's answer is whole, and verify's matter"
    (aside,) = tmp_path.glob("*.damaged")
    assert aside.read_bytes() == b"".join([*bad[:3], bad[4]])
    assert texts_of(tmp_path, ["a", "d", "e"]) == {"a": "a", "d": "d", "e": "e"}


def test_a_ledger_of_rubbish_alone_ends_empty(tmp_path: Path):
    path = record(tmp_path, ["a"])
    path.write_bytes(b"x\n" * 500)
    told = verify(tmp_path, repair=True, idle=0)
    assert (told.n_faults, told.repaired, len(told.faults)) == (500, 500, 100)
    assert not list(tmp_path.glob("*.jsonl"))
    assert path.with_suffix(".damaged").read_bytes() == b"x\n" * 500


KILLS = """
import sys
from pathlib import Path
from tests.models.kept import kills
from prefdata.models.upkeep import verify
print(*kills(Path(sys.argv[1]), lambda folder: verify(folder, repair=True, idle=0)))
"""


def test_a_repair_that_is_killed_loses_nothing(tmp_path: Path):
    whole = tmp_path / "ledger"
    bad = spoil(record(whole, TEXTS))
    record(whole, ["e"])
    log = run(KILLS, whole).communicate(timeout=60)[0].split()
    assert len(log) > 6
    for step in range(len(log) + 1):
        folder = tmp_path / f"ledger-{step}"
        assert texts_of(folder, ["a", "d", "e"]) == {"a": "a", "d": "d", "e": "e"}
        assert verify(folder, repair=True, idle=0).is_sound
        assert texts_of(folder, ["a", "d", "e"]) == {"a": "a", "d": "d", "e": "e"}
        assert [path.read_bytes() for path in folder.glob("*.damaged")] == [b"".join(bad)]


def test_what_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from prefdata.errors import ModelError

    path = record(tmp_path, ["a"])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    for look in (stats, verify, compact):
        with pytest.raises(ModelError, match=path.name):
            look(tmp_path, **({} if look is stats else {"idle": 0}))


def test_nothing_at_all_is_sound(tmp_path: Path):
    assert stats(tmp_path / "none").responses == 0
    assert verify(tmp_path / "none", repair=True).is_sound
    assert not os.path.exists(tmp_path / "none")
