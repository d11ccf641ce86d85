"""A TLS server before a plain one, for tests: it passes on what comes, and can be told to swallow an answer."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Front:
    """`heard`: what clients sent, by connection. `swallow`: so many answers are lost once the server gave them."""

    port: int
    heard: list[bytes] = field(default_factory=list)
    swallow: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@contextmanager
def tls_front(certificate: Path, key: Path, behind: tuple[str, int] | None) -> Iterator[Front]:
    """Until the block's end. Each connection carries one request; without `behind` nothing is ever answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    front = Front(listener.getsockname()[1])
    thread = threading.Thread(target=_serve, args=(listener, context, front, behind), daemon=True)
    thread.start()
    try:
        yield front
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _serve(listener: socket.socket, context: ssl.SSLContext, front: Front, behind: Any) -> None:
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        try:
            with raw, context.wrap_socket(raw, server_side=True) as client:
                client.settimeout(30)
                _one(client, front, behind)
        except OSError:
            continue


def _one(client: ssl.SSLSocket, front: Front, behind: Any) -> None:
    request = b""
    while not _whole(request):
        part = client.recv(65_536)
        if not part:
            break
        request += part
    front.heard.append(request)
    if behind is None or not request:
        return
    with socket.create_connection(behind, 30) as server:
        server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = b""
        while part := server.recv(65_536):
            answer += part
    if b"/v1/enroll" in request and front.swallow:
        front.swallow -= 1
        return
    client.sendall(answer)
    client.unwrap()


def _whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(lengths[0] if lengths else 0)
