"""One direct device that floods: throttled, told so, quarantined by the policy, and released by an operator.

It is none of the fleet, so nothing that it sends is in the demo's count, and nobody else may notice it.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import msgspec

from deploy.demo.show import Progress
from deploy.site.installation import Installation
from deploy.site.registry import Identity, Registry
from deploy.site.topics import consumer, record_of
from shared.config import read_secret
from shared.errors import Permanent, Reason
from shared.topics import Kafka

MESSAGES_PER_S = 5.0
SIGNS = 100
"""So many refused messages in a minute are a flood in this demo; the default policy is more patient."""
_POLICY_S = 6.0
_MOST_MESSAGES = 5_000
_PATIENCE_S = 30.0
_QUIET_S = 2.0


async def flood(site: Installation, name: str, progress: Progress) -> dict[str, int]:
    """The device's whole story. `quarantined`: times; `refused`: its messages refused as throttled.

    Raises Permanent where the story stops short.
    """
    env = site.stack.env()
    async with httpx.AsyncClient(
        base_url=env["HUB_API_URL"],
        headers={"Authorization": f"Bearer {read_secret(Path(env['HUB_ADMIN_TOKEN_FILE']))}"},
        timeout=30,
    ) as rest:
        device = await asyncio.to_thread(_registered, env, name)
        await _limited(rest, name)
        await asyncio.sleep(_POLICY_S)  # within so long the policy is obeyed
        async with consumer(env["HUB_KAFKA_BOOTSTRAP"], (Kafka.REJECTED,), "latest") as reader:
            sent, notices = await _send_all(site.stack.mosquitto.port, device, name)
            shown = await _quarantine_of(rest, name)
            refused = await _refused(reader, name)
        progress.say(
            f"a device flooded: {refused} of its {sent} messages refused, {notices} notice(s), then quarantined "
            f"({shown['reason']}) and cut off"
        )
        answer = await rest.post(f"/v1/devices/{name}:release", json={"reason": "end of its part in the demo"})
        if answer.is_error:
            raise Permanent(f"releasing the flooding device: {answer.status_code} {answer.text}")
        async with _client(site.stack.mosquitto.port, device, name) as client:
            await client.publish(f"devices/{name}/telemetry", _reading(sent), qos=1)
        progress.say("it was released, and may speak again")
    return {"quarantined": 1, "refused": refused}


def failures(found: Mapping[str, int]) -> list[str]:
    """Why the flood did not go as it should, a sentence each."""
    said = []
    if found.get("quarantined") != 1:
        said.append("the flooding device was not quarantined")
    if not found.get("refused"):
        said.append("nothing of the flooding device was refused")
    return said


def _registered(env: Mapping[str, str], name: str) -> Identity:
    with Registry(env) as registry:
        return registry.add(name, "thermometer")


async def _limited(rest: httpx.AsyncClient, name: str) -> None:
    """Limits of its own, and a policy that takes little for a flood."""
    shown = await rest.get(f"/v1/devices/{name}")
    limits = {"limits": {"messages_per_s": MESSAGES_PER_S}}
    done = await rest.patch(f"/v1/devices/{name}", json=limits, headers={"If-Match": shown.headers["etag"]})
    policy = (await rest.get("/v1/policies/quarantine")).json()
    value = policy["value"]
    value["rules"]["flood"] |= {"count": SIGNS, "window_s": 60, "for_s": 600, "enabled": True}
    headers = {"If-Match": f'"{policy["version"]}"'}
    also = await rest.put("/v1/policies/quarantine", json=value, headers=headers)
    for answer in (done, also):
        if answer.is_error:
            raise Permanent(f"setting limits for the flood: {answer.status_code} {answer.text}")


async def _send_all(port: int, device: Identity, name: str) -> tuple[int, int]:
    """Send until the session is closed: how many were sent, and how many notices came."""
    sent = 0
    notices: list[Any] = []
    try:
        async with _client(port, device, name) as client, asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as tasks:
            await client.subscribe(f"devices/{name}/notices", qos=1)
            tasks.create_task(_listen(client, notices))
            while sent < _MOST_MESSAGES:
                await client.publish(f"devices/{name}/telemetry", _reading(sent), qos=1)
                sent += 1
            raise Permanent(f"{sent} messages of a flood, and nobody cut it off")
    except* aiomqtt.MqttError:
        pass
    except* TimeoutError:
        raise Permanent(f"{sent} messages of a flood in {_PATIENCE_S:.0f} s, and nobody cut it off") from None
    return sent, len(notices)


async def _listen(client: aiomqtt.Client, notices: list[Any]) -> None:
    async for message in client.messages:
        assert isinstance(message.payload, bytes)
        notices.append(msgspec.json.decode(message.payload))


def _client(port: int, device: Identity, name: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier=name,
        username=device.key_id,
        password=str(device.secret),
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=10,
    )


def _reading(number: int) -> bytes:
    return msgspec.json.encode({"ts": time.time_ns() // 1_000_000, "temperature": 21.5, "n": number})


async def _quarantine_of(rest: httpx.AsyncClient, name: str) -> Any:
    answer = await rest.get("/v1/quarantines", params={"device_id": name})
    found = answer.json()["quarantines"] if answer.is_success else []
    if len(found) != 1:
        raise Permanent(f"the flooding device's session ended, and it stands in {len(found)} quarantines")
    return found[0]


async def _refused(reader: Any, name: str) -> int:
    """Of its messages those refused as throttled; read until no more come."""
    refused = 0
    while batches := await reader.getmany(timeout_ms=int(_QUIET_S * 1_000)):
        for records in batches.values():
            for item in records:
                record = record_of(item)
                refused += record.key == name and record.json()["reason"] == Reason.THROTTLED
    return refused
