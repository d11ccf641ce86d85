"""Traces that cost nothing when nobody collects them.

A stage of work is recorded when it is over, with the times it took: no context managers on hot paths, and one
call serves a single message or a batch. Without an OTLP endpoint (the standard variable
OTEL_EXPORTER_OTLP_ENDPOINT) a traceparent is passed on unchanged and OpenTelemetry is never imported.
"""

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.batch import traceparent as valid_traceparent
from shared.config import ConfigError
from shared.events import Event


@dataclass(frozen=True, slots=True)
class TracingUnavailable(Event):
    """An endpoint for traces is configured and OpenTelemetry is not installed: nothing is traced."""

    LEVEL = logging.WARNING
    error: str
    hint: str


Attributes = Mapping[str, str | int | float | bool]


class Tracing(Protocol):
    """Where finished stages go."""

    enabled: bool

    def start(self) -> str | None:
        """A new trace's parent for a message that brought none, or None if this one is not sampled."""
        ...

    def stage(self, name: str, parent: str | None, start_ns: int, end_ns: int, attributes: Attributes) -> str | None:
        """Record a finished stage (epoch nanoseconds) below `parent`; the traceparent for what follows."""
        ...

    def close(self) -> None:
        """Export what is waiting; at most a few seconds."""
        ...


class NoTracing:
    """Nobody collects: every parent passes unchanged."""

    enabled = False

    def start(self) -> str | None:
        return None

    def stage(self, name: str, parent: str | None, start_ns: int, end_ns: int, attributes: Attributes) -> str | None:
        del name, start_ns, end_ns, attributes
        return parent

    def close(self) -> None:
        return


def open_tracing(service: str, env: Mapping[str, str]) -> Tracing:
    """Tracing by OTLP over HTTP if an endpoint is configured, else none; without the SDK none, said once.

    Raises ConfigError for a `TRACE_RATIO` that is no share.

    `TRACE_RATIO` (0 to 1, default 0.01) is the share of messages without a traceparent that begin a trace;
    a traceparent that a device sent is honoured by its sampled flag.
    """
    if not env.get("OTEL_EXPORTER_OTLP_ENDPOINT") and not env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return NoTracing()
    ratio = _share(env.get("TRACE_RATIO", "0.01"))
    try:
        return OtlpTracing(service, ratio)
    except ImportError as error:
        # Often set for all programs of a machine: no reason not to do this one's work.
        TracingUnavailable(str(error), "install the extra `tracing`, or unset OTEL_EXPORTER_OTLP_ENDPOINT").emit()
        return NoTracing()


def _share(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError([f"TRACE_RATIO: {text!r} is no share from 0 to 1, such as 0.01 for one in a hundred"])
    return ratio


class OtlpTracing:
    """Spans by OpenTelemetry's SDK, exported in the background."""

    enabled = True

    def __init__(self, service: str, ratio: float) -> None:
        # Imported here: the resident agent must not carry exporters that it does not use.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        self._ratio = ratio
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("bv-iot-control-hub")

    def start(self) -> str | None:
        if random.random() >= self._ratio:  # noqa: S311 - sampling, not secrecy
            return None
        return f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"

    def stage(self, name: str, parent: str | None, start_ns: int, end_ns: int, attributes: Attributes) -> str | None:
        from opentelemetry import trace  # noqa: PLC0415

        parent = valid_traceparent(parent)
        if parent is None or not int(parent[-2:], 16) & 1:
            return parent
        _, trace_id, span_id, _ = parent.split("-")
        context = trace.set_span_in_context(
            trace.NonRecordingSpan(
                trace.SpanContext(
                    int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(1)
                )
            )
        )
        span = self._tracer.start_span(name, context, attributes=dict(attributes), start_time=start_ns)
        span.end(end_ns)
        made = span.get_span_context()
        return f"00-{made.trace_id:032x}-{made.span_id:016x}-01"

    def close(self) -> None:
        self._provider.shutdown()
