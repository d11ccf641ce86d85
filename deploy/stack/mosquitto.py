"""Mosquitto from the distribution's package: the hub's broker, and a gateway's local one.

Promises: the hub's broker knows our services from its first start (their secrets in `service-secrets.json`, mode
0600); all later records are the registry's. The local broker runs with the configuration that gateways ship with.
"""

import json
import secrets
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.stack import host, settings, tls
from deploy.stack.server import Server
from shared.broker_access import acl_file
from shared.dynsec_document import SALT_BYTES, BrokerClient, document, hash_secret
from shared.errors import Permanent

SERVICES = ("_ingest", "_registry", "_monitor")
HTTP_DOOR = "_broker"
"""What another kind of broker would show at /internal/mqtt (docs/broker.md); no client of this one."""


def plugin_path() -> Path:
    """Where the distribution put the dynamic-security plugin. Raises Permanent."""
    for pattern in ("usr/lib/*/mosquitto_dynamic_security.so", "usr/lib/mosquitto_dynamic_security.so"):
        for found in sorted(Path("/").glob(pattern)):
            return found
    raise Permanent(
        "Mosquitto's dynamic-security plugin is not installed", hint="`make stack` installs what is missing"
    )


class Mosquitto(Server):
    """The hub's broker."""

    name = "mosquitto"

    def __init__(self, root: Path, port: int, doors: tls.Doors | None = None) -> None:
        """`doors`: further ports with TLS, by certificates of the CA in `hub/`; without them it is plain alone."""
        super().__init__(root, port)
        self.doors = doors

    @property
    def crl_file(self) -> Path:
        """What the listener for certificates refuses; read at the start and on SIGHUP."""
        return self.home / tls.CRL

    @property
    def pid_file(self) -> Path:
        """Its first word is the pid."""
        return self._pid_file

    @property
    def secrets_file(self) -> Path:
        """JSON: user name of each of our services to its secret."""
        return self.root / "service-secrets.json"

    @property
    def clients_file(self) -> Path:
        """The dynamic-security document. The running broker rewrites it; write it only while the broker is down."""
        return self.home / "dynamic-security.json"

    def restart_env(self) -> dict[str, str]:
        """How the registry restarts it with all records: the file, and a command without spaces in its name."""
        return {"HUB_BROKER_FILE": str(self.clients_file), "HUB_BROKER_RESTART_COMMAND": str(self._restart_script)}

    @property
    def _restart_script(self) -> Path:
        return self.root / "run" / "restart-mosquitto"

    def _write_restart_script(self) -> None:
        words = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-m", "deploy.stack.mosquitto"]
        text = f"#!/bin/sh\nexec {shlex.join([*words, str(self.root), str(self.port)])}\n"
        host.write_private(self._restart_script, text)
        self._restart_script.chmod(0o700)

    def write_clients(self, clients: Sequence[BrokerClient]) -> None:
        """Make the broker's records exactly `clients` and our services. The broker must be down."""
        assert not self.is_running(), "a running broker would overwrite its file"
        host.private_dir(self.home, self.account)
        text = json.dumps(document([*self._services(), *clients]))
        host.write_private(self.clients_file, text, self.account)

    def _services(self) -> list[BrokerClient]:
        if not self.secrets_file.exists():
            fresh = {name: secrets.token_urlsafe(32) for name in (*SERVICES, HTTP_DOOR)}
            host.write_private(self.secrets_file, json.dumps(fresh, indent=1) + "\n")
        known = json.loads(self.secrets_file.read_text(encoding="utf-8"))
        return [BrokerClient(name, hash_secret(known[name], secrets.token_bytes(SALT_BYTES))) for name in SERVICES]

    def _prepare(self) -> None:
        if self.doors is not None:
            tls.prepare_broker(self.root / "hub", self.home, self.account)
        values = settings.loopback_mosquitto(self.home, plugin_path(), self.port, self.doors)
        conf = settings.render(settings.TEMPLATES / "mosquitto.conf", values)
        host.write_private(self.home / "mosquitto.conf", conf, self.account)
        host.write_private(self.home / "acl", acl_file(), self.account)
        self._write_restart_script()
        following = self.clients_file.with_name(f"{self.clients_file.name}.next")
        if following.exists():  # the registry asks for a start with these records (control_plane/registry/rebuild)
            following.replace(self.clients_file)
        if not self.clients_file.exists():
            self.write_clients([])

    def _command(self) -> list[str]:
        return [str(host.program("mosquitto")), "-c", str(self.home / "mosquitto.conf")]

    def _ready(self, pid: int) -> bool:
        del pid  # the port was free before: who listens now is ours. It listens after its store is loaded.
        return host.answers(self.port)


class LocalBroker(Server):
    """A gateway's local broker: anonymous on loopback, each change saved."""

    name = "local-broker"

    def __init__(self, data_dir: Path, port: int | None = None, *, save_on_change: bool = True) -> None:
        """Keeps all it has under `data_dir`; a port not given is chosen once and kept there.

        Without `save_on_change` (not the shipped setting) it is some ten times as fast, and killed it loses more.
        """
        root = host.open_dir(data_dir, host.server_account())
        super().__init__(root, port or host.kept_ports(root, [self.name])[self.name])
        self._save_on_change = save_on_change

    @property
    def url(self) -> str:
        """mqtt://host:port"""
        return f"mqtt://127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        conf = settings.local_broker(self.home, self.port, save_on_change=self._save_on_change)
        host.write_private(self.home / "mosquitto.conf", conf, self.account)

    def _command(self) -> list[str]:
        return [str(host.program("mosquitto")), "-c", str(self.home / "mosquitto.conf")]

    def _ready(self, pid: int) -> bool:
        del pid
        return host.answers(self.port)


if __name__ == "__main__":
    broker = Mosquitto(Path(sys.argv[1]), int(sys.argv[2]))
    broker.stop()
    broker.start()
