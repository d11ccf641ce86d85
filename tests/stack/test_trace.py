"""One trace through the stream jobs, as a collector of OpenTelemetry receives it: OTLP over HTTP, on real servers."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from deploy.stack import Stack
from shared.reading import Verdict
from shared.topics import Kafka
from tests.stack.analytics_bench import migrated, read_topic
from tests.stack.hub_process import HubProcess, until
from tests.stack.test_normalizer import Topics
from tests.unit.control_plane.analytics.raw_kit import batched, device, direct, gateway, reading

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

# New ones each time: the topics hold what other tests wrote, traced too.
TRACE, COMMIT = secrets.token_hex(16), secrets.token_hex(8)
OTHER_TRACE, PRODUCE = secrets.token_hex(16), secrets.token_hex(8)
UNSAMPLED = secrets.token_hex(16)


class Span(NamedTuple):
    """What a collector knows of one stage."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began_ns: int
    ended_ns: int
    attributes: str


class Collector:
    """Takes spans on a free port."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                collector.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own word
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            facts = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    made = Span(
                        facts["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        str(span.attributes),
                    )
                    with self._lock:
                        self._spans.append(made)

    def spans(self, trace: str) -> list[Span]:
        with self._lock:
            return [span for span in self._spans if span.trace == trace]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
async def env(stack: Stack, database_url: str, server_dir: Path, collector: Collector) -> dict[str, str]:
    made = await migrated(stack.env(), server_dir, database_url)
    # The exporter's own pace is five seconds; HTTP proxies are not for it.
    return made | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture
async def topics(env: dict[str, str]) -> AsyncIterator[Topics]:
    async with Topics(env["HUB_KAFKA_BOOTSTRAP"]) as made:
        yield made


def by_name(spans: list[Span]) -> dict[str, list[Span]]:
    return {name: [span for span in spans if span.name == name] for name in {span.name for span in spans}}


async def committed(env: dict[str, str], topic: Kafka, name: str, spans: list[Span]) -> Span:
    """The span from which the first record of this device in `topic` goes on, which was sampled."""
    seen = next(seen for seen in await read_topic(env["HUB_KAFKA_BOOTSTRAP"], topic) if seen.key == name)
    (found,) = (span for span in spans if seen.headers["traceparent"] == f"00-{span.trace}-{span.id}-01")
    return found


async def test_a_reading_and_its_anomaly_are_one_trace_from_stage_to_stage(
    env: dict[str, str], collector: Collector, topics: Topics, device_id: Callable[[], str]
) -> None:
    now_ms = time.time_ns() // 1_000_000
    gw, own, solo = device_id(), device_id(), device_id()
    await topics.register(gateway(gw), device(own, gw), device(solo))
    verdict = Verdict(9.0, "temperature", "jump", 20.0)
    traced = reading(own, now_ms, score=verdict, traceparent=f"00-{TRACE}-{COMMIT}-01")
    hushed = reading(own, now_ms + 1, traceparent=f"00-{UNSAMPLED}-{COMMIT}-00")
    jobs = ("normalizer", "detector", "forwarder", "sink")
    with ExitStack() as running:
        processes = [running.enter_context(HubProcess(["analytics", job], env, service=job)) for job in jobs]
        for process in processes:
            await until(process.ready, "it is ready")
        await topics.write(
            batched([traced, hushed], sender=gw, received_ms=now_ms),
            direct({"ts": now_ms, "n": 1}, solo, now_ms, traceparent=f"00-{OTHER_TRACE}-{PRODUCE}-01"),
        )
        # Stored twice: the reading, and the anomaly that the detector made of it.
        await until(lambda: len(by_name(collector.spans(TRACE)).get("store", [])) >= 2, "the trace is at its end")
        await until(lambda: len(collector.spans(OTHER_TRACE)) >= 4, "the direct device's trace is whole")
        await until(lambda: len(collector.spans(TRACE)) >= 5, "the gateway's trace is whole")
        assert [process.stop() for process in processes] == [0] * len(jobs)

    # A job may do a record again before it commits, and each time is a span: what was committed is in the headers.
    stages = by_name(collector.spans(TRACE))
    normalize = await committed(env, Kafka.NORMALIZED, own, stages["normalize"])
    detect = await committed(env, Kafka.ANOMALY, own, stages["detect"])
    assert normalize.parent == COMMIT
    assert {span.parent for name in ("detect", "forward") for span in stages[name]} == {normalize.id}
    assert {span.parent for span in stages["store"]} == {normalize.id, detect.id}
    assert {name: {span.service for span in found} for name, found in stages.items()} == {
        "normalize": {"hub-normalizer"},
        "detect": {"hub-detector"},
        "forward": {"hub-forwarder"},
        "store": {"hub-sink"},
    }
    for span in collector.spans(TRACE):
        assert now_ms * 1_000_000 < span.began_ns <= span.ended_ns < time.time_ns()
        assert not any(name in span.attributes for name in (gw, own, solo))
    others = by_name(collector.spans(OTHER_TRACE))
    normalize = await committed(env, Kafka.NORMALIZED, solo, others["normalize"])
    assert normalize.parent == PRODUCE
    assert {span.parent for name in ("detect", "forward", "store") for span in others[name]} == {normalize.id}
    assert collector.spans(UNSAMPLED) == []
