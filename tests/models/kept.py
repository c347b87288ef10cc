"""A ledger with answers in it whose ids are the digests of their requests, as a build makes it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.models.client import response, responses
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses
from tests.models.conftest import ask

SPEC = ModelSpec(client="openai", model="m", temperature=0.5, stop=["é\n"])
ROOT = Path(__file__).parents[2]


def asked(texts: Sequence[str], spec: ModelSpec = SPEC, **how: Any) -> Requests:
    return Requests(ask(spec, texts, **how).with_columns(model=pl.lit(spec.identity())))


def ids(texts: Sequence[str]) -> list[str]:
    return asked(texts)["request_id"].to_list()


def answers(requests: Requests, said: str = "") -> Responses:
    shown = requests.select("request_id", "messages").iter_rows()
    return responses(
        response(i, text=m[0]["content"] + said, tokens_in=3, tokens_out=2) for i, m in shown
    )


def record(folder: Path, texts: Sequence[str], said: str = "", **how: Any) -> Path:
    """Answer each text in a segment of its own writer, which then ends."""
    before = set(folder.glob("*.jsonl"))
    with Ledger(folder) as ledger:
        ledger.append(requests := asked(texts, **how), answers(requests, said))
    (made,) = set(folder.glob("*.jsonl")) - before
    return made


def texts_of(folder: Path, texts: Sequence[str]) -> dict[str, str]:
    """What a ledger answers to each of these texts that it answers at all."""
    with Ledger(folder) as ledger:
        found = ledger.find(ids(texts))
    by_id = dict(found.select("request_id", "text").iter_rows())
    assert len(by_id) == found.height, "one answer a request"
    return {t: by_id[i] for t, i in zip(texts, ids(texts), strict=True) if i in by_id}


def run(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """A Python process with pipes to its input and output."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def die_at(step: int) -> list[str]:
    """Have this process killed right before its `step`-th change to a folder; the log of them."""
    done: list[str] = []

    def fatal(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **how: Any) -> Any:
            if len(done) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(name)
            return change(*arguments, **how)

        return changed

    for name in ("fsync", "replace", "rename", "unlink", "utime"):
        setattr(os, name, fatal(name, getattr(os, name)))
    return done


def kills(folder: Path, work: Callable[[Path], object]) -> list[str]:
    """Do `work` on copies of a folder, killed before its first change, its second, ... The log.

    The copies are `<folder>-<step>`; work that uses polars cannot be forked.
    """
    for step in range(100):
        copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-{step}"))
        if (child := os.fork()) == 0:
            done = die_at(step)
            work(copy)
            (copy / "log").write_text(" ".join(done))
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return (copy / "log").read_text().split()
    raise AssertionError("it never ended")
