"""Traces and metrics: what a real exporter sends to a collector of ours over HTTP, and no texts."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prefdata import telemetry
from prefdata.errors import RecipeError
from prefdata.watch import Made, Started, silent
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
TOKEN = "sk-planted0123456789abcdef"
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


class Nasty(BaseHTTPRequestHandler):
    """A collector that does what its path says, to whoever sends."""

    def do_POST(self) -> None:
        how, said = self.path.split("/")[1], b"HTTP/1.1 200 OK\r\n"
        with suppress(OSError):
            if how == "redirects":
                self.wfile.write(
                    b"HTTP/1.1 307 x\r\nLocation: /stolen/v1\r\nConnection: close\r\n\r\n"
                )
            elif how == "stolen":
                self.server.stolen = True  # type: ignore[attr-defined]
            elif how == "refuses":
                self.wfile.write(b"HTTP/1.1 401 \x1b[2J sk-planted0123456789abcdef\r\n\r\n")
            elif how == "later":
                self.wfile.write(
                    b"HTTP/1.1 503 x\r\nRetry-After: 86400\r\nConnection: close\r\n\r\n"
                )
            elif how == "floods":
                self.wfile.write(said + b"\r\n")
                while True:
                    self.wfile.write(bytes(1 << 16))
            while how in ("hangs", "drips"):
                self.wfile.write(b"" if how == "hangs" else said[:1] or b"x")
                time.sleep(0.2)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        *("gone", "hangs", "floods", "redirects"),
        *(pytest.param(how, marks=pytest.mark.long) for how in ("drips", "refuses", "later")),
    ],
)
def test_no_collector_ends_a_build_or_holds_it_up(how: str, recipe: Path):
    """One that hangs or drips would hold it for ever, were it waited for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Nasty)
    server.daemon_threads, stolen = True, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{9 if how == 'gone' else server.server_port}/{how}"
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=planted"}
    try:
        ran = build(recipe, "--log-format", "json", **told)
    finally:
        server.shutdown()
        stolen = getattr(server, "stolen", False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1])["is_new"]
    records = [json.loads(line) for line in ran.stderr.splitlines()]
    warned = [each["says"] for each in records if each["event"] == "warned"]
    assert len(warned) == (how != "floods")  # what it says is not read: it may say what it likes
    assert all("OTEL_EXPORTER_OTLP_ENDPOINT" in each for each in warned)
    assert not stolen
    assert "planted0123456789" not in ran.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip")],
)
def test_variables_that_are_wrong_are_told_or_do_no_harm(name: str, value: str, recipe: Path):
    ran = build(recipe, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **{name: value})
    assert "not foreseen" not in ran.stderr
    assert "Traceback" not in ran.stderr


