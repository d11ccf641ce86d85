"""`hub api`: the registry's process. Builds its parts and runs them until it is told to stop."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from control_plane.db.connect import pool
from control_plane.registry import api, events, rest_doors
from control_plane.registry.access.logins import Logins
from control_plane.registry.access.token_store import TokenStore
from control_plane.registry.access.token_uses import TokenUses
from control_plane.registry.broker import Broker, address, service_secret
from control_plane.registry.broker_restart import BrokerRestart
from control_plane.registry.credentials.key_times import KeyTimes
from control_plane.registry.credentials.rings import Rings
from control_plane.registry.credentials.rotator import Rotator
from control_plane.registry.credentials.store import Credentials
from control_plane.registry.doors import App
from control_plane.registry.enrolment.addresses import Addresses
from control_plane.registry.enrolment.enroller import Desk, DrainWatch, Enroller
from control_plane.registry.enrolment.store import EnrolmentStore
from control_plane.registry.fleet.changes import Changes
from control_plane.registry.fleet.finder import Finder
from control_plane.registry.fleet.importer import Importer
from control_plane.registry.fleet.privacy import Privacy
from control_plane.registry.key_watch import KeyWatch
from control_plane.registry.leader import Duty, lead
from control_plane.registry.mqtt_door.secrets import DoorSecrets, door_secrets
from control_plane.registry.nudger import Nudger
from control_plane.registry.pki.opening import CaSettings, open_certificates
from control_plane.registry.projector import Projector
from control_plane.registry.quarantine.court import Court
from control_plane.registry.quarantine.keeper import Quarantine
from control_plane.registry.rebuild import Rebuild
from control_plane.registry.reconciler import Reconciler
from control_plane.registry.registrar import Registrar
from control_plane.registry.relay import Relay
from control_plane.registry.rest_doors import Door, Wanted
from control_plane.registry.rooms import Rooms
from control_plane.registry.store import Store
from shared.config import ConfigError, Secret, load, read_secret, setting
from shared.errors import HubError
from shared.events import configure_logging
from shared.health import Beat, Health
from shared.lifecycle import run
from shared.pseudonym import pseudonym

NAME = "api"
_CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """What `hub api` reads."""

    database_url: Secret = setting("HUB_DATABASE_URL", "postgresql://user:password@host:port/database")
    kafka_bootstrap: str = setting("HUB_KAFKA_BOOTSTRAP", "host:port of a Kafka broker")
    mqtt_url: str = setting("HUB_MQTT_URL", "the hub's broker, mqtt:// or mqtts://host:port")
    service_secrets_file: Path = setting("HUB_SERVICE_SECRETS_FILE", "our services' broker passwords")
    data_dir: Path = setting("HUB_DATA_DIR", "the hub's own directory")
    api_url: str = setting("HUB_API_URL", "where REST is served, http://host:port")
    api_bind: str | None = setting("HUB_API_BIND", "host:port to listen on; default from HUB_API_URL", default=None)
    api_tls_url: str | None = setting("HUB_API_TLS_URL", "REST over TLS, https://host:port", default=None)
    api_tls_bind: str | None = setting("HUB_API_TLS_BIND", "where that listens; default from its URL", default=None)
    api_cert_file: Path | None = setting("HUB_API_CERT_FILE", "PEM: REST's certificate and its chain", default=None)
    api_key_file: Path | None = setting("HUB_API_KEY_FILE", "PEM: its key, mode 0600", default=None)
    api_behind_proxy: bool = setting(
        "HUB_API_BEHIND_PROXY", "a proxy ends TLS: listen plain, also beyond loopback", default=False
    )
    ca_file: Path | None = setting("HUB_CA_FILE", "PEM: the CA of the hub's own servers (mqtts)", default=None)
    pseudonym_key_file: Path | None = setting(
        "HUB_PSEUDONYM_KEY_FILE", "the pseudonyms' key; default pseudonym.key in HUB_DATA_DIR", default=None
    )
    ca_key_file: Path | None = setting(
        "HUB_CA_KEY_FILE",
        "PEM: the key of HUB_CA_FILE, to issue certificates; default ca.key in HUB_DATA_DIR",
        default=None,
    )
    crl_file: Path | None = setting(
        "HUB_CRL_FILE", "the revoked, where the broker reads them; default crl.pem in HUB_DATA_DIR", default=None
    )
    broker_pid_file: Path | None = setting(
        "HUB_BROKER_PID_FILE",
        "its first word is the broker's pid: SIGHUP when the revoked change",
        default=None,
    )
    broker_reload_command: str | None = setting(
        "HUB_BROKER_RELOAD_COMMAND", "instead of the signal, such as: systemctl reload mosquitto", default=None
    )
    mqtt_tls_url: str | None = setting("HUB_MQTT_TLS_URL", "the hub's broker over TLS", default=None)
    mqtt_mtls_url: str | None = setting("HUB_MQTT_MTLS_URL", "the same with client certificates", default=None)
    broker_deadline_s: float = setting("HUB_BROKER_DEADLINE_S", "seconds for the broker to take a key", default=5.0)
    broker_file: Path | None = setting(
        "HUB_BROKER_FILE", "the broker's dynamic-security.json, to restart it with all records", default=None
    )
    broker_restart_command: str | None = setting(
        "HUB_BROKER_RESTART_COMMAND", "restarts the broker, putting HUB_BROKER_FILE.next in place", default=None
    )
    database_connections: int = setting("HUB_API_DATABASE_CONNECTIONS", "the most at once", default=8)
    health_host: str = setting("HUB_HEALTH_HOST", "where /metrics and /readyz listen", default="127.0.0.1")
    health_port: int = setting("HUB_HEALTH_PORT", "its port; 0 is a free one", default=0)
    log_level: str = setting("HUB_LOG_LEVEL", "debug, info, warning or error", default="info")

    def problems(self) -> list[str]:
        """Rules that span fields."""
        found = []
        if self.broker_deadline_s <= 0:
            found.append("HUB_BROKER_DEADLINE_S: is not above 0")
        if (self.broker_file is None) != (self.broker_restart_command is None):
            found.append("HUB_BROKER_FILE and HUB_BROKER_RESTART_COMMAND: give both or neither")
        try:
            self.broker_restart()
        except ValueError as error:
            found.append(f"HUB_BROKER_RESTART_COMMAND: {error}")
        if self.database_connections < 1:
            found.append("HUB_API_DATABASE_CONNECTIONS: is not at least 1")
        try:
            address(self.mqtt_url)
        except ValueError as error:
            found.append(f"HUB_MQTT_URL: {error}")
        return found + rest_doors.problems(
            self.doors(), behind_proxy=self.api_behind_proxy, certificate=self.api_cert_file is not None
        )

    def doors(self) -> list[Wanted]:
        """Where REST listens."""
        found = [Wanted("HUB_API_URL", self.api_url, self.api_bind)]
        if self.api_tls_url is not None:
            found.append(Wanted("HUB_API_TLS_URL", self.api_tls_url, self.api_tls_bind))
        return found

    def ca(self) -> CaSettings:
        """What issues gateways' certificates."""
        return CaSettings(
            self.data_dir,
            self.ca_key_file,
            self.ca_file,
            self.crl_file,
            self.broker_pid_file,
            self.broker_reload_command,
        )

    def addresses(self) -> Addresses:
        """Where enrolled gateways find the hub."""
        return Addresses(
            self.mqtt_tls_url or self.mqtt_url,
            self.api_tls_url or self.api_url,
            self.ca_file or self.data_dir / "ca.pem",
            self.mqtt_mtls_url,
        )

    def broker_restart(self) -> BrokerRestart | None:
        """How the broker is restarted, if we were told. Raises ValueError for a command that is none."""
        if self.broker_file is None or self.broker_restart_command is None:
            return None
        return BrokerRestart(self.broker_file, self.broker_restart_command)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the process reads from files before it starts."""

    registry: Secret
    monitor: Secret
    door: DoorSecrets
    pseudonym_key: bytes = field(repr=False)


class Api:
    """One API process: REST, the broker's connection, and, if it leads, the duties of the leader."""

    def __init__(self, config: ApiConfig, secrets: Secrets, doors: Sequence[Door]) -> None:
        self._config = config
        self._secrets = secrets
        self._doors = doors
        self._database_away = "Postgres was not asked yet"
        self._audience_missing = ""
        self._broker: Broker | None = None
        self._listening = False

    def readiness(self) -> list[str]:
        """What stands in the way of registering a device."""
        missing = [] if self._listening else ["REST is not served yet"]
        if self._database_away:
            missing.append(self._database_away)
        if self._broker is None or not self._broker.connected:
            missing.append("the broker is not connected")
        if self._audience_missing:
            missing.append(self._audience_missing)
        return missing

    async def serve(self, stopping: asyncio.Event) -> None:
        """Run until `stopping`."""
        config, secrets = self._config, self._secrets
        database = await pool(config.database_url, size=config.database_connections, application="hub api")
        try:
            store = Store(database)
            broker = Broker(
                config.mqtt_url,
                secrets.registry,
                deadline_s=config.broker_deadline_s,
                on_connect=lambda: reconciler.wake(),  # noqa: PLW0108 - made below
                ca_file=config.ca_file,
            )
            self._broker = broker
            certificates = open_certificates(config.ca(), database)
            projector = Projector(
                store,
                broker,
                lambda: reconciler.wake(),  # noqa: PLW0108 - made below
                certificates.follow if certificates else None,
            )
            rebuild = Rebuild(
                database,
                config.database_url,
                store,
                broker,
                config.broker_restart(),
                config.service_secrets_file,
                projector.device,
            )
            reconciler = Reconciler(store, broker, config.database_url, rebuild)
            relay = Relay(store, config.database_url, config.kafka_bootstrap)
            rings = Rings(database)
            watch = KeyWatch(rings, config.mqtt_url, secrets.monitor, config.ca_file)
            named = partial(pseudonym, secrets.pseudonym_key)
            privacy = Privacy(database, named)
            rotator = Rotator(rings, store, broker, projector, named, reconciler.wake, certificates)
            times = KeyTimes(rings, Credentials(database), config.database_url, rotator.delete, projector.device)
            registrar = Registrar(store, broker, secrets.pseudonym_key, reconciler.wake)
            enrolment = EnrolmentStore(database)
            drains = DrainWatch(enrolment, projector, named)
            enroller = Enroller(enrolment, broker, registrar, named, reconciler.wake)
            quarantine = Quarantine(database, config.database_url, projector, named)
            nudger = Nudger(config.database_url, broker.nudge)
            court = Court(database, config.kafka_bootstrap, quarantine)
            rooms = Rooms(
                database=database,
                store=store,
                credentials=Credentials(database),
                rings=rings,
                rotator=rotator,
                broker=broker,
                registrar=registrar,
                projector=projector,
                quarantine=quarantine,
                finder=Finder(database),
                changes=Changes(database),
                rebuild=rebuild,
                door_secrets=secrets.door,
                importer=Importer(database, named, rebuild.imported),
                privacy=privacy,
                pseudonym=named,
                reconcile=reconciler.wake,
                enrolment=Desk(enrolment, enroller, config.addresses(), certificates.issue if certificates else None),
                certificates=certificates,
                logins=Logins(),
                token_uses=TokenUses(TokenStore(database).use),
            )
            app = api.build(rooms, self.readiness)
            duties = [relay.serve, reconciler.serve, watch.serve, drains.serve, times.serve]
            duties += [quarantine.serve, court.serve, privacy.serve, nudger.serve]
            duties += [certificates.serve] if certificates else []
            await self._work(rooms, app, duties, stopping)
        finally:
            database.terminate()

    async def _work(self, rooms: Rooms, app: App, duties: Sequence[Duty], stopping: asyncio.Event) -> None:
        """REST, and beside it what this process does by itself and, if it leads, its duties; until `stopping`."""
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(lead(self._config.database_url, duties)),
                tasks.create_task(self._check(rooms.store, rooms.registrar)),
                tasks.create_task(rooms.token_uses.serve()),
                tasks.create_task(rooms.projector.serve()),
            ]
            connection = tasks.create_task(rooms.broker.serve(stopping))
            try:
                await self._rest(app, stopping)
            finally:
                for task in background:
                    task.cancel()
                await rooms.token_uses.finish()
            await connection

    async def _rest(self, app: App, stopping: asyncio.Event) -> None:
        self._listening = True  # the sockets listen since before; a request waits in their queue at most
        for door in self._doors:
            events.ApiListening(door.wanted.url).emit()
        try:
            await rest_doors.serve(app, self._doors, stopping)
        finally:
            self._listening = False

    async def _check(self, store: Store, registrar: Registrar) -> None:
        """Postgres asked now and then, so that readiness need not wait for it; what waits in the outbox with it."""
        while True:
            try:
                waiting, oldest_s = await store.outbox_depth()
                events.OutboxMeasured(waiting, round(oldest_s, 3)).emit()
                self._audience_missing = await registrar.audience_missing()
                self._database_away = ""
            except HubError as error:
                self._database_away = str(error)
            await asyncio.sleep(_CHECK_S)


