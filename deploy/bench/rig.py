"""What every measurement needs: servers, registered clients, single services as processes, and their use of CPU.

A rig lives below one new directory and leaves nothing behind.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from deploy.bench.mqtt_load import Client
from deploy.site import Gateway, Hub, Identity, Registry
from deploy.stack import Stack, host
from shared.errors import Transient
from shared.ids import DeviceId, new_device_id
from shared.topics import Channel, build

_READY_S = 90.0
_POLL_S = 0.05


class Rig:
    """The three servers and a migrated database; services are started one by one. A context manager."""

    def __init__(self) -> None:
        self.root = host.reachable_temp_dir("bench-")
        self.stack = Stack.open(self.root, {})
        self._closers: list[Callable[[], None]] = [lambda: shutil.rmtree(self.root, ignore_errors=True)]

    def __enter__(self) -> Self:
        try:
            self._closers.append(self.stack.stop)
            self.stack.start()
            self.env = self.stack.env()
            self.hub = Hub(self.env, self.root / "hub.log")
            self.hub.command("migrate")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything, the last started first."""
        while self._closers:
            self._closers.pop()()

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.env["HUB_KAFKA_BOOTSTRAP"]

    def serve(self) -> None:
        """The whole hub, ready."""
        self._closers.append(self.hub.stop)
        self.hub.serve()
        self.hub.wait_ready(_READY_S)

    def register(self, devices: int, gateways: int, devices_each: int) -> "People":
        """Register direct devices, and gateways with devices behind them."""
        with self._api(), Registry(self.env) as registry:
            direct = [registry.add(new_device_id(), "thermometer") for _ in range(devices)]
            behind: dict[str, list[str]] = {}
            owners = []
            for _ in range(gateways):
                owner = registry.add(new_device_id(), "gateway", kind="gateway")
                owners.append(owner)
                behind[owner.id] = [
                    registry.add(new_device_id(), "thermometer", gateway=owner.id).id for _ in range(devices_each)
                ]
        return People(direct, owners, behind)

    @contextmanager
    def _api(self) -> Iterator[None]:
        if self.hub.services():
            yield
            return
        with self.service("ingest"), self.service("api"):  # no key before ingest had its session (docs/adr/0066)
            yield

    @contextmanager
    def service(self, *words: str) -> Iterator[psutil.Process]:
        """`hub WORDS` alone, ready; ended with the block."""
        port = host.free_port()
        with (self.root / "service.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "control_plane", *words],
                env=os.environ | self.env | {"HUB_HEALTH_PORT": str(port)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            url = self.env["HUB_API_URL"] if words == ("api",) else f"http://127.0.0.1:{port}"
            self._wait_ready(process, url)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)

    def gateway(
        self,
        identity: Identity,
        hub_url: str,
        settings: Mapping[str, str] | None = None,
        *,
        save_on_change: bool = True,
    ) -> Gateway:
        """A gateway below the rig; stopped with it. It sends no health of its own: what is counted is the load."""
        quiet = {"AGENT_HEALTH_READINGS_S": "0"} | dict(settings or {})
        gateway = Gateway(self.root / identity.id, identity, hub_url, quiet, save_on_change=save_on_change)
        self._closers.append(gateway.stop)
        return gateway

    def _wait_ready(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            time.sleep(_POLL_S)
        raise Transient(f"{process.args!r} is not ready; see {self.root / 'service.log'}")


class People:
    """Who was registered."""

    def __init__(
        self, direct: Sequence[Identity], gateways: Sequence[Identity], behind: dict[str, list[str]]
    ) -> None:
        self.direct = direct
        self.gateways = gateways
        self.behind = behind

    def direct_clients(self) -> list[Client]:
        """Each direct device as a client of the load."""
        return [_client(item, Channel.TELEMETRY) for item in self.direct]

    def gateway_clients(self) -> list[Client]:
        """Each gateway as a client that sends batches."""
        return [_client(item, Channel.BATCHES) for item in self.gateways]


def _client(identity: Identity, channel: Channel) -> Client:
    return Client(identity.id, identity.key_id, identity.secret, build(channel, DeviceId(identity.id)))


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds that a process has used, user and system."""
    times = process.cpu_times()
    return float(times.user + times.system)


def metric(port: int, name: str, **labels: str) -> float:
    """The sum of a Prometheus metric's samples that bear these labels; 0 where there is none."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
