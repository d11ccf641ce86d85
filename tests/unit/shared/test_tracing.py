import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from shared.config import ConfigError
from shared.tracing import NoTracing, OtlpTracing, open_tracing

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
UNSAMPLED = PARENT[:-1] + "0"


@pytest.fixture
def collector():
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_without_an_endpoint_a_parent_passes_unchanged():
    tracing = open_tracing("x", {})
    assert isinstance(tracing, NoTracing)
    assert tracing.start() is None
    assert tracing.stage("s", PARENT, 0, 1, {}) == PARENT
    tracing.close()


def test_without_an_endpoint_opentelemetry_is_not_loaded():
    code = (
        "from shared.tracing import open_tracing; open_tracing('x', {});"
        "import sys; print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_stage_is_exported_below_its_parent(collector, monkeypatch):
    endpoint, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    tracing = open_tracing("ingest", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "TRACE_RATIO": "1"})
    assert isinstance(tracing, OtlpTracing)
    child = tracing.stage("ingest.produce", PARENT, 1_000, 2_000, {"bytes": 3})
    assert child is not None
    assert child.split("-")[1] == "a" * 32
    assert child.split("-")[2] != "b" * 16
    tracing.close()
    body = b"".join(received)
    assert b"ingest.produce" in body
    assert bytes.fromhex("a" * 32) in body
    assert bytes.fromhex("b" * 16) in body


def test_what_is_not_sampled_makes_no_span(collector, monkeypatch):
    endpoint, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    tracing = OtlpTracing("ingest", 0.0)
    assert tracing.start() is None
    assert tracing.stage("s", UNSAMPLED, 0, 1, {}) == UNSAMPLED
    assert tracing.stage("s", None, 0, 1, {}) is None
    assert tracing.stage("s", "nonsense", 0, 1, {}) is None
    tracing.close()
    assert received == []


@pytest.mark.parametrize("ratio", ["1%", "", "-0.1", "1.5", "nan"])
def test_a_ratio_that_is_no_share_is_a_configuration_error(ratio):
    with pytest.raises(ConfigError, match="TRACE_RATIO"):
        open_tracing("x", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "TRACE_RATIO": ratio})


def test_an_endpoint_without_the_sdk_is_said_and_stops_nothing(monkeypatch, caplog):
    """A gateway whose environment named one did not start."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with caplog.at_level("WARNING", "events"):
        tracing = open_tracing("x", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert isinstance(tracing, NoTracing)
    (record,) = caplog.records
    assert record.msg == "tracing_unavailable"
    assert "tracing" in record.event_fields["hint"]
