"""A recipe, a server that counts what it is asked, and builds of it that are disturbed.

What a disturbed build may come to is said here: the id of an undisturbed one, or an error of ours
that names its place; never a traceback, never a hang. And what it must not cost: an answer that was
on disk is not asked for again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import prefdata
from prefdata import cli, errors
from prefdata.errors import PrefdataError
from prefdata.models.compact import compact
from prefdata.version import garbage, tags, verify
from tests.models.conftest import load

IN_FLIGHT = 8
DEADLINE = 180.0  # seconds after which a build that goes on for ever is said to hang
LONG_AGO = 30 * 24 * 3600.0
N = 10
RECIPE = f"""
name = "stormy"
seed = 11
sources.prompts = "prompts.jsonl"
splits.test = 0.2

[models.writer]
client = "openai"
model = "repeatable"
base_url = "URL"
concurrency = {IN_FLIGHT}
temperature = 0.9
seed = 1

[models.judge]
client = "openai"
model = "repeatable"
base_url = "URL"
concurrency = {IN_FLIGHT}
temperature = 0.0

[[stages]]
use = "generate.sample"
model = "writer"
n = 3

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"
allow_self = true

[[stages]]
use = "annotate.people"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"

[[exports]]
use = "export.pairwise"
"""
KINDS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PrefdataError)
}


def write_recipe(folder: Path, url: str, n: int = N) -> None:
    """The recipe and its prompts, one of which cannot be read."""
    rows = [json.dumps({"prompt": f"Question {i}: what is {i} + {i}?"}) for i in range(n)]
    (folder / "prompts.jsonl").write_text("\n".join([*rows, '{"prompt": 7}']))
    (folder / "r.toml").write_text(RECIPE.replace("URL", url))


@dataclass(frozen=True)
class Calm:
    """What comes of it where nothing is disturbed: the data, the ids and all requests.

    `id` and `data` are of the first build; `later` and `later_data` of one with people's answers.
    """

    data: Path
    id: str
    later_data: Path
    later: str
    asked: Counter[str]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, the JSON that it printed, and all else."""

    code: int
    said: dict[str, Any]
    shown: str


def undisturbed(folder: Path) -> Calm:
    with load("server").Server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefdata.models.index.WORTH_KEEPING", 1)  # so that there are indexes
        write_recipe(folder, server.url)
        first = prefdata.build(folder / "r.toml", data=folder / "data")
        asked = Counter(server.seen())
        assert set(asked.values()) == {1}, "an undisturbed build asks nothing twice"
        assert first.quarantined == 1
        before = shutil.copytree(folder / "data", folder / "before")
        answers = answered(folder)
        assert command("annotate", "import", "stormy", answers, data=folder / "data").said["new"]
        again = prefdata.build(folder / "r.toml", data=folder / "data")
        assert server.seen() == asked
    tags.put(Path(again.path), "v1")
    assert again.id != first.id
    return Calm(before, first.id, folder / "data", again.id, asked)


def answered(folder: Path) -> str:
    """The path of a file in which somebody answered what the version asks of people."""
    words = ("annotate", "export", "stormy", "--tool", "jsonl")
    files = command(*words, data=folder / "data").said["files"]
    (file,) = [each for each in files if each.endswith(".jsonl")]
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    for row in rows:
        row |= {"annotator": "anna", "helpfulness": "first"}
    path = folder / "anna.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def command(*words: str, data: Path) -> Ended:
    """A command of prefdata in this process."""
    told = CliRunner().invoke(cli.app, [*words, "--data", str(data), "--json"])
    return outcome(told.exit_code, told.stdout, told.stderr)


def outcome(code: int, out: str, err: str) -> Ended:
    """How a command ended, which must be with what it has to say or with an error of ours."""
    shown = out + err
    assert code in (0, 1), shown
    assert "Traceback" not in shown, shown
    assert "not foreseen" not in shown, shown
    said = json.loads(out.splitlines()[-1])
    if "error" in said:
        assert said["kind"] in KINDS, said
    return Ended(code, said, shown)


