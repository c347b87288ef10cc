"""Traces and metrics: what a real exporter sends to a collector of ours over HTTP, and no texts."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prefdata.errors import RecipeError
from prefdata.telemetry import traced
from prefdata.watch import silent
from tests.chain import CHAIN

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

RECIPE = (
    """
name = "told"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[models.judge]
client = "scripted"
"""
    + CHAIN
    + """
[[exports]]
use = "export.pairwise"
"""
)
SECRET = "the zebra of the planted prompt"


@pytest.fixture
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """Keeps what is sent to it, by path."""
    sent: dict[str, list[bytes]] = {}

    class Keeping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    lines = [json.dumps({"prompt": f"{SECRET}, number {i}"}) for i in range(4)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def build(recipe: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefdata", "build", str(recipe), "--plain", "--json", *options],
        env={**os.environ, **environment, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"},
        cwd=recipe.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_build_sends_spans_and_counts(recipe: Path, collector: Any):
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, sent = collector
    for known in (False, True):  # the second build is answered by the ledger
        sent.clear()
        ran = build(recipe, OTEL_EXPORTER_OTLP_ENDPOINT=url)
        assert ran.returncode == 0, ran.stderr
        assert not any(SECRET.encode() in body for bodies in sent.values() for body in bodies)
        spans = {
            span.name: span
            for body in sent["/v1/traces"]
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
        root = spans.pop("prefdata.build")
        assert spans.keys() == {
            f"prefdata.stage {use}"
            for use in (
                *("generate.sample", "annotate.pairwise"),
                *("aggregate.bradley_terry", "pair.best_vs_worst"),
            )
        }
        assert {span.parent_span_id for span in spans.values()} == {root.span_id}
        rows = {
            each.key: each.value.int_value
            for each in spans["prefdata.stage generate.sample"].attributes
        }
        assert rows["prefdata.rows.completions"] == 12
        counts: dict[tuple[str, str], float] = {}
        for body in sent["/v1/metrics"][-1:]:
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in (m for scope in resource.scope_metrics for m in scope.metrics):
                    for point in metric.sum.data_points:
                        said = {each.key: each.value.string_value for each in point.attributes}
                        key = said["stage"], said.get("outcome", said.get("direction", ""))
                        counts[key] = point.as_int or point.as_double
        outcome = "cached" if known else "answered"
        assert counts["generate.sample", outcome] == 12
        assert counts["annotate.pairwise", outcome] == 24  # 3 pairs of 4 prompts in both orders
        assert (("annotate.pairwise", "in") in counts) is not known


def test_a_collector_that_is_not_there_ends_no_build(recipe: Path):
    quick = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    ran = build(recipe, **quick)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1])["is_new"]


@pytest.mark.parametrize("absent", ["opentelemetry", "opentelemetry.exporter.otlp"])
def test_what_is_not_installed_is_told(absent: str, monkeypatch: pytest.MonkeyPatch):
    """A cluster may set the variable for every process, and the light core cannot send."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, absent, None)
    for name in [name for name in sys.modules if name.startswith(f"{absent}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "opentelemetry.sdk", raising=False)
    said = pytest.raises(RecipeError, match=r"prefdata\[telemetry\].*OTEL_SDK_DISABLED")
    with said, traced("told", silent):
        pass
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with traced("told", silent) as watch:
        assert watch is silent


def test_records_are_lines_of_json_without_texts(recipe: Path):
    ran = build(recipe, "--log-format", "json")
    assert ran.returncode == 0, ran.stderr
    records = [json.loads(line) for line in ran.stderr.splitlines()]
    assert all({"time", "level", "event"} <= each.keys() for each in records)
    made = {each["stage"]: each for each in records if each["event"] == "made"}
    assert made["generate.sample"]["tables"]["completions"] == 12
    assert records[0]["event"] == "imported"
    assert SECRET not in ran.stderr


def test_a_failure_is_a_record_too(recipe: Path):
    ran = build(recipe, "--log-format", "json", "--set", "stages.1.judge=nobody")
    assert ran.returncode == 1
    (failed,) = [json.loads(line) for line in ran.stderr.splitlines()]
    assert (failed["level"], failed["kind"]) == ("error", "RecipeError")
    assert "nobody" in failed["message"]
