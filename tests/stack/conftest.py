"""The real servers, started once per session in a directory of their own, and what tests make on them.

The names of topics are fixed, so tests share them: a test uses device ids of its own (`device_id`) and looks only at
those. The servers are stopped at the end, whatever the tests did.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.stack import LocalBroker, Stack
from deploy.stack.host import reachable_temp_dir


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """PostgreSQL, Mosquitto and Kafka, all answering. A test that kills one starts it again."""
    directory = reachable_temp_dir("hub-test-")
    try:
        with Stack.open(directory, environ={}) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def database_url(stack: Stack) -> Iterator[str]:
    """A fresh, empty database; dropped after the test, with whoever is still connected."""
    name = f"test_{uuid.uuid4().hex}"
    stack.postgres.psql(f"CREATE DATABASE {name}")
    yield stack.postgres.database_url(name)
    stack.postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def device_id() -> Callable[[], str]:
    """Makes device ids that no other test uses."""
    return lambda: f"t-{uuid.uuid4().hex[:16]}"


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """A temporary directory that servers of ours can reach; pytest's own are closed to them."""
    directory = reachable_temp_dir("hub-test-")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def local_broker(server_dir: Path) -> Iterator[LocalBroker]:
    """A gateway's local broker, started."""
    broker = LocalBroker(server_dir)
    broker.start()
    yield broker
    broker.stop()
