"""A response that was recorded is found, whatever happens to the processes around it."""

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.errors import ModelError
from prefdata.models import ledger as ledger_module
from prefdata.models.client import response, responses
from prefdata.models.index import Index
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses
from tests.models.conftest import ask

SPEC = ModelSpec(client="openai", model="m", temperature=0.5)


def answers(requests: Requests, suffix: str = "") -> Responses:
    shown = requests.select("request_id", "messages").iter_rows()
    return responses(
        response(i, text=m[0]["content"] + suffix, tokens_in=3, tokens_out=1) for i, m in shown
    )


def record(folder: Path, texts: list[str], suffix: str = "") -> Requests:
    requests = ask(SPEC, texts)
    with Ledger(folder) as ledger:
        ledger.append(requests, answers(requests, suffix))
    return requests


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


@given(texts=st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=20))
def test_what_is_recorded_is_found_again(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("ledger")
    requests = record(folder, texts)
    found = Ledger(folder).find(requests["request_id"])
    assert found.sort("request_id").equals(answers(requests).sort("request_id"))


def test_all_that_a_response_may_hold_comes_back(ledger: Ledger):
    requests = ask(SPEC, ["a", "b"])
    one, other = requests["request_id"]
    full = responses(
        [
            response(one, logprobs=[{"token": "é\n", "logprob": -0.1}], vector=[0.5, -1e-300]),
            response(other, text="", error="refused", finish_reason="stop", number=0.25),
        ]
    )
    ledger.append(requests, full)
    assert ledger.find([one, other]).sort("request_id").equals(full.sort("request_id"))


def test_the_request_behind_an_id_is_told(ledger: Ledger):
    requests = ask(SPEC, ["Why?"], draw=3)
    ledger.append(requests, answers(requests))
    told = ledger.request(requests["request_id"][0])
    assert told is not None
    assert told["request"]["messages"] == [{"role": "user", "content": "Why?"}]
    assert told["request"]["options"] == {"temperature": 0.5}
    assert told["request"]["draw"] == 3
    assert told["response"]["text"] == "Why?"
    assert ledger.request("0" * 20) is None


def test_the_newer_answer_is_found_whoever_wrote_it(tmp_path: Path):
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    requests = ask(SPEC, ["x"])
    ids = requests["request_id"]
    for turn, writer in enumerate([first, second, first]):
        writer.append(requests, answers(requests, str(turn)))
        time.sleep(0.005)
        assert Ledger(tmp_path).find(ids)["text"].to_list() == [f"x{turn}"]
        assert second.find(ids)["text"].to_list() == [f"x{turn}"]


@pytest.mark.parametrize("error", ledger_module.NO_ANSWER.split("|"))
def test_what_nobody_answered_is_not_kept(ledger: Ledger, error: str):
    requests = ask(SPEC, ["x", "y"])
    gone, kept = requests["request_id"]
    batch = [response(gone, error=f"{error} (503)"), response(kept, error="content filter")]
    ledger.append(requests, responses(batch))
    assert ledger.find([gone, kept])["request_id"].to_list() == [kept]


def test_a_torn_tail_costs_one_line_and_no_other(tmp_path: Path):
    requests = record(tmp_path, ["a", "b", "c"])
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(lines[0] + lines[1]), len(whole)):
        segment.write_bytes(whole[:cut])
        assert Ledger(tmp_path).find(requests["request_id"]).height == 2
    again = record(tmp_path, ["c"])
    assert Ledger(tmp_path).find(requests["request_id"]).height == 3
    assert len(segments(tmp_path)) == 2
    assert again["request_id"][0] in set(requests["request_id"])


def test_damaged_lines_are_absent_and_hurt_nobody(tmp_path: Path):
    requests = record(tmp_path, ["a", "b", "c"])
    (segment,) = segments(tmp_path)
    lines = segment.read_bytes().splitlines(keepends=True)
    damaged = [lines[0], bytes(60) + b"\n", b"\n", lines[1][:-9] + b"\n", b"{}\n", lines[2]]
    segment.write_bytes(b"".join(damaged))
    assert Ledger(tmp_path).find(requests["request_id"]).height == 2


