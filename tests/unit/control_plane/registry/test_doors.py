"""What stands before every route, as an ASGI application meets it."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from control_plane.registry import doors
from control_plane.registry.doors import Doors, _measured
from control_plane.registry.problem import ProblemRaised

Message = MutableMapping[str, Any]


async def echo(scope: Message, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def ask(
    parts: list[bytes], *, content_type: bytes | None = b"application/json", stall: bool = False, **limits: Any
) -> tuple[int, bytes]:
    waiting = [
        {"type": "http.request", "body": part, "more_body": stall or number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", content_type)] if content_type else []
    await Doors(echo, **limits)({"type": "http", "method": "POST", "headers": headers}, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_body_in_parts_passes_whole() -> None:
    assert await ask([b"{", b"}"]) == (200, b"{}")
    assert await ask([b"x" * 100], body_bytes=100) == (200, b"x" * 100)


async def test_a_body_over_its_limit_is_refused_before_it_ends() -> None:
    status, body = await ask([b"x" * 60, b"x" * 60], body_bytes=100, stall=True)
    assert status == 413
    assert json.loads(body)["type"] == "/problems/too-large"


async def test_a_body_that_does_not_come_is_refused() -> None:
    status, body = await ask([b"{"], stall=True, body_s=0.05)
    assert status == 408
    assert json.loads(body)["type"] == "/problems/too-slow"


@pytest.mark.parametrize("kind", [None, b"application/x-www-form-urlencoded", b"text/plain"])
async def test_a_body_of_another_kind_is_refused_in_words(kind: bytes | None) -> None:
    status, body = await ask([b"{}"], content_type=kind)
    assert status == 415
    assert "Content-Type: application/json" in json.loads(body)["detail"]


async def test_no_body_needs_no_kind() -> None:
    assert await ask([b""], content_type=None) == (200, b"")
    assert await ask([b"{}"], content_type=b"application/json; charset=utf-8") == (200, b"{}")


def _pieces(*messages: Message) -> Any:
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0) if waiting else await asyncio.Future()

    return _measured(receive)


async def test_a_large_body_is_measured_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "LARGE_BYTES", 5)
    piece = {"type": "http.request", "body": b"xxx", "more_body": True}
    receive = _pieces(piece, piece)
    assert await receive() == piece
    with pytest.raises(ProblemRaised) as refused:
        await receive()
    assert refused.value.problem.status == 413


async def test_a_large_body_may_not_stall_but_its_answer_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "LARGE_SILENCE_S", 0.02)
    receive = _pieces({"type": "http.request", "body": b"x", "more_body": True})
    await receive()
    with pytest.raises(ProblemRaised) as refused:
        await receive()
    assert refused.value.problem.status == 408
    receive = _pieces({"type": "http.request", "body": b"x", "more_body": False})
    await receive()
    with pytest.raises(TimeoutError):  # whoever waits for the client to leave waits as long as it stays
        await asyncio.wait_for(receive(), 0.1)


async def test_a_large_route_takes_lines_only() -> None:
    scope = {"type": "http", "method": "POST", "path": "/v1/devices:import", "headers": []}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await Doors(echo)(scope, _pieces(), send)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["type"]) == (415, "/problems/not-lines")
