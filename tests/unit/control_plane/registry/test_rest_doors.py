"""Which doors REST may have, and that both answer from one process, TLS with good versions and ciphers only."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from control_plane.registry.doors import Message, Receive, Scope, Send
from control_plane.registry.pki.ca import Authority
from control_plane.registry.rest_doors import Wanted, open_doors, problems, serve
from shared.config import ConfigError
from shared.tls import client_context

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.mark.parametrize(
    ("url", "bind", "proxy", "certificate", "words"),
    [
        ("http://127.0.0.1:8080", None, False, False, ""),
        ("http://localhost:8080", None, False, False, ""),
        ("http://[::1]:8080", None, False, False, ""),
        ("https://hub.example.org:443", "0.0.0.0:8443", False, True, ""),
        ("http://10.0.0.5:8080", None, False, True, "plain HTTP beyond loopback"),
        ("http://127.0.0.1:8080", "0.0.0.0:8080", False, True, "plain HTTP beyond loopback"),
        ("http://hub.example.org:8080", None, False, True, "plain HTTP beyond loopback"),
        ("http://10.0.0.5:8080", None, True, False, ""),
        ("https://hub.example.org:443", "10.0.0.5:8080", True, False, ""),
        ("https://127.0.0.1:8443", None, False, False, "needs HUB_API_CERT_FILE"),
        ("ftp://127.0.0.1:8443", None, False, True, "is not http"),
        ("http://127.0.0.1", None, False, True, "is not http"),
        ("http://127.0.0.1:x", None, False, True, "is not http"),
    ],
)
def test_plain_stays_on_loopback(url: str, bind: str | None, proxy: bool, certificate: bool, words: str) -> None:
    found = problems([Wanted("HUB_API_URL", url, bind)], behind_proxy=proxy, certificate=certificate)
    assert len(found) == (1 if words else 0)
    assert all(words in problem for problem in found)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    del receive
    start: Message = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"x-scheme", scope["scheme"].encode())],
    }
    await send(start)
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    authority = Authority.create(NOW)
    pair = authority.issue_server(("localhost", "127.0.0.1"), NOW)
    for name, text in (("ca.pem", authority.pem), ("api.crt", pair.certificate), ("api.key", str(pair.key))):
        (tmp_path / name).write_text(text)
    return tmp_path


def offering(cipher: str, files: Path) -> ssl.SSLContext:
    """A client of TLS 1.2 that has one cipher."""
    context = client_context(files / "ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    return context


async def test_both_doors_answer_from_one_process(files: Path) -> None:
    wanted = [Wanted("a", "http://127.0.0.1:0"), Wanted("b", "https://127.0.0.1:0")]
    doors = open_doors(wanted, files / "api.crt", files / "api.key", behind_proxy=False)
    plain, secure = (door.listener.getsockname()[1] for door in doors)
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(hello, doors, stopping))
    async with httpx.AsyncClient(verify=client_context(files / "ca.pem")) as client:
        assert (await client.get(f"http://127.0.0.1:{plain}/")).headers["x-scheme"] == "http"
        assert (await client.get(f"https://127.0.0.1:{secure}/")).headers["x-scheme"] == "https"
        with pytest.raises(httpx.TransportError):  # plain at the TLS door
            await client.get(f"http://127.0.0.1:{secure}/")
        with pytest.raises(httpx.ConnectError):  # TLS at the plain door
            await client.get(f"https://127.0.0.1:{plain}/")
    async with httpx.AsyncClient(verify=offering("ECDHE-ECDSA-AES128-GCM-SHA256", files)) as client:
        assert (await client.get(f"https://127.0.0.1:{secure}/")).status_code == 200
    async with httpx.AsyncClient(verify=offering("ECDHE-ECDSA-AES128-SHA256", files)) as client:
        with pytest.raises(httpx.ConnectError):  # encrypted, but not authenticated with it
            await client.get(f"https://127.0.0.1:{secure}/")
    stopping.set()
    await serving
    for door in doors:
        door.listener.close()


def test_a_port_in_use_and_a_bad_certificate_are_mistakes_of_the_configuration(files: Path) -> None:
    first = open_doors([Wanted("a", "http://127.0.0.1:0")], None, None, behind_proxy=False)
    port = first[0].listener.getsockname()[1]
    with pytest.raises(ConfigError, match="cannot be listened on"):
        open_doors([Wanted("HUB_API_URL", f"http://127.0.0.1:{port}")], None, None, behind_proxy=False)
    with pytest.raises(ConfigError, match="cannot be used"):
        open_doors([Wanted("b", "https://127.0.0.1:0")], files / "ca.pem", files / "api.key", behind_proxy=False)
    first[0].listener.close()
