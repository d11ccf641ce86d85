"""`hub api` as a process, from the outside: what a new user does, and what happens when a server is away."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from control_plane.registry.registrar import NO_AUDIENCE
from deploy.stack import Stack, host
from deploy.stack.mosquitto import SERVICES, Mosquitto
from shared.device import decode_view
from shared.topics import Kafka
from tests.stack.hub_process import HubProcess
from tests.stack.registry.conftest import (
    NOT_AUTHORIZED,
    Api,
    connect_code,
    read_all,
    read_records,
    until,
    until_async,
)


def port(api: Api) -> int:
    return int(api.env["HUB_MQTT_URL"].rpartition(":")[2])


def publish(api: Api, client_id: str, api_key: str, topic: str, message: str) -> str:
    """What `mosquitto_pub` says of one QoS 1 publish."""
    key_id, _, secret = api_key.partition(".")
    options = f"-V 5 -p {port(api)} -i {client_id} -u {key_id} -P {secret} -t {topic} -q 1 -d".split()
    done = subprocess.run(
        ["mosquitto_pub", *options, "-m", message],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.stdout + done.stderr


@pytest.fixture
def api_and_ingest(
    environment: dict[str, str], stack: Stack, database_url: str, tmp_path: Path
) -> Iterator[tuple[Api, HubProcess]]:
    """Both started at once on a fresh hub, as `hub serve` does; ready."""
    stack.postgres.psql("DELETE FROM ingest_slots", database_url.rpartition("/")[2])
    own = tmp_path / "ingest"
    own.mkdir()
    api = Api(environment)
    try:
        with HubProcess(["ingest"], environment | {"HUB_DATA_DIR": str(own)}, service="ingest") as ingest:
            api.start()
            yield api, ingest
    finally:
        api.close()


async def test_a_new_users_way(api_and_ingest: tuple[Api, HubProcess], device_id: Callable[[], str]) -> None:
    """Register, publish by hand; wrong keys, foreign topics and unknown devices are refused and nowhere in Kafka."""
    api, ingest = api_and_ingest
    mine, other, nobody = device_id(), device_id(), device_id()
    keys = {name: api.add(name).json()["api_key"] for name in (mine, other)}

    def tries() -> list[str]:
        return [
            publish(api, mine, keys[mine][:-1] + "_", f"devices/{mine}/telemetry", f"{mine} wrong secret"),
            publish(api, mine, keys[other], f"devices/{mine}/telemetry", f"{mine} another's key"),
            publish(api, other, keys[mine], f"devices/{other}/telemetry", f"{mine} another's id"),
            publish(api, nobody, f"k:{nobody}.secret", f"devices/{nobody}/telemetry", f"{mine} unknown"),
            publish(api, mine, keys[mine], f"devices/{other}/telemetry", f"{mine} foreign topic"),
            publish(api, mine, keys[mine], f"devices/{mine}/telemetry", f"{mine} good"),
        ]

    said = await asyncio.to_thread(tries)
    assert all("Not authorized" in words for words in said[:5]), said
    assert [f"CONNACK ({NOT_AUTHORIZED})" in words for words in said] == [True] * 4 + [False] * 2
    assert f"RC:{NOT_AUTHORIZED}" in said[4]
    assert "RC:0" in said[5]

    async def in_raw() -> list[tuple[bytes, bytes]]:
        records = await read_all(api.env["HUB_KAFKA_BOOTSTRAP"], Kafka.RAW)
        return [(record.key, record.value) for record in records if mine.encode() in (record.value or b"")]

    await until_async(in_raw, "the good one is in raw")
    # What was sent before it came before it, and all that came is written.
    await until_async(lambda: ingest.metric("telemetry_ingest_unacknowledged") == 0, "ingest is done")
    assert await in_raw() == [(mine.encode(), f"{mine} good".encode())]
    assert ingest.metric("telemetry_ingest_received_total") == 1


def test_nobody_gets_a_key_before_ingest_has_had_its_session(
    environment: dict[str, str], stack: Stack, database_url: str
) -> None:
    """On a fresh broker a device's first messages would be acknowledged with "no subscriber", and be gone."""
    database = database_url.rpartition("/")[2]
    stack.postgres.psql("UPDATE ingest_slots SET subscribed_at = NULL", database)
    api = Api(environment)
    try:
        api.start(ready=False)
        missing = until(lambda: api.missing() == [NO_AUDIENCE] and api.missing(), "all but ingest is there")
        refused = api.add("dev")
        assert (refused.status_code, missing[0] in refused.json()["detail"]) == (503, True)
        assert api.rest.get("/v1/devices/dev").status_code == 404
        stack.postgres.psql("UPDATE ingest_slots SET subscribed_at = now()", database)
        assert api.add("dev").status_code == 201
        until(api.is_ready, "ready")
    finally:
        api.close()


