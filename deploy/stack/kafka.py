"""Apache Kafka from its own jars: one KRaft node, broker and controller in one process.

Promises: the node's identity and log survive any restart; it answers before `start` returns.
"""

import base64
import socket
import struct
import subprocess
import uuid
from pathlib import Path

from deploy.setup.java import find_java
from deploy.setup.kafka_jars import jar_directory
from deploy.stack import host, settings
from deploy.stack.server import Server
from shared.errors import Permanent

_METADATA, _METADATA_VERSION, _CORRELATION = 3, 1, 7


class Kafka(Server):
    """The stack's Kafka."""

    name = "kafka"

    def __init__(self, root: Path, port: int, controller_port: int) -> None:
        super().__init__(root, port)
        self._controller_port = controller_port

    def _jars(self) -> Path:
        jars = jar_directory()
        if not jars.exists():
            raise Permanent("Kafka's jars are not there", hint="`make stack` fetches them")
        sample = next(jars.glob("kafka_*.jar")).name
        return host.within_reach(jars, ["."], sample, self.root / jars.name, self.account)

    def _java(self, main: str, *arguments: str) -> list[str]:
        java = find_java()
        if java is None:
            raise Permanent("there is no Java 17 or later", hint="`make stack` installs it")
        quiet = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        return [str(java), "-Xmx512m", *quiet, "-cp", f"{self._jars()}/*", main, *arguments]

    @property
    def _log(self) -> Path:
        return self.home / "log"

    @property
    def _properties(self) -> Path:
        return self.home / "server.properties"

    def _prepare(self) -> None:
        values = settings.loopback_kafka(self._log, self.port, self._controller_port)
        text = settings.render(settings.TEMPLATES / "kafka.properties", values)
        host.write_private(self._properties, text, self.account)
        if not (self._log / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "x")
        command = self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster)
        done = subprocess.run(
            [*self.account.prefix, *command, "-c", str(self._properties)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.home,
            env=self._environment(),
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Permanent(f"Kafka could not format its log: {(done.stdout + done.stderr).strip()[-1_000:]}")

    def _command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self._properties))

    def _ready(self, pid: int) -> bool:
        del pid
        try:
            return _brokers(self.port) > 0
        except OSError:
            return False


def _brokers(port: int) -> int:
    """How many brokers this one names as ready, by a metadata request without topics. Raises OSError."""
    client = b"stack"
    body = struct.pack(">hhih", _METADATA, _METADATA_VERSION, _CORRELATION, len(client)) + client
    body += struct.pack(">i", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        head = b""
        while len(head) < 12:
            more = connection.recv(12 - len(head))
            if not more:
                raise ConnectionError("closed before it answered")
            head += more
    _, correlation, brokers = struct.unpack(">iii", head)
    assert correlation == _CORRELATION
    return int(brokers)
