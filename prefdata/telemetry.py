"""Traces and metrics of builds by OpenTelemetry, where it is set up.

Set up it is by its own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318, and by
`prefdata[telemetry]`; or by a program that builds, which has set its own providers. A build is a
span and in it each stage one; the counters `prefdata.requests` (by stage and outcome),
`prefdata.tokens` (by stage and direction) and `prefdata.cost` (USD) grow while a stage asks. No
text of a prompt or completion is in any of them.
"""

import importlib.util
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from prefdata.errors import RecipeError
from prefdata.watch import Asking, Event, Made, Started, Watch

VARIABLES = tuple(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "METRICS_"))

EXPORTER = "opentelemetry.exporter.otlp.proto.http"


@contextmanager
def traced(name: str, watch: Watch) -> Generator[Watch]:
    """A watch that tells OpenTelemetry too; `watch` itself where nothing is set up."""
    wanted = any(os.environ.get(variable) for variable in VARIABLES)
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        wanted = False
    elif wanted and not _can_send():
        raise RecipeError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces and metrics, and what sends them is not "
            "installed: pip install 'prefdata[telemetry]', or set OTEL_SDK_DISABLED=true"
        )
    if not wanted and "opentelemetry.sdk" not in sys.modules:
        yield watch
        return
    from opentelemetry import metrics, trace

    sending = _providers() if wanted and _is_unset(trace) else []
    tracer, meter = trace.get_tracer("prefdata"), metrics.get_meter("prefdata")
    try:
        with tracer.start_as_current_span("prefdata.build", attributes={"prefdata.recipe": name}):
            telling = _Telling(watch, tracer, meter)
            try:
                yield telling
            finally:
                telling.close()
    finally:
        for provider in sending:
            provider.force_flush()


def _can_send() -> bool:
    try:
        return importlib.util.find_spec(EXPORTER) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _is_unset(trace: Any) -> bool:
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _providers() -> list[Any]:
    """Those of this process, which send to what the variables name."""
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "prefdata")})
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource)
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(meters)
    return [traces, meters]


class _Telling:
    """Passes events on to `watch`, and makes spans and counts of them."""

    def __init__(self, watch: Watch, tracer: Any, meter: Any) -> None:
        self._watch = watch
        self._tracer = tracer
        self._requests = meter.create_counter("prefdata.requests", description="requests, by fate")
        self._tokens = meter.create_counter("prefdata.tokens", description="tokens in and out")
        self._cost = meter.create_counter("prefdata.cost", unit="USD", description="paid")
        self._lock = Lock()
        self._span: Any = None
        self._counted: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        self._watch(event)
        with self._lock:
            match event:
                case Started():
                    self.close()
                    self._counted = {}
                    self._span = self._tracer.start_span(
                        f"prefdata.stage {event.stage}",
                        attributes={"prefdata.stage": event.stage, "prefdata.index": event.index},
                    )
                case Asking():
                    self._count(event)
                case Made() if self._span is not None:
                    for table, n in event.tables.items():
                        self._span.set_attribute(f"prefdata.rows.{table}", n)
                    self._span.set_attribute("prefdata.dropped", event.dropped)
                    self._span.set_attribute("prefdata.unscored", sum(event.unscored.values()))
                    self.close()
                case _:
                    pass

    def _count(self, event: Asking) -> None:
        """What came to the stage's own counts, which only grow, since the last event."""
        answered = event.done - event.cached - event.failed - event.unsent
        stage = {"stage": event.stage}
        for counter, kind, value in (
            (self._requests, {"outcome": "answered"}, answered),
            (self._requests, {"outcome": "cached"}, event.cached),
            (self._requests, {"outcome": "failed"}, event.failed),
            (self._requests, {"outcome": "unsent"}, event.unsent),
            (self._tokens, {"direction": "in"}, event.tokens_in),
            (self._tokens, {"direction": "out"}, event.tokens_out),
            (self._cost, {}, event.cost),
        ):
            name = "/".join(kind.values()) or "cost"
            if (more := value - self._counted.get(name, 0)) > 0:
                counter.add(more, {**stage, **kind})
                self._counted[name] = value
            if self._span is not None:
                self._span.set_attribute(f"prefdata.{name.replace('/', '.')}", value)

    def close(self) -> None:
        if self._span is not None:
            self._span.end()
            self._span = None
