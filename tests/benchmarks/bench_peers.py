"""What a row costs here and elsewhere: a completion and a judge call for each prompt.

    python tests/benchmarks/bench_peers.py [--n 5000] [--peer-n 1000] [--curator PYTHON]
        [--data-designer PYTHON] [--distilabel PYTHON]

Each alternative is run by the Python of an environment of its own, where it is installed; it is
named by an option, or by PREFDATA_PEER_CURATOR and so on, and left out where it is not. All ask the
same instant server in one run, with as many requests in flight. Client CPU is that of every process
of the client from the first request to the table in memory, without imports. Not a test: figures of
one run, with the machine's load.
"""

import argparse
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import bench_client

PEERS = ("curator", "data_designer", "distilabel")
HERE = Path(__file__).parent
LONGEST = 900
TICK = os.sysconf("SC_CLK_TCK")


class Meter:
    """CPU seconds of all processes of a session, those that have ended included."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._seen: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self) -> float:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    stat = Path(entry.path, "stat").read_text()
                except OSError:
                    continue
                fields = stat[stat.rindex(")") + 2 :].split()
                if int(fields[3]) == self._session:
                    self._seen[entry.name] = (int(fields[11]) + int(fields[12])) / TICK
        return sum(self._seen.values())

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.now()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def peer(name: str, python: str, url: str, n: int) -> tuple[float, float] | None:
    """Seconds of CPU and of the clock; None where the peer does not finish."""
    script = HERE / "peers" / f"with_{name}.py"
    command = [python, str(script), url, str(n), str(bench_client.CONCURRENCY)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd=os.environ.get("TMPDIR", "/tmp"),
    )
    meter = Meter(process.pid)
    late = threading.Timer(LONGEST, lambda: os.killpg(process.pid, 9))
    late.start()
    before, found = 0.0, None
    try:
        assert process.stdout is not None
        for line in process.stdout:
            match line.split():
                case ["BEGIN"]:
                    before = meter.now()
                case ["END", wall, rows]:
                    found = meter.now() - before, float(wall)
                    if int(rows) != n:
                        print(f"{name}: only {rows} of {n} rows have a rating")
        process.wait()
    finally:
        late.cancel()
        meter.stop()
    return found


@contextmanager
def server():
    command = [sys.executable, bench_client.SERVER]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        yield running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait()


def shown(name: str, n: int, cpu: float, wall: float, ours: tuple[float, float]) -> None:
    each, rate = 1000 * cpu / n, n / wall
    times = f"{each / ours[0]:6.1f} x our CPU, {ours[1] / rate:6.1f} x slower" if ours[0] else ""
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{name:16}{n:6,} rows{each:8.2f} ms CPU a row{rate:8.0f} rows/s  {times:36}  {load}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--peer-n", type=int, default=1000)
    for name in PEERS:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, default=os.environ.get(f"PREFDATA_PEER_{name.upper()}", ""))
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, {bench_client.CONCURRENCY} requests in flight, 2 calls a row")
    with server() as url:
        bench_client.measured("bare", url, 200)
        ours = (0.0, 0.0)
        for what, name in (("whole", "prefdata.build"), ("bare", "bare aiohttp")):
            cpu, wall = bench_client.measured(what, url, given.n)
            shown(name, given.n, cpu, wall, ours)
            ours = ours if ours[0] else (1000 * cpu / given.n, given.n / wall)
        for name in PEERS:
            python = getattr(given, name)
            if not python:
                print(f"{name:16}is not at hand; PREFDATA_PEER_{name.upper()} names its Python")
                continue
            if (found := peer(name, python, url, given.peer_n)) is None:
                print(f"{name:16}did not finish")
                continue
            shown(name, given.peer_n, *found, ours)


if __name__ == "__main__":
    main()
