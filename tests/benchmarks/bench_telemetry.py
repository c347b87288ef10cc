"""What being watched costs a build: a log as JSON, and traces and metrics by OpenTelemetry.

    python tests/benchmarks/bench_telemetry.py [--n 1000] [--rounds 3]

CPU of whole processes `prefdata build`, in alternating rounds, against a plain log; a collector on
loopback takes what is sent. With the machine's load. Not a test.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))
from tests.chain import CHAIN

MODELS = """
name = "watched"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[models.judge]
client = "scripted"
"""


class Collector(BaseHTTPRequestHandler):
    taken = 0

    def do_POST(self) -> None:
        Collector.taken += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def cpu(folder: Path, data: str, environment: dict[str, str]) -> float:
    """Processor seconds of a build."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "prefdata", "build", "r.toml", "--plain", "--data", data]
    how: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True, **how)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.n:,} prompts, planted")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ways: dict[str, dict[str, str]] = {
        "text": {},
        "json": {"PREFDATA_LOG_FORMAT": "json"},
        "otel": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"},
    }
    spent: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = (json.dumps({"prompt": f"Tell me about the number {i}."}) for i in range(given.n))
        (folder / "prompts.jsonl").write_text("\n".join(rows))
        (folder / "r.toml").write_text(MODELS + CHAIN)
        for at in range(given.rounds):
            for way, environment in ways.items():
                spent[way].append(cpu(folder, f"{way}-{at}", environment))
    plain = statistics.median(spent["text"])
    for way, seconds in spent.items():
        middle = statistics.median(seconds)
        print(f"{way}: {middle:.2f} s CPU, {middle / plain:.3f} of a plain log")
    print(f"the collector took {Collector.taken:,} bytes")


if __name__ == "__main__":
    main()