WRITER = """
import sys
from prefdata.models.ledger import Ledger
from tests.models.test_ledger import answers, ask, SPEC
folder, name = sys.argv[1:]
with Ledger(folder) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(30):
        requests = ask(SPEC, [f"{name} {i} {j}" for j in range(5)] + [f"both {i}"])
        ledger.append(requests, answers(requests))
"""


def writer(folder: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_write_at_once_and_lose_nothing(tmp_path: Path):
    writers = [writer(tmp_path, name) for name in ("one", "two")]
    for each in writers:
        assert each.stdout
        assert each.stdin
        assert each.stdout.readline() == "ready\n"
    for each in writers:
        each.stdin.write("go\n")
        each.stdin.flush()
    reader = Ledger(tmp_path)
    texts = [f"{n} {i} {j}" for n in ("one", "two") for i in range(30) for j in range(5)]
    ids = ask(SPEC, texts + [f"both {i}" for i in range(30)])["request_id"]
    seen = 0
    while any(each.poll() is None for each in writers):
        found = reader.find(ids).height
        assert found >= seen, "what was there once is there"
        seen = found
    assert [each.wait() for each in writers] == [0, 0]
    assert reader.find(ids).height == len(ids)


def test_a_forked_process_writes_a_segment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Not by forking: a process with polars' threads cannot be forked and go on.
    with Ledger(tmp_path) as ledger:
        ledger.append(r := ask(SPEC, ["parent"]), answers(r))
        monkeypatch.setattr(os, "getpid", lambda: 1)
        ledger.append(r := ask(SPEC, ["child"]), answers(r))
    assert [path.read_bytes().count(b"\n") for path in segments(tmp_path)] == [1, 1]
    assert Ledger(tmp_path).find(ask(SPEC, ["parent", "child"])["request_id"]).height == 2


def test_a_full_disk_is_an_error_and_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written = os.write

    def full(file: int, data: memoryview) -> int:
        if written(file, data[:10]) and len(data) > 10:
            raise OSError(28, "No space left on device")
        return 10

    with Ledger(tmp_path) as ledger:
        ledger.append(r := ask(SPEC, ["before"]), answers(r))
        size = segments(tmp_path)[0].stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(ModelError, match="No space left"):
                ledger.append(r := ask(SPEC, ["lost"]), answers(r))
        assert segments(tmp_path)[0].stat().st_size == size
        ledger.append(r := ask(SPEC, ["after"]), answers(r))
        assert ledger.find(ask(SPEC, ["before", "lost", "after"])["request_id"]).height == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_found_full_at_the_sync_is_an_error_for_all_who_wrote(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A system drops the bytes that it could not write, and at the next sync says that all is well.

    Nobody believes it: neither who wrote before it failed and syncs after, nor who writes next.
    """
    first, second, third = (ask(SPEC, [text]) for text in "abc")
    said: list[str] = []
    sync, failed = os.fsync, list[int]()

    def late() -> None:
        with pytest.raises(ModelError) as error:
            ledger.append(second, answers(second))
        said.append(str(error.value))

    waiting = threading.Thread(target=late)

    def fails_once(file: int) -> None:
        if failed or not os.fstat(file).st_size or stat.S_ISDIR(os.fstat(file).st_mode):
            return sync(file)
        failed.append(os.fstat(file).st_size)
        waiting.start()
        until = time.monotonic() + 10
        while os.fstat(file).st_size == failed[0] and time.monotonic() < until:
            time.sleep(0.005)
        raise OSError(number, os.strerror(number))

    with Ledger(tmp_path) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fails_once)
            with pytest.raises(ModelError, match=f"{tmp_path} cannot be written: "):
                ledger.append(first, answers(first))
            waiting.join(10)
            ledger.append(third, answers(third))
        assert len(said) == 1
        assert "not sure to be on the disk" in said[0]
        lost, kept = segments(tmp_path)
        assert lost.stat().st_size > failed[0]
        lost.unlink()
        assert Ledger(tmp_path).find(third["request_id"]).height == 1
        assert kept.exists()


def test_an_index_on_disk_is_only_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prefdata.models.index.WORTH_KEEPING", 1)
    requests = record(tmp_path, [str(i) for i in range(50)])
    ids = requests["request_id"]
    assert Ledger(tmp_path).find(ids).height == 50
    (index,) = tmp_path.glob("*.index")
    kept = index.read_bytes()
    flipped = (kept[:at] + bytes([kept[at] ^ 4]) + kept[at + 1 :] for at in range(0, len(kept), 9))
    others = (b"", b"rubbish", kept[: len(kept) // 2], kept[28:], bytes(len(kept)))
    for damage in (*others, *flipped):
        index.write_bytes(damage)
        assert Ledger(tmp_path).find(ids).height == 50
    index.write_bytes(kept)
    (segment,) = segments(tmp_path)
    extra = ask(SPEC, ["later"])
    with Ledger(tmp_path) as other:
        other.append(extra, answers(extra))
    with segment.open("ab") as file:
        file.write(segments(tmp_path)[1].read_bytes())
    segments(tmp_path)[1].unlink()
    assert Ledger(tmp_path).find([*ids, *extra["request_id"]]).height == 51


def test_an_index_of_what_was_edited_since_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Who takes a line out and adds others moves all the rest, which stays found."""
    monkeypatch.setattr("prefdata.models.index.WORTH_KEEPING", 1)
    requests = record(tmp_path, [str(i) for i in range(50)])
    assert Ledger(tmp_path).find(requests["request_id"]).height == 50
    (segment,) = segments(tmp_path)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:3], *lines[4:], *lines[:3] * 7]))
    assert Ledger(tmp_path).find(requests["request_id"]).height == 49