async def test_a_use_is_noted_and_from_then_on_the_secret_is_shown_no_more(api: Api) -> None:
    first = api.add("dev", key="once")
    assert first.status_code == 201
    assert api.rest.get("/v1/devices/dev").json()["keys"][0]["last_used_at"] is None
    assert await connect_code(port(api), "dev", first.json()["api_key"]) == 0
    await until_async(
        lambda: api.rest.get("/v1/devices/dev").json()["keys"][0]["last_used_at"], "the use is noted", within_s=10
    )
    again = api.add("dev", key="once")
    assert (again.status_code, again.json()["api_key"]) == (200, None)
    changed = api.add("dev", key="once", type="other")
    assert (changed.status_code, changed.json()["type"]) == (422, "/problems/idempotency-key-reused")


def test_twenty_repeats_at_once_are_all_answered(api: Api) -> None:
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: api.add("dev", key="once"), range(20)))
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    assert len(api.rest.get("/v1/devices").json()["devices"]) == 1


def test_conflicts_and_gateways(api: Api) -> None:
    assert api.add("gw", kind="gateway").status_code == 201
    assert api.add("dev", gateway_id="gw", labels={"site": "x"}).json()["gateway_id"] == "gw"
    assert api.add("dev").json()["type"] == "/problems/id-taken"
    assert api.add("dev2", serial="SN-dev").json()["type"] == "/problems/serial-taken"
    assert api.add("dev3", gateway_id="dev").json()["errors"][0]["pointer"] == "/gateway_id"
    listed = api.rest.get("/v1/devices", params={"gateway_id": "gw"}).json()["devices"]
    assert [item["id"] for item in listed] == ["dev"]
    assert api.rest.post("/v1/devices/dev:assign", json={"gateway_id": None}).json()["gateway_id"] is None
    assert api.rest.get("/v1/devices", params={"gateway_id": "gw"}).json()["devices"] == []
    assert api.rest.put("/v1/types/thermometer", json={"metrics": {"t": {"min": 1}}}).json()["metrics"] == {
        "t": {"min": 1.0}
    }


def records(api: Api, topic: Kafka, device: str) -> list[Any]:
    """All records of one device in a topic, as a `read_committed` reader sees them now."""
    return asyncio.run(read_records(api.env["HUB_KAFKA_BOOTSTRAP"], topic, device))


def test_the_registry_topic_tells_each_version_with_its_envelope(api: Api, device_id: Any) -> None:
    device, gateway = device_id(), device_id()
    api.add(gateway, kind="gateway")
    api.add(device, gateway_id=gateway)
    api.rest.post(f"/v1/devices/{device}:assign", json={"gateway_id": None})
    until(lambda: api.metric("registry_relayed_records_total") == 6, "all is relayed")
    found = records(api, Kafka.REGISTRY, device)
    views = [decode_view(record.value) for record in found]
    assert [view.version for view in views] == [1, 2]
    assert views[0].gateways[0].gateway_id == gateway
    assert views[0].owned_by(gateway, int(time.time() * 1_000))
    assert views[1].gateways[0].until_ms is not None
    headers = dict(found[1].headers)
    assert headers["ce_id"] == f"{device}:2".encode()
    assert headers["ce_type"] == b"iot.device.registry.v1"
    assert headers["ce_dataschema"] == b"/schemas/iot.device.registry.v1.json"
    assert headers["ce_subject"] == device.encode()
    changes = [json.loads(record.value)["change"] for record in records(api, Kafka.LIFECYCLE, device)]
    assert changes == ["registered", "assigned"]


