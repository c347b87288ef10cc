"""A push that is killed, in a process of its own, goes on by being asked for again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefdata.hub import push
from tests.hub.conftest import environment
from tests.hub.test_push import REPO, files, written

PUSH = """
import sys
from prefdata.hub import push, pushing
from prefdata.version import find
pushing.TOGETHER = 1  # one file after the other
push(find(sys.argv[1], "mini"), sys.argv[2])
"""


def killed(hub, version, home: Path, where: str, after: int) -> None:
    """A push that SIGKILL ends when the Hub has been asked this often; the Hub answers slowly."""
    hub.fault(where, "slow")
    process = subprocess.Popen(
        [sys.executable, "-c", PUSH, str(version.path.parents[2]), REPO],
        env=environment(hub, home),
        stderr=subprocess.PIPE,
    )
    while len(hub.seen(where)) < after:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)  # what the Hub was told before is done


@pytest.mark.parametrize(
    ("where", "after"),
    [
        ("PUT /storage", 4),
        pytest.param("/repos/create", 1, marks=pytest.mark.slow),
        pytest.param("PUT /storage", 1, marks=pytest.mark.slow),
        pytest.param("/commit/", 1, marks=pytest.mark.slow),
        pytest.param("/tag/", 1, marks=pytest.mark.slow),
    ],
)
def test_only_what_is_missing_is_sent_again(hub, made, tmp_path, where, after):
    version = made()
    killed(hub, version, tmp_path, where, after)
    stored = {*hub.objects}
    is_committed = len(hub.repos[REPO].heads) > 1
    assert is_committed == (where in ("/commit/", "/tag/"))
    assert is_committed or not files(hub), "a version is there whole or not at all"
    hub.reset()
    push(version, REPO)
    sent = {put.split("/")[2] for put in hub.seen("PUT /storage")}
    assert not sent & stored
    assert len(stored) >= (after - 1 if where == "PUT /storage" else 0)
    assert files(hub, version.id) == files(hub) == written(version)
    assert len(hub.repos[REPO].heads) == 2
