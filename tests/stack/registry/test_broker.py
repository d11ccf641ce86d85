"""Commands to a real broker: deadlines, late answers, pace, and an address that is none."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from control_plane.registry import dynsec
from control_plane.registry.broker import Broker, client, service_secret
from deploy.stack.mosquitto import Mosquitto
from shared.config import ConfigError
from shared.errors import Transient
from tests.stack.registry.conftest import Parts, until_async


async def test_a_broker_that_hangs_is_given_up_and_its_late_answer_belongs_to_nobody(
    parts: Parts, broker_server: Mosquitto
) -> None:
    pid = broker_server.pid
    assert pid is not None
    parts.broker._deadline_s = 0.5
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(Transient, match="did not answer"):
            await parts.broker.command(dynsec.create_client("k:late", "s", "dev"))
        assert time.monotonic() - started < 5
    finally:
        os.kill(pid, signal.SIGCONT)
    parts.broker._deadline_s = 10
    answer = await parts.broker.command(dynsec.get_client("k:late"))
    assert answer.command == "getClient"  # not the late answer to createClient, which was done all the same
    assert answer.error is None


async def test_waiting_commands_share_no_answer(parts: Parts) -> None:
    names = [f"k:{number}" for number in range(12)]
    await asyncio.gather(*(parts.broker.command(dynsec.create_client(name, "s", "dev")) for name in names))
    answers = await asyncio.gather(*(parts.broker.command(dynsec.get_client(name)) for name in names))
    assert [name in bytes(answer.data).decode() for name, answer in zip(names, answers, strict=True)] == [True] * 12


async def test_commands_take_a_fifth_of_the_brokers_time(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    busy: list[float] = []
    real = parts.broker._exchange

    async def measured(command: dynsec.Command) -> Any:
        started = time.monotonic()
        try:
            return await real(command)
        finally:
            busy.append(time.monotonic() - started)

    monkeypatch.setattr(parts.broker, "_exchange", measured)
    started = time.monotonic()
    for _ in range(6):
        await parts.broker.command(dynsec.list_clients(1, 0))
    pauses = time.monotonic() - started - sum(busy)
    assert pauses >= 4 * min(busy) * (len(busy) - 1) * 0.9 or min(busy) > 0.1


async def test_the_connection_comes_back_by_itself(parts: Parts, broker_server: Mosquitto) -> None:
    await asyncio.to_thread(broker_server.kill)
    await until_async(lambda: not parts.broker.connected, "the loss is noticed")
    await asyncio.to_thread(broker_server.start)
    parts.broker._deadline_s = 20
    assert (await parts.broker.command(dynsec.list_clients(1, 0))).error is None


async def test_two_connections_do_not_throw_each_other_out(parts: Parts, environment: dict[str, str]) -> None:
    secret = service_secret(Path(environment["HUB_SERVICE_SECRETS_FILE"]), "_registry")
    other = Broker(environment["HUB_MQTT_URL"], secret, deadline_s=5, on_connect=lambda: None)
    stopping = asyncio.Event()
    task = asyncio.create_task(other.serve(stopping))
    try:
        await until_async(lambda: other.connected, "the other is connected")
        for broker in (parts.broker, other, parts.broker):
            assert (await broker.command(dynsec.list_clients(1, 0))).error is None
    finally:
        stopping.set()
        await task


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1", "mqtt://", "mqtt://h:port", "127.0.0.1:1883",
        "mqtt://u:hidden@h:1", "http://u:hidden@h", "mqtt://u:hidden@h:port",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="HUB_MQTT_URL") as error:
        client(url, "_registry", "s", "_registry-x")
    assert "hidden" not in str(error.value)