def test_what_is_not_installed_is_told(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    def lacks(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(telemetry.importlib.util, "find_spec", lacks)
    assert not telemetry.is_installed()
    with (
        pytest.raises(RecipeError, match=r"prefdata\[telemetry\]"),
        telemetry.traced("told", silent),
    ):
        pass


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the spans of a program's own provider come to."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return kept


def test_what_an_error_says_is_in_no_span(kept: Any):
    """But of which kind it is, in that of the build and of the stage that failed."""

    def fails() -> None:
        with telemetry.traced("told", silent) as watch:
            watch(Started("fine", 1, 2))
            watch(Made("fine", {}, 0, {}, 0.0))
            watch(Started("wrong", 2, 2))
            raise RecipeError(SECRET)

    with pytest.raises(RecipeError):
        fails()
    fine, wrong, build = kept.get_finished_spans()
    assert fine.status.is_unset
    for span in (wrong, build):
        assert SECRET not in span.to_json()
        assert (span.status.is_ok, span.status.description) == (False, "RecipeError")


URL = "http://127.0.0.1:4318"
ALL, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ({ALL: URL}, {"TRACES": ALL, "METRICS": ALL}),
        ({ALL: URL, TRACES: "http://t"}, {"TRACES": TRACES, "METRICS": ALL}),
        ({TRACES: "http://t"}, {"TRACES": TRACES}),
        ({ALL: URL, "OTEL_TRACES_EXPORTER": "none"}, {"METRICS": ALL}),
        ({ALL: URL, "OTEL_METRICS_EXPORTER": "prometheus"}, {"TRACES": ALL}),
        ({ALL: URL, "OTEL_METRICS_EXPORTER": "console, otlp"}, {"TRACES": ALL, "METRICS": ALL}),
        ({ALL: URL, "OTEL_SDK_DISABLED": "True"}, {}),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, {}),
    ],
)
def test_a_signal_goes_where_a_variable_says_and_nowhere_else(
    said: dict[str, str], sent: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    _set(said, monkeypatch)
    assert {each: variable for each, (variable, _) in telemetry.endpoints().items()} == sent
    providers = telemetry._providers(telemetry.endpoints())
    kinds = {"TracerProvider": "TRACES", "MeterProvider": "METRICS"}
    assert {kinds[type(each).__name__] for each in providers} == sent.keys()
    for each in providers:
        each.shutdown()


@pytest.mark.parametrize("protocol", ["grpc", "http/json"])
def test_another_protocol_is_refused_and_not_spoken_to(
    protocol: str, monkeypatch: pytest.MonkeyPatch
):
    name = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    _set({ALL: URL, name: protocol}, monkeypatch)
    with (
        pytest.raises(RecipeError, match=rf"{name} is '{protocol}', and only http/protobuf.*4318"),
        telemetry.traced("told", silent),
    ):
        pass
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert not telemetry.misfit()


def _set(said: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import metrics, trace

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    monkeypatch.setattr(metrics, "set_meter_provider", lambda _: None)


def test_what_libraries_say_is_in_records_without_keys():
    from prefdata.screen import records

    lines: list[str] = []
    logging.captureWarnings(False)  # Prefect, once it is loaded, leaves it on for another test's
    with records.heard(lines.append, {"run": "5f0c2a9d31b7"}):
        logging.getLogger("some.library").warning("a\n\x1b[2Jb %s", "sk-planted0123456789abcdef")
        warnings.warn("old\n" + "x" * 10**6, stacklevel=1)
        logging.getLogger("some.library").info("chatter")
    first, second = (json.loads(line) for line in lines)
    assert first["run"] == second["run"] == "5f0c2a9d31b7"
    assert (first["event"], first["level"], first["logger"]) == ("log", "warning", "some.library")
    assert first["message"] == "a\n\x1b[2Jb ***"
    assert len(second["message"]) <= records.LONGEST
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_records_are_lines_of_json_without_texts(recipe: Path):
    """Each names its build, of which the first says how it is done and the last what came of it."""
    runs: set[str] = set()
    for is_new in (True, False):
        ran = build(recipe, "--log-format", "json")
        assert ran.returncode == 0, ran.stderr
        records = [json.loads(line) for line in ran.stderr.splitlines()]
        assert all({"time", "level", "event"} <= each.keys() for each in records)
        assert {each["recipe"] for each in records} == {str(recipe)}
        runs |= {each["run"] for each in records}
        made = {each["stage"]: each for each in records if each["event"] == "made"}
        assert made["generate.sample"]["tables"]["completions"] == 12
        assert [records[at]["event"] for at in (0, 1, -1)] == ["building", "imported", "built"]
        assert records[0]["how"] == "directly"
        said = json.loads(ran.stdout.splitlines()[-1])
        assert said.items() <= records[-1].items()
        assert said["is_new"] is is_new
        assert SECRET not in ran.stderr
    assert len(runs) == 2


def test_a_key_in_a_bad_row_is_in_no_record(recipe: Path):
    row = {"prompt": [{"role": "user", "content": f"{TOKEN}\n"}, {"role": "x", "content": "y"}]}
    (recipe.parent / "prompts.jsonl").write_text(json.dumps(row))
    ran = build(recipe, "--log-format", "json", "--strict")
    _, failed = [json.loads(line) for line in ran.stderr.splitlines()]
    assert "unknown role" in failed["message"]
    assert TOKEN not in ran.stderr
    assert "***" in failed["message"]


def test_a_failure_is_a_record_too(recipe: Path):
    ran = build(recipe, "--log-format", "json", "--set", "stages.1.judge=nobody")
    assert ran.returncode == 1
    begun, failed = [json.loads(line) for line in ran.stderr.splitlines()]
    assert (failed["level"], failed["kind"]) == ("error", "RecipeError")
    assert "nobody" in failed["message"]
    assert (begun["run"], begun["recipe"]) == (failed["run"], failed["recipe"])