@pytest.mark.parametrize("now", [0.0, 9e8, 1e11])
def test_a_clock_that_was_never_set_loses_no_answer(
    now: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("prefdata.models.ledger.time.time", lambda: now)
    requests = record(tmp_path, ["1", "2"])
    assert Ledger(tmp_path).find(requests["request_id"]).height == 2


def test_what_is_asked_again_counts_where_the_clock_was_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    requests = ask(SPEC, ["x"])
    with Ledger(tmp_path) as first:
        first.append(requests, answers(requests, "old"))
    monkeypatch.setattr("prefdata.models.ledger.time.time", lambda: 1.5e9)
    monkeypatch.setattr("prefdata.models.segment.time.time_ns", lambda: 1_500_000_000 * 10**9)
    with Ledger(tmp_path) as second:
        second.append(requests, answers(requests, "new"), again=True)
    assert Ledger(tmp_path).find(requests["request_id"])["text"].to_list() == ["xnew"]


def test_ids_that_share_their_first_digits_are_told_apart(tmp_path: Path):
    ids = ["0123456789abcdef0001", "0123456789abcdef0002", "0123456789abcdef0003"]
    requests = ask(SPEC, ["1", "2"]).with_columns(pl.Series("request_id", ids[:2]))
    with Ledger(tmp_path) as ledger:
        ledger.append(Requests(requests), answers(Requests(requests)))
        found = ledger.find(ids).sort("request_id")
    assert found["request_id"].to_list() == ids[:2]
    assert found["text"].to_list() == ["1", "2"]


def test_blocks_of_a_long_segment_meet_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    requests = record(tmp_path, ["x" * n for n in range(1, 200)])
    whole = Index(segments(tmp_path)[0])
    whole.extend(segments(tmp_path)[0].stat().st_size)
    monkeypatch.setattr("prefdata.models.index.BLOCK", 300)
    pieces = Index(segments(tmp_path)[0])
    pieces.extend(segments(tmp_path)[0].stat().st_size)
    assert np.array_equal(pieces.lines, whole.lines)
    assert len(whole.lines) == requests.height