def main(env: Mapping[str, str]) -> int:
    """Run the API process; its exit status. Raises ConfigError, also for files that are missing or a port in use."""
    config = load(ApiConfig, env)
    configure_logging(config.log_level)
    # What a request met is our event; the server would log its text once more, and that may name a device.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    key_file = config.pseudonym_key_file or config.data_dir / "pseudonym.key"
    secrets = Secrets(
        registry=service_secret(config.service_secrets_file, "_registry"),
        monitor=service_secret(config.service_secrets_file, "_monitor"),
        door=door_secrets(config.service_secrets_file),
        pseudonym_key=_pseudonym_key(key_file),
    )
    behind_proxy = config.api_behind_proxy
    doors = rest_doors.open_doors(
        config.doors(), config.api_cert_file, config.api_key_file, behind_proxy=behind_proxy
    )
    process = Api(config, secrets, doors)
    beat = Beat()
    health = Health(config.health_host, config.health_port, process.readiness, beat=beat)
    _write_run_file(config.data_dir, health.port)
    events.HealthListening(NAME, health.port).emit()
    try:
        return run({NAME: process.serve}, grace_s=2 * rest_doors.GRACE_S, beat=beat.stamp)
    finally:
        health.close()
        for door in doors:
            door.listener.close()


def _pseudonym_key(path: Path) -> bytes:
    try:
        return bytes.fromhex(read_secret(path))
    except ValueError as error:
        raise ConfigError([f"{path}: is not hexadecimal"]) from error


def _write_run_file(data_dir: Path, port: int) -> None:
    path = data_dir / "run" / f"{NAME}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode({"pid": os.getpid(), "health_port": port}))
    unfinished.replace(path)
