"""`prefdata push` as it is typed, and `prefdata check` of what was pushed."""

import json
import subprocess
import sys

import polars as pl
import pytest
from typer.testing import CliRunner

from prefdata import check, cli, tables
from tests.hub.conftest import environment
from tests.hub.server import TOKEN
from tests.hub.test_push import REPO, files, writes, written

KEY = "AKIAIOSFODNN7EXAMPLQ"
MAIL = "jane.doe@gmail.com"


def run(*arguments):
    done = CliRunner().invoke(cli.app, arguments)
    assert TOKEN not in done.output
    return done


def prompts(*texts):
    asked = [[{"role": "user", "content": text}] for text in texts]
    frame = pl.DataFrame({"prompt": asked, "source": "by hand"})
    frame = frame.with_columns(tables.prompt_ids(asked))
    return {"prompts": tables.check("prompts", frame, where="test")}


@pytest.fixture
def data(tmp_path):
    return ["--data", str(tmp_path / "data")]


@pytest.fixture
def leaky(made):
    """A version that should not leave."""
    return made(
        name="leaky",
        tables=prompts(f"The key is {KEY}.", f"Write to {MAIL}!", "What is a key?"),
        exports={},
        licenses={"a": "cc-by-sa-4.0", "b": "odbl"},
        counts={"sources": {"a": 1, "b": 1, "c": 1}},
    )


def test_a_push_ends_with_its_address(hub, made, data):
    version = made()
    done = run("push", "mini", REPO, *data)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"{hub.url}/datasets/{REPO}/tree/{version.id}"
    again = run("push", "mini", REPO, *data)
    assert "nothing to do" in again.stdout
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]


def test_the_tag_it_was_named_by_is_set(hub, made, data):
    version = made()
    run("tag", "mini", "v3", *data)
    said = json.loads(run("push", "mini@v3", REPO, *data, "--json").stdout.splitlines()[-1])
    assert said["tags"] == [version.id, "v3"]
    assert said["changed"]
    assert {*hub.repos[REPO].tags} == {version.id, "v3"}


def test_a_dry_run_says_what_would_be_sent(hub, made, data):
    version = made()
    done = run("push", "mini", REPO, "--dry-run", "--json", *data)
    said = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 0
    assert said["send"] == {name: len(each) for name, each in written(version).items()}
    assert (said["private"], said["creates"], said["refusals"]) == (True, True, [])
    drawn = run("push", "mini", REPO, "--dry-run", *data).stdout
    assert f"{len(written(version))} files to send" in drawn
    assert "new, private" in drawn
    assert writes(hub) == []


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_all_that_stands_against_it_is_listed_and_masked(hub, leaky, data, dry):
    done = run("push", "leaky", REPO, *dry, *data)
    assert done.exit_code == 1
    assert done.stderr.count("refused: ") == 3
    assert "no licence is stated for c" in done.stdout
    for word in ("AWS Access Key", "email address", "cc-by-sa-4.0 (a) and odbl (b)", "ja••.•••@"):
        assert word in done.stdout
    assert all(each not in done.output for each in (KEY, MAIL))
    assert writes(hub) == []

    said = json.loads(run("push", "leaky", REPO, *dry, "--json", *data).stdout.splitlines()[-1])
    assert said["kind"] == "PushError"
    assert {each["check"]: each["n"] for each in said["findings"]} == {
        "secrets": 1, "personal": 1, "licence": 1,
    }  # fmt: skip
    assert all(each not in json.dumps(said, ensure_ascii=False) for each in (KEY, MAIL))


def test_each_is_allowed_by_its_name(hub, leaky, data):
    allow = {"secrets": "keys", "personal": "personal data", "licence": "licences"}
    for left, word in allow.items():
        given = [word for each in allow if each != left for word in ("--allow", each)]
        done = run("push", "leaky", REPO, *given, *data)
        assert done.exit_code == 1
        assert done.stderr.count("refused: ") == 1
        assert word in done.stderr
    every = [word for each in allow for word in ("--allow", each)]
    assert run("push", "leaky", REPO, *every, *data).exit_code == 0
    assert files(hub, leaky.id) == written(leaky)
    again = run("push", "leaky", REPO, *data)
    assert again.exit_code == 0, "what is there does not leave once more"
    assert "nothing to do" in again.stdout
    assert run("push", "leaky", REPO, "--allow", "everything", *data).exit_code == 2


def test_personal_data_below_the_level_may_leave(hub, made, data):
    made(tables=prompts(MAIL, *(f"question {at}" for at in range(500))), exports={})
    said = run("push", "mini", REPO, *data).stderr
    assert "personal data in 1 row, 0.20% of the 501 that hold texts" in said
    assert run("push", "mini", REPO, "--personal-level", "0.1", *data).exit_code == 0
    assert run("push", "mini", REPO, "--personal-level", "2", *data).exit_code == 2


def test_a_failure_is_one_object_too(hub, made, data):
    made()
    hub.fault("/commit/", "403")
    done = run("push", "mini", REPO, "--json", *data)
    assert done.exit_code == 1
    assert json.loads(done.stdout.splitlines()[-1])["kind"] == "PushError"


LOUD = """
import logging, sys
logging.basicConfig(level=1)
from prefdata.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.long
def test_what_was_pushed_is_checked_by_its_name(hub, made, tmp_path, data):
    """As a user types it, with every log of every library: and the token is in none of them."""
    version = made(60, splits={"test": 0.2})

    def typed(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", LOUD, *arguments, *data, "--json"],
            env=environment(hub, tmp_path),
            capture_output=True,
            text=True,
        )
        assert TOKEN not in done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert typed("push", "mini", REPO)["changed"]
    there = typed("check", REPO, "--fail-on", "never")
    here = check.run(version.ref, data=data[1]).to_json()
    assert there["type"] == here["type"] == "preference"
    assert there["splits"] == here["splits"]
    of_texts = {"identical", "duplicates", "length_bias", "refusals"}
    for one, other in zip(there["findings"], here["findings"], strict=True):
        if one["check"] in of_texts:
            assert (one["n"], one["of"]) == (other["n"], other["of"])
