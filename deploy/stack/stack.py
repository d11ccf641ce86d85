"""PostgreSQL, Mosquitto and Kafka for one machine, in one data directory.

Promises: `start` brings up what is down, all at once, and returns when all answer; addresses and data survive any
restart; the servers outlive the process that started them. A server whose URL the environment gives is used as it is
and never started, stopped or killed.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from control_plane.registry.pki.ca_files import CERTIFICATE_FILE
from deploy.stack import host, tls
from deploy.stack.kafka import Kafka
from deploy.stack.mosquitto import Mosquitto
from deploy.stack.postgres import Postgres
from deploy.stack.server import Server
from deploy.stack.tls import Doors
from shared.errors import Permanent

CHECKOUT = Path(__file__).parents[2]
_PORTS = (
    *("postgres", "mosquitto", "mosquitto-tls", "mosquitto-mtls", "kafka", "kafka-controller"),
    *("api", "api-tls", "grpc"),
)
_URLS = {"postgres": "HUB_DATABASE_URL", "mosquitto": "HUB_MQTT_URL", "kafka": "HUB_KAFKA_BOOTSTRAP"}


def default_data_dir() -> Path:
    """`.stack` in the checkout, or, where the servers' user cannot reach that, a directory below /var/lib."""
    account = host.server_account()
    if account.can_read(CHECKOUT):
        return CHECKOUT / ".stack"
    name = str(CHECKOUT).strip("/").replace("/", "-")
    return Path("/var/lib/bv-iot-control-hub") / name


class Stack:
    """The three servers and their addresses. As a context manager: started on entry, stopped on exit."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        ports = host.kept_ports(data_dir, _PORTS)
        self._ports = ports
        self._postgres = Postgres(data_dir, ports["postgres"])
        doors = Doors(ports["mosquitto-tls"], ports["mosquitto-mtls"])
        self._mosquitto = Mosquitto(data_dir, ports["mosquitto"], doors)
        self._kafka = Kafka(data_dir, ports["kafka"], ports["kafka-controller"])
        self._given = {name: environ[url] for name, url in _URLS.items() if environ.get(url)}
        # What `make stack` printed may stand in the environment of the next call: that is no foreign server.
        self._given = {name: url for name, url in self._given.items() if url != self._own_url(name)}

    @classmethod
    def open(cls, data_dir: Path | None = None, environ: Mapping[str, str] | None = None) -> Self:
        """The stack of this directory, made if missing; nothing is started.

        Without `data_dir`: HUB_STACK_DIR, else `.stack` in the checkout. `environ` (ours if None) may name servers to
        use instead. Raises Permanent if the servers' user cannot reach the directory.
        """
        environ = os.environ if environ is None else environ
        if data_dir is None:
            data_dir = Path(environ.get("HUB_STACK_DIR") or default_data_dir())
        data_dir = data_dir.absolute()
        host.open_dir(data_dir, host.server_account())
        return cls(data_dir, environ)

    @property
    def postgres(self) -> Postgres:
        """Our PostgreSQL; Permanent if a foreign one is used."""
        self._refuse_given("postgres")
        return self._postgres

    @property
    def mosquitto(self) -> Mosquitto:
        """Our hub broker; Permanent if a foreign one is used."""
        self._refuse_given("mosquitto")
        return self._mosquitto

    @property
    def kafka(self) -> Kafka:
        """Our Kafka; Permanent if a foreign one is used."""
        self._refuse_given("kafka")
        return self._kafka

    @property
    def servers(self) -> list[Server]:
        """Those that are ours."""
        everyone: list[Server] = [self._postgres, self._mosquitto, self._kafka]
        return [server for server in everyone if server.name not in self._given]

    def start(self) -> None:
        """Start what does not run, all at once. Raises the first failure after all have ended their attempts."""
        tls.prepare_api(self._hub_dir)
        self._all(lambda server: server.start())

    def stop(self) -> None:
        """Stop what runs; the data stays."""
        self._all(lambda server: server.stop())

    def env(self) -> dict[str, str]:
        """What the hub's programs read, by name."""
        urls = {url: self._given.get(name) or self._own_url(name) for name, url in _URLS.items()}
        hub = self._hub_dir
        found = urls | {
            "HUB_API_URL": f"http://127.0.0.1:{self._ports['api']}",
            "HUB_API_TLS_URL": f"https://127.0.0.1:{self._ports['api-tls']}",
            "HUB_API_CERT_FILE": str(hub / tls.API_CERTIFICATE),
            "HUB_API_KEY_FILE": str(hub / tls.API_KEY),
            "HUB_CA_FILE": str(hub / CERTIFICATE_FILE),
            "HUB_GRPC_URL": f"grpc://127.0.0.1:{self._ports['grpc']}",
            "HUB_ADMIN_TOKEN_FILE": str(hub / "admin-token"),
            "HUB_SERVICE_SECRETS_FILE": str(self._mosquitto.secrets_file),
            "HUB_DATA_DIR": str(hub),
        }
        if "mosquitto" not in self._given:
            found |= self._mosquitto.restart_env() | {
                "HUB_MQTT_TLS_URL": f"mqtts://127.0.0.1:{self._ports['mosquitto-tls']}",
                "HUB_MQTT_MTLS_URL": f"mqtts://127.0.0.1:{self._ports['mosquitto-mtls']}",
                "HUB_CRL_FILE": str(self._mosquitto.crl_file),
                "HUB_BROKER_PID_FILE": str(self._mosquitto.pid_file),
            }
        return found

    @property
    def _hub_dir(self) -> Path:
        return self.data_dir / "hub"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _own_url(self, name: str) -> str:
        if name == "postgres":
            return self._postgres.database_url()
        return f"mqtt://127.0.0.1:{self._ports[name]}" if name == "mosquitto" else f"127.0.0.1:{self._ports[name]}"

    def _refuse_given(self, name: str) -> None:
        if name in self._given:
            raise Permanent(f"{name} is given by {_URLS[name]}: it is not ours to start or stop")

    def _all(self, act: Callable[[Server], None]) -> None:
        with ThreadPoolExecutor(max_workers=len(_URLS)) as pool:
            for done in [pool.submit(act, server) for server in self.servers]:
                done.result()
