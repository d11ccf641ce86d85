"""The door against a real TLS server of a CA that the test made."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import hub_door
from edge_agent.hub_door import ClockWrong, Door, Untrusted
from shared.errors import Permanent, Transient
from tests.ca_kit import TestCa
from tests.tls_front import Front, tls_front

CA = TestCa.make()


class Hub(http.server.BaseHTTPRequestHandler):
    """Shows a CA to everybody and agrees to everything."""

    shown = CA.pem

    def answer(self) -> None:
        data = self.shown.encode() if self.path == "/v1/ca" else b'{"fine": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def plain() -> Iterator[tuple[str, int]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def front(plain: tuple[str, int], tmp_path: Path) -> Iterator[Front]:
    with tls_front(*CA.server(tmp_path), plain) as running:
        yield running


def test_a_hub_of_the_tokens_ca_is_believed(front: Front) -> None:
    door = Door(front.url)
    pem = door.pinned_ca(CA.sha256)
    assert pem.strip() == CA.pem.strip()
    assert door.post("/v1/enroll", {"token": "T"}, pem) == (200, {"fine": True})


def test_a_ca_further_down_the_file_is_found(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "shown", TestCa.make().pem + "rubbish" + CA.pem)
    assert Door(front.url).pinned_ca(CA.sha256).strip() == CA.pem.strip()


@pytest.mark.parametrize("shown", [TestCa.make().pem, "", "-----END CERTIFICATE-----", "x" * 1000], ids=range(4))
def test_another_ca_is_not_believed(front: Front, monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    monkeypatch.setattr(Hub, "shown", shown)
    with pytest.raises(Untrusted, match="SHA-256"):
        Door(front.url).pinned_ca(CA.sha256)


def test_a_liar_that_shows_the_right_ca_and_has_no_certificate_of_it_hears_no_token(
    plain: tuple[str, int], tmp_path: Path
) -> None:
    with tls_front(*TestCa.make().server(tmp_path), plain) as liar:
        door = Door(liar.url)
        pem = door.pinned_ca(CA.sha256)
        with pytest.raises(Untrusted):
            door.post("/v1/enroll", {"token": "SECRET"}, pem)
    assert not any(b"SECRET" in heard for heard in liar.heard)


def test_a_certificate_of_another_name_hears_no_token(front: Front) -> None:
    door = Door(front.url.replace("127.0.0.1", "127.0.0.2"))
    with pytest.raises((Untrusted, Transient)):
        door.post("/v1/enroll", {"token": "SECRET"}, CA.pem)
    assert not any(b"SECRET" in heard for heard in front.heard)


@pytest.mark.parametrize(("now_s", "said"), [(0.0, "was never set"), (4_000_000_000.0, "says 2096")])
def test_a_clock_that_is_wrong_is_named(
    plain: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now_s: float, said: str
) -> None:
    monkeypatch.setattr(hub_door.time, "time", lambda: now_s)
    with tls_front(*CA.server(tmp_path, expired=True), plain) as front, pytest.raises(ClockWrong, match=said):
        Door(front.url).post("/v1/enroll", {}, CA.pem)


def test_a_hub_that_is_not_there() -> None:
    with pytest.raises(Transient, match="does not answer"):
        Door("https://127.0.0.1:9").pinned_ca("00" * 32)


@pytest.mark.parametrize(
    "url", ["http://hub:1", "hub", "https://", "https://u:p@hub:1", "https://hub:0", "https://["]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(Permanent, match="https"):
        Door(url)
