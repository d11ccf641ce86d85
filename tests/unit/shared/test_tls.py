"""What a failed handshake is called, and that only the pinned CA is believed. Over TLS on loopback."""

import datetime as dt
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane.registry.pki.ca import Authority, Pair
from shared import tls
from shared.errors import Permanent

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text(authority.pem)
    return path


@contextmanager
def serving(pair: Pair | None, folder: Path) -> Iterator[int]:
    """A server of one connection with this certificate; None: no TLS there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if pair is not None:
            (folder / "server.pem").write_text(pair.certificate + pair.key)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                if pair is None:
                    connection.sendall(b"no TLS here\n")
                    return
                try:
                    tls.server_context(folder / "server.pem").wrap_socket(connection, server_side=True).close()
                except OSError:
                    return

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def handshake(context: ssl.SSLContext, port: int, name: str) -> str:
    """The TLS version agreed on. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        wrapped = context.wrap_socket(plain, server_hostname=name)
        with wrapped:
            return wrapped.version() or ""


def test_the_pinned_ca_is_believed(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    with serving(authority.issue_server(("localhost",), NOW), tmp_path) as port:
        assert handshake(tls.client_context(ca_file), port, "localhost") == "TLSv1.3"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("other CA", "a CA that is not ours"),
        ("system's CAs", "a CA that is not ours"),
        ("expired", "has expired"),
        ("not yet", "not valid yet by this machine's clock"),
        ("other name", "another address"),
        ("outside the CA's names", "may not vouch"),
        ("plain", "no TLS is spoken there"),
    ],
)
def test_what_is_wrong_is_said(authority: Authority, ca_file: Path, tmp_path: Path, case: str, words: str) -> None:
    context, pair, name = tls.client_context(ca_file), authority.issue_server(("localhost",), NOW), "localhost"
    match case:
        case "other CA":
            pair = Authority.create(NOW).issue_server(("localhost",), NOW)
        case "system's CAs":
            context = tls.client_context(None)
        case "expired":
            pair = authority.issue_server(("localhost",), NOW - 3 * DAY, DAY)
        case "not yet":
            pair = authority.issue_server(("localhost",), NOW + 3 * DAY)
        case "other name":
            name = "127.0.0.1"
        case "outside the CA's names":
            pair, name = authority.issue_server(("hub.example.org",), NOW), "hub.example.org"
    with serving(None if case == "plain" else pair, tmp_path) as port, pytest.raises(OSError) as caught:
        handshake(context, port, name)
    outer = RuntimeError("wrapped")
    outer.__cause__ = caught.value
    found = tls.trouble(outer)
    assert found is not None
    assert words in found[0]
    assert found[1]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(authority: Authority, tmp_path: Path, version: ssl.TLSVersion) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = version
    pair = authority.issue_server(("localhost",), NOW)
    with serving(pair, tmp_path) as port, pytest.raises(ssl.SSLError):
        handshake(old, port, "localhost")


def test_what_is_no_tls_trouble_is_none() -> None:
    assert tls.trouble(ConnectionRefusedError()) is None
    assert tls.trouble(None) is None


def test_files_that_are_not_good_are_named(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    pair, other = authority.issue_server(("localhost",), NOW), authority.issue_server(("localhost",), NOW)
    (tmp_path / "cert.pem").write_text(pair.certificate)
    (tmp_path / "key.pem").write_text(str(pair.key))
    (tmp_path / "other.pem").write_text(str(other.key))
    (tmp_path / "none.pem").write_text("none")
    tls.client_context(ca_file, tmp_path / "cert.pem", tmp_path / "key.pem")
    for ca, cert, key, words in (
        (tmp_path / "missing.pem", None, None, "missing.pem cannot be used: No such file"),
        (tmp_path / "none.pem", None, None, "none.pem cannot be used"),
        (ca_file, tmp_path / "cert.pem", tmp_path / "other.pem", "no pair"),
        (ca_file, tmp_path / "cert.pem", None, "cannot be used"),
        (ca_file, tmp_path / "gone.pem", None, "No such file"),
    ):
        with pytest.raises(Permanent, match=words) as caught:
            tls.client_context(ca, cert, key)
        assert "PRIVATE" not in str(caught.value)