def test_from_the_answer_to_the_topic_in_a_moment(api: Api, device_id: Any) -> None:
    async def measure() -> list[float]:
        consumer = AIOKafkaConsumer(
            Kafka.REGISTRY, bootstrap_servers=api.env["HUB_KAFKA_BOOTSTRAP"], isolation_level="read_committed"
        )
        await consumer.start()
        await consumer.seek_to_end()
        delays = []
        try:
            for _ in range(9):
                device = device_id()
                response = await asyncio.to_thread(api.add, device)
                answered = time.monotonic()
                assert response.status_code == 201
                async with asyncio.timeout(20):
                    while (await consumer.getone()).key != device.encode():
                        pass
                delays.append(time.monotonic() - answered)
        finally:
            await consumer.stop()
        return sorted(delays)

    delays = asyncio.run(measure())
    # By polling alone it would be half a second in the mean; the bound leaves room for a busy machine.
    assert delays[len(delays) // 2] < 0.3, delays


def test_the_broker_away_is_503_and_nothing_is_registered(api: Api, broker_server: Mosquitto) -> None:
    broker_server.kill()
    refused = api.add("dev")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert api.rest.get("/v1/devices/dev").status_code == 404
    until(lambda: api.rest.get("/readyz").status_code == 503, "not ready")
    broker_server.start()
    until(api.is_ready, "ready again")
    again = api.add("dev")
    assert again.status_code == 201
    assert asyncio.run(connect_code(port(api), "dev", again.json()["api_key"])) == 0


def test_a_broker_killed_right_after_the_answer_still_holds_the_key(api: Api, broker_server: Mosquitto) -> None:
    key = api.add("dev").json()["api_key"]
    broker_server.kill()
    broker_server.start()
    assert asyncio.run(connect_code(port(api), "dev", key)) == 0


def test_postgres_away_is_503_and_it_recovers_by_itself(api: Api, stack: Stack) -> None:
    stack.postgres.kill()
    try:
        assert api.add("dev").status_code == 503
        assert api.rest.get("/v1/devices").status_code == 503
        until(lambda: api.rest.get("/readyz").status_code == 503, "not ready")
        assert api.rest.get("/healthz").status_code == 200
    finally:
        stack.postgres.start()
    until(api.is_ready, "ready again")
    assert api.add("dev").status_code == 201
    until(lambda: api.metric("registry_outbox_depth") == 0, "the leader relays again")


def test_kafka_away_costs_nothing_but_time(api: Api, stack: Stack, device_id: Any) -> None:
    devices = [device_id() for _ in range(3)]
    stack.kafka.kill()
    try:
        assert [api.add(device).status_code for device in devices] == [201] * 3
        api.rest.post(f"/v1/devices/{devices[0]}:assign", json={"gateway_id": None})
        until(lambda: api.metric("registry_outbox_depth") == 6, "it waits in the outbox")
    finally:
        stack.kafka.start()
    until(lambda: api.metric("registry_outbox_depth") == 0, "it is relayed", within_s=60)
    for device in devices:
        versions = [decode_view(record.value).version for record in records(api, Kafka.REGISTRY, device)]
        assert versions == [1]


def test_sigkill_of_the_api_and_a_new_one(api: Api) -> None:
    key = api.add("dev").json()["api_key"]
    api.stop(signal.SIGKILL)
    api.start()
    assert asyncio.run(connect_code(port(api), "dev", key)) == 0
    until(lambda: len(api.events("leadership_won")) == 2, "the new one leads")
    assert api.add("dev2").status_code == 201
    until(lambda: api.metric("registry_outbox_depth") == 0, "all is relayed")
    assert api.stop() == 0


def test_two_apis_and_one_leader(api: Api, environment: dict[str, str]) -> None:
    other = Api(environment | {"HUB_API_URL": f"http://127.0.0.1:{host.free_port()}"})
    other.log = other.log.with_name("other.log")
    try:
        other.start()
        assert api.add("a").status_code == other.add("b").status_code == 201
        assert (len(api.events("leadership_won")), len(other.events("leadership_won"))) == (1, 0)
        api.stop(signal.SIGKILL)
        assert other.add("c").status_code == 201
        until(lambda: other.events("leadership_won"), "it takes over")
        until(lambda: other.metric("registry_outbox_depth") == 0, "and relays")
    finally:
        other.close()


def test_what_a_follower_leaves_at_the_broker_the_leader_removes(
    api: Api, environment: dict[str, str], broker_server: Mosquitto
) -> None:
    """A command that was given up is done all the same, for a device that is not registered."""
    other = Api(environment | {"HUB_API_URL": f"http://127.0.0.1:{host.free_port()}"})
    other.log = other.log.with_name("other.log")
    try:
        other.start()
        assert not other.events("leadership_won")
        assert broker_server.pid is not None
        os.kill(broker_server.pid, signal.SIGSTOP)
        try:
            assert other.add("dev").status_code == 503
        finally:
            os.kill(broker_server.pid, signal.SIGCONT)
        until(lambda: any(event["deleted"] == 1 for event in api.events("broker_reconciled")), "it is removed")
    finally:
        other.close()


def test_a_broker_that_lost_its_file_is_announced_and_brought_back(api: Api, broker_server: Mosquitto) -> None:
    keys = {name: api.add(name).json()["api_key"] for name in ("a", "b")}
    never = api.rest.put("/v1/policies/broker", json={"restart": "never"}, headers={"If-Match": '"0"'})
    assert never.status_code == 200, never.text
    broker_server.stop()
    broker_server.clients_file.unlink()
    broker_server.start()  # with our services alone
    until(lambda: api.metric("broker_records_missing") == 2, "the loss is counted")
    assert api.events("broker_records_missing")[-1]["missing"] == 2
    assert asyncio.run(connect_code(port(api), "a", keys["a"])) == NOT_AUTHORIZED
    keys["c"] = api.add("c").json()["api_key"]  # it goes on meanwhile
    broker_server.stop()
    words = ["broker-file", "--out", str(broker_server.clients_file), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", *words], env=os.environ | api.env, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["records"] == 3 + len(SERVICES)
    assert broker_server.clients_file.stat().st_mode & 0o777 == 0o600
    broker_server.start()
    for name, key in keys.items():
        assert asyncio.run(connect_code(port(api), name, key)) == 0, name
    until(lambda: api.metric("broker_records_missing") == 0, "nothing is missed")
    until(api.is_ready, "our own services connect too")


def test_an_operator_has_it_brought_back_by_one_command(api: Api, broker_server: Mosquitto) -> None:
    key = api.add("a").json()["api_key"]
    api.rest.put("/v1/policies/broker", json={"restart": "never"}, headers={"If-Match": '"0"'})
    broker_server.stop()
    broker_server.write_clients([])
    broker_server.start()
    until(lambda: api.metric("broker_records_missing") == 1, "the loss is counted")
    words = ["broker-rebuild", "--announce", "0.5", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", *words], env=os.environ | api.env, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["restarts"] == 1
    assert asyncio.run(connect_code(port(api), "a", key)) == 0
    until(lambda: api.metric("broker_records_missing") == 0, "nothing is missed")
    assert [event["in_s"] for event in api.events("broker_restart_announced")] == [0.5]
    converged = api.metric("broker_converged_timestamp_seconds")
    assert converged is not None
    assert abs(time.time() - converged) < 60


def test_no_id_key_or_serial_in_the_log(api: Api) -> None:
    secrets = ["device-of-mine", "SN-device-of-mine", *api.add("device-of-mine").json()["api_key"].split(".")]
    api.add("device-of-mine")
    api.rest.get("/v1/devices/device-of-mine")
    api.stop()
    log = api.log.read_text()
    assert '"event":"device_registered"' in log
    assert [secret for secret in secrets if secret in log] == []


def test_an_address_in_use_is_said(api: Api, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", "api"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "cannot be listened on" in done.stderr
    assert api.is_ready()


@pytest.mark.parametrize("missing", ["HUB_SERVICE_SECRETS_FILE", "HUB_PSEUDONYM_KEY_FILE"])
def test_a_missing_file_is_said(environment: dict[str, str], missing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", "api"],
        env=os.environ | environment | {missing: "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "/nonexistent" in done.stderr
    assert "Traceback" not in done.stderr
