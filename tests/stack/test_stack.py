"""The stack's promises, on the real servers: idempotent, adoptable, and what was written survives SIGKILL."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.stack import LocalBroker, Server, Stack
from deploy.stack.host import server_account

pytestmark = pytest.mark.stack


def _until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def _owner(pid: int | None) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def _kill_and_start(server: Server) -> None:
    before = server.pid
    server.kill()
    assert not server.is_running()
    server.start()
    assert server.is_running()
    assert server.pid != before


def test_start_again_changes_nothing(stack: Stack) -> None:
    before = [server.pid for server in stack.servers]
    stack.start()
    assert [server.pid for server in stack.servers] == before
    assert None not in before


def test_servers_are_not_root(stack: Stack) -> None:
    assert {_owner(server.pid) for server in stack.servers} == {server_account().uid}
    assert server_account().uid != 0


def test_another_process_knows_them(stack: Stack) -> None:
    command = [sys.executable, "-m", "deploy.stack", "status", "--json", "--data-dir", str(stack.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)["servers"]
    assert {name: server["pid"] for name, server in seen.items()} == {s.name: s.pid for s in stack.servers}


def test_secrets_are_readable_by_the_owner_alone(stack: Stack) -> None:
    for name in ("service-secrets.json", "postgres-password"):
        assert (stack.data_dir / name).stat().st_mode & 0o777 == 0o600
    commands = [Path(f"/proc/{server.pid}/cmdline").read_text() for server in stack.servers]
    assert (stack.data_dir / "postgres-password").read_text() not in "".join(commands)


async def test_committed_rows_survive_a_kill_of_postgres(stack: Stack, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE kept (n int)")
    for round_number in range(3):
        await connection.execute("INSERT INTO kept VALUES ($1)", round_number)
        _kill_and_start(stack.postgres)  # with a session open, whose process dies after its parent
        await connection.close()
        connection = await asyncpg.connect(database_url)
        assert await connection.fetchval("SELECT count(*) FROM kept") == round_number + 1
    await connection.close()


async def test_postgres_wants_the_password(stack: Stack) -> None:
    wrong = stack.env()["HUB_DATABASE_URL"].replace("hub:", "hub:not", 1)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


async def test_acknowledged_records_survive_a_kill_of_kafka(stack: Stack) -> None:
    address = stack.env()["HUB_KAFKA_BOOTSTRAP"]
    topic = f"test.{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()
    for n in range(2):
        producer = AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True)
        await producer.start()
        await producer.send_and_wait(topic, b"%d" % n)
        await producer.stop()
        _kill_and_start(stack.kafka)
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    records = [(await consumer.getone()).value for _ in range(2)]
    await consumer.stop()
    assert records == [b"0", b"1"]


async def test_kafka_makes_no_topic_by_itself(stack: Stack) -> None:
    topic = f"absent.{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.env()["HUB_KAFKA_BOOTSTRAP"])
    await admin.start()
    await admin.describe_topics([topic])
    assert topic not in await admin.list_topics()
    await admin.close()


def _mqtt(program: str, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program, "-V", "5", "-q", "1", "-p", str(port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def test_a_saved_message_survives_a_kill_of_the_local_broker(local_broker: LocalBroker) -> None:
    session = ("-i", "agent", "-c", "-x", "3600", "-t", "devices/+/telemetry")
    assert _mqtt("mosquitto_sub", local_broker.port, *session, "-E").returncode == 0
    store = local_broker.home / "mosquitto.db"
    before = store.stat().st_mtime_ns if store.exists() else 0
    sent = _mqtt("mosquitto_pub", local_broker.port, "-i", "d1", "-t", "devices/d1/telemetry", "-m", "kept")
    assert sent.returncode == 0
    _until(lambda: store.exists() and store.stat().st_mtime_ns > before)
    _kill_and_start(local_broker)
    got = _mqtt("mosquitto_sub", local_broker.port, *session, "-C", "1", "-W", "10")
    assert got.stdout == "kept\n"


def test_two_stacks_at_once(stack: Stack, server_dir: Path) -> None:
    before = [server.pid for server in stack.servers]
    with Stack.open(server_dir, environ={}) as other:
        ports = [server.port for server in (*stack.servers, *other.servers)]
        assert len(set(ports)) == len(ports)
        other.postgres.psql("CREATE TABLE only_here (n int)")
        other.stop()
        assert not any(server.is_running() for server in other.servers)
        other.start()
        assert [server.port for server in other.servers] == ports[len(stack.servers) :]
        assert other.postgres.psql("SELECT count(*) FROM only_here") == "0"
    assert [server.pid for server in stack.servers] == before


def test_a_taken_port_is_said(local_broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> None:
    del tmp_path_factory
    rival = LocalBroker(local_broker.root, local_broker.port)
    rival._pid_file = rival._pid_file.with_name("rival.pid")
    with pytest.raises(Exception, match=f"port {local_broker.port} of local-broker is taken"):
        rival.start()


def test_the_command_line_starts_prints_and_stops(server_dir: Path) -> None:
    given = {"HUB_DATABASE_URL": "postgresql://x/y", "HUB_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    command = [sys.executable, "-c", _UP_WITHOUT_MIGRATION, "--data-dir", str(server_dir)]
    done = subprocess.run([*command, "up"], env=os.environ | given, capture_output=True, text=True, check=True)
    env = dict(line.split("=", 1) for line in done.stdout.splitlines())
    broker = Stack.open(server_dir, environ=given).mosquitto
    try:
        assert env["HUB_DATABASE_URL"] == given["HUB_DATABASE_URL"]
        assert env["HUB_MQTT_URL"] == f"mqtt://127.0.0.1:{broker.port}"
        assert broker.is_running()
    finally:
        subprocess.run([*command, "down"], env=os.environ | given, capture_output=True, check=True)
    assert not broker.is_running()


_UP_WITHOUT_MIGRATION = """
import sys
from deploy.stack import __main__ as command
command._migrate = lambda stack: None  # there is no database behind the given URL
sys.exit(command.main())
"""