def ended(process: "subprocess.Popen[str]", within: float = DEADLINE) -> Ended:
    """How a process ended."""
    try:
        out, err = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it hangs: {process.communicate()[1][-3000:]}")
    return outcome(process.returncode, out, err)


@dataclass(frozen=True)
class Place:
    """A folder with the recipe, and the server that it asks."""

    folder: Path
    server: Any
    calm: Calm

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def versions(self) -> Path:
        return self.data / "versions" / "stormy"

    def start(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        """A process that builds, or does what the words say."""
        words = words or ("build", "r.toml", "--plain")
        return subprocess.Popen(
            [sys.executable, "-m", "prefdata", *words, "--data", str(self.data), "--json"],
            cwd=self.folder,
            env={**os.environ, "PATH": "/usr/bin:/bin", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *words: str) -> Ended:
        return command(*words, data=self.data)

    def build(self) -> Ended:
        """The undisturbed build, in this process."""
        return command("build", str(self.folder / "r.toml"), "--plain", data=self.data)

    def copy(self, folder: Path) -> None:
        """Undisturbed data, or a folder of them, as this place's."""
        later = folder.is_relative_to(self.calm.later_data)
        whole = self.calm.later_data if later else self.calm.data
        shutil.copytree(folder, self.data / folder.relative_to(whole))

    def clear(self) -> None:
        """Forget what was there and asked."""
        self.server.reset()
        for folder in ("data", "undisturbed"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)

    def until(self, is_so: Callable[[], bool], *running: "subprocess.Popen[str]") -> None:
        """Wait until something is so, or one of the processes is over."""
        until = time.monotonic() + DEADLINE
        while not is_so() and all(each.poll() is None for each in running):
            assert time.monotonic() < until, "nothing comes of it"
            time.sleep(0.002)

    def paid_again(self) -> int:
        """How many requests were asked more than once; none of them is of another build."""
        seen = self.server.seen()
        assert set(seen) <= set(self.calm.asked), "another request than an undisturbed build's"
        return sum(seen.values()) - len(seen)

    def is_repaired(self, right: str = "") -> Ended:
        """The next build ends in the right id, and another one asks nothing; nothing else is left.

        What a killed process began is cleared away when it is old.
        """
        again = self.build()
        assert again.said.get("id") == (right or self.calm.id), again
        n = len(self.server.requests)
        assert self.build().said["is_new"] is False
        assert len(self.server.requests) == n, "a finished build asks nothing"
        verify(self.versions / again.said["id"])
        calm = self.calm.later_data if right else self.calm.data
        undisturbed = shutil.copytree(calm, self.folder / "undisturbed")
        assert sorted(left(self.data)) == sorted(left(undisturbed))
        return again


def left(data: Path) -> set[str]:
    """What is in a folder of data once all is long ago and was looked after: kinds of names.

    Not among them are a version's own files, which its manifest has, files that are locked, and of
    the ledger indexes, which are a cache, and lines that were set aside.
    """
    for path in data.rglob("*"):
        long_ago = time.time() - LONG_AGO
        os.utime(path, (long_ago, long_ago))
    compact(data / "ledger")
    garbage.remove(garbage.garbage(data))
    found = {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    indexed = {name.removesuffix(".index") for name in found if name.endswith(".index")}
    assert all(f"{name}.jsonl" in found for name in indexed), "an index of nothing"
    named = {name for name in found if not name.endswith(("lock", ".index", ".damaged"))}
    kinds = {re.sub(r"\d{19}-.*-[0-9a-f]{8}", "segment", name) for name in named}
    return {re.sub(r"stormy/[0-9a-f]{12}/.*", "stormy/version", name) for name in kinds}


def kill(processes: Iterable["subprocess.Popen[str]"]) -> None:
    for each in processes:
        each.kill()
        each.communicate()
