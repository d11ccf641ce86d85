"""Asking Kafka for its brokers, against answers written by hand. The real one: tests/stack/test_stack.py."""

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from deploy.stack import kafka


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


def _answer(server: socket.socket, *parts: bytes) -> bytes:
    connection, _ = server.accept()
    with connection:
        asked = connection.recv(1024)
        for part in parts:
            connection.sendall(part)
    return asked


def _ask(server: socket.socket, *parts: bytes) -> tuple[Future[int], Future[bytes]]:
    with ThreadPoolExecutor(2) as pool:
        heard = pool.submit(_answer, server, *parts)
        said = pool.submit(kafka._brokers, server.getsockname()[1])
    return said, heard


def test_it_asks_for_metadata_without_topics_and_counts_brokers(peer: socket.socket) -> None:
    answer = struct.pack(">iii", 100, 7, 2)
    said, heard = _ask(peer, answer[:5], answer[5:])  # also when it comes in pieces
    assert said.result() == 2
    asked = heard.result()
    length, key, version, correlation, name = struct.unpack(">ihhih", asked[:14])
    assert (length, key, version, correlation) == (len(asked) - 4, 3, 1, 7)
    assert asked[14 : 14 + name] == b"stack"
    assert asked[14 + name :] == struct.pack(">i", 0)


def test_one_that_closes_is_not_ready(peer: socket.socket) -> None:
    said, _ = _ask(peer, b"\0")
    with pytest.raises(ConnectionError):
        said.result()


def test_nobody_there_is_not_ready(peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    peer.close()
    with pytest.raises(OSError, match="refused"):
        kafka._brokers(port)
