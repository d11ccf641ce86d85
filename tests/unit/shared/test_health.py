import http.client
import json

import pytest

from shared.health import Beat, Health


@pytest.fixture
def missing():
    return ["kafka is away"]


@pytest.fixture
def server(missing):
    server = Health("127.0.0.1", 0, lambda: list(missing))
    yield server
    server.close()


def get(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_readiness_says_what_is_missing(server, missing):
    status, body = get(server, "/readyz")
    assert (status, json.loads(body)) == (503, {"ready": False, "missing": ["kafka is away"]})
    missing.clear()
    status, body = get(server, "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "missing": []})


def test_health_and_metrics(server):
    assert get(server, "/healthz")[0] == 200
    status, body = get(server, "/metrics")
    assert status == 200
    assert b"python_info" in body


def test_another_path_says_where_to_look(server):
    status, body = get(server, "/")
    assert status == 404
    assert b"/metrics" in body


def test_closing_frees_the_port(missing):
    server = Health("127.0.0.1", 0, lambda: missing)
    server.close()
    again = Health("127.0.0.1", server.port, lambda: missing)
    again.close()


def test_a_program_may_add_pages_of_its_own():
    server = Health("127.0.0.1", 0, list, {"/ledger": lambda: {"rows": 3}})
    try:
        status, body = get(server, "/ledger")
        assert (status, json.loads(body)) == (200, {"rows": 3})
        assert get(server, "/other")[0] == 404
    finally:
        server.close()


def test_silence_is_neither_healthy_nor_ready_and_a_sign_of_life_is():
    beat = Beat(hung_s=60)
    server = Health("127.0.0.1", 0, lambda: ["kafka is away"], beat=beat)
    try:
        assert get(server, "/healthz")[0] == 200
        beat._at_s -= 61
        status, body = get(server, "/healthz")
        assert (status, json.loads(body)) == (503, {"status": "hangs: no sign of life for 61 s"})
        status, body = get(server, "/readyz")
        assert (status, json.loads(body)["missing"]) == (503, ["hangs: no sign of life for 61 s", "kafka is away"])
        beat.stamp()
        assert get(server, "/healthz")[0] == 200
    finally:
        server.close()


def test_what_begins_later_is_not_silent_before():
    beat = Beat(hung_s=0.0, begins_later=True)
    assert beat.hung() == ""
    beat.stamp()
    assert beat.hung() != ""
