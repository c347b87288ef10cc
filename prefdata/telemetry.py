"""Traces and metrics of builds by OpenTelemetry, where it is set up.

Set up it is by its own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318, and by
`prefdata[telemetry]`; or by a program that builds, which has set its own providers. Either signal
goes only where a variable names an endpoint for it, and not at all with OTEL_TRACES_EXPORTER=none,
or OTEL_METRICS_EXPORTER=none. A build is a
span and in it each stage one; the counters `prefdata.requests` (by stage and outcome),
`prefdata.tokens` (by stage and direction) and `prefdata.cost` (USD) grow while a stage asks. No
text of a prompt or completion is in any of them.
"""

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Collection, Generator
from contextlib import contextmanager
from threading import Lock, Thread
from time import monotonic
from typing import Any

from prefdata.errors import RecipeError
from prefdata.watch import Asking, Event, Made, Started, Warned, Watch

SIGNALS = ("TRACES", "METRICS")
PROTOCOL = "http/protobuf"  # the one that is spoken here, and the default
# Seconds that the end of a build waits for what is left to be taken.
PATIENCE = 5.0
_ours: list[Any] = []  # the providers of this process, where it set them


def endpoints() -> dict[str, tuple[str, str]]:
    """Of each signal that the environment asks for, the variable that says where it goes, and what
    it says."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return {}
    found: dict[str, tuple[str, str]] = {}
    for signal in SIGNALS:
        exporters = os.environ.get(f"OTEL_{signal}_EXPORTER", "").lower() or "otlp"
        said = _said(signal, "ENDPOINT")
        if said and "otlp" in map(str.strip, exporters.split(",")):
            found[signal] = said
    return found


def misfit() -> str:
    """What the environment asks for that is not sent here; empty if nothing."""
    for signal in endpoints():
        name, value = _said(signal, "PROTOCOL") or ("", PROTOCOL)
        if value.strip().lower() != PROTOCOL:
            return (
                f"{name} is {value!r}, and only {PROTOCOL} is sent: set it to that, and the "
                "endpoint to the port where the collector takes it, most often 4318"
            )
    return ""


def _said(signal: str, what: str) -> tuple[str, str] | None:
    """The variable that says it of a signal, its own before that of both; None if neither does."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
        if value := os.environ.get(name):
            return name, value
    return None


def is_installed() -> bool:
    """Whether what sends them is."""
    try:
        names = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        return all(importlib.util.find_spec(name) for name in names)
    except ModuleNotFoundError:  # of what one of them is a part of
        return False


@contextmanager
def traced(name: str, watch: Watch) -> Generator[Watch]:
    """A watch that tells OpenTelemetry too; `watch` itself where nothing is set up.

    Nothing that a collector does or omits ends a build or holds it up for more than `PATIENCE`.
    """
    sends = endpoints()
    variables = " and ".join(sorted({variable for variable, _ in sends.values()}))
    if sends and not is_installed():
        raise RecipeError(
            f"{variables} asks for traces or metrics, and what sends them is not installed: pip "
            "install 'prefdata[telemetry]', or set OTEL_SDK_DISABLED=true"
        )
    if said := misfit():
        raise RecipeError(f"{said}; or set OTEL_SDK_DISABLED=true")
    if not sends and "opentelemetry.sdk" not in sys.modules:
        yield watch
        return
    from opentelemetry import metrics, trace

    with _heard() as complaints:
        if sends and not _ours and _is_unset(trace):
            _ours.extend(_providers(sends))
        tracer, meter = trace.get_tracer("prefdata"), metrics.get_meter("prefdata")
        try:
            with _spanned(trace, tracer, name):
                telling = _Telling(watch, tracer, meter)
                try:
                    yield telling
                except BaseException as error:
                    telling.close(_failed(trace, error))
                    raise
                else:
                    telling.close()
        finally:
            if sends and (not _flushed() or complaints):
                watch(
                    Warned(
                        "some traces or metrics were not taken by the collector that "
                        f"{variables} names within {PATIENCE:.0f} seconds; the build is whole "
                        "without. `prefdata doctor` looks if it answers"
                    )
                )


@contextmanager
def _spanned(trace: Any, tracer: Any, name: str) -> Generator[None]:
    """The span of a build."""
    how = {"record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(
        "prefdata.build", attributes={"prefdata.recipe": name}, **how
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_status(_failed(trace, error))
            raise


def _failed(trace: Any, error: BaseException) -> Any:
    """The status of a span. Of an error its type is told: what it says may be a prompt's text."""
    return trace.Status(trace.StatusCode.ERROR, type(error).__name__)


@contextmanager
def _heard() -> Generator[list[str]]:
    """What OpenTelemetry complains of, which else would be written to standard error."""
    complaints: list[str] = []

    class Hearing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.name)

    logger, hearing = logging.getLogger("opentelemetry"), Hearing(logging.WARNING)
    logger.addHandler(hearing)
    before, logger.propagate = logger.propagate, False
    try:
        yield complaints
    finally:
        logger.propagate = before
        if not _ours:  # what still sends complains to nobody
            logger.removeHandler(hearing)


def _flushed() -> bool:
    """Whether all that is left was sent in time; what is not is given up."""
    sending = [Thread(target=each.force_flush, daemon=True) for each in _ours]
    until = monotonic() + PATIENCE
    for each in sending:
        each.start()
    for each in sending:
        each.join(max(0.0, until - monotonic()))
    return not any(each.is_alive() for each in sending)


def _is_unset(trace: Any) -> bool:
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _providers(signals: Collection[str]) -> list[Any]:
    """Those of this process, which send these signals to what the variables name."""
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "prefdata")}
    resource = Resource.create(name)
    made: list[Any] = []
    try:
        # Neither waits for its collector when the process ends.
        if "TRACES" in signals:
            traces = TracerProvider(resource=resource, shutdown_on_exit=False)
            traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=_session())))
            made.append(traces)
        if "METRICS" in signals:
            counts = PeriodicExportingMetricReader(OTLPMetricExporter(session=_session()))
            made.append(MeterProvider([counts], resource, shutdown_on_exit=False))
    except (ValueError, OSError) as error:
        raise RecipeError(
            f"OpenTelemetry is not set up by its variables OTEL_*: {error}; mend them, or set "
            "OTEL_SDK_DISABLED=true"
        ) from error
    for each in made:
        if isinstance(each, TracerProvider):
            trace.set_tracer_provider(each)
        else:
            metrics.set_meter_provider(each)
    return made


def _session() -> Any:
    """How the exporters send: nothing to where a collector redirects, and no answer is read."""
    requests: Any = importlib.import_module("requests")

    class Session(requests.Session):
        def send(self, request: Any, **how: Any) -> Any:
            bounded = {**how, "stream": True, "allow_redirects": False}
            answer: Any = requests.Session.send(self, request, **bounded)
            answer.close()
            answer._content = b""
            if answer.is_redirect:
                raise requests.RequestException("the collector redirects")
            return answer

    return Session()


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

    def close(self, failed: Any = None) -> None:
        """End the span of the running stage, if one runs; `failed` is its status if it failed."""
        if self._span is not None:
            if failed is not None:
                self._span.set_status(failed)
            self._span.end()
            self._span = None
