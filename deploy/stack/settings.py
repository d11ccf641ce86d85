"""The two value sets of the servers' templates: one node on loopback, and production. PURE: values in, text out.

A template is a file in `templates/` whose `$names` are the fields of its dataclass here. A gateway's broker has none:
its file is shipped as it is installed, and `local_broker` moves it elsewhere for us.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from deploy.stack import tls
from deploy.stack.tls import Doors
from shared.limits import BROKER_PACKET_BYTES, KAFKA_MESSAGE_BYTES, KIB, MIB
from shared.tls import SERVER_CIPHERS

TEMPLATES = Path(__file__).parent / "templates"
LOCAL_BROKER_FILE = Path(__file__).parents[1] / "edge" / "mosquitto-local.conf"
MAX_QUEUED_BYTES = 2 * 1024 * MIB
"""What the hub's broker may keep for ingest; about five minutes at 15,000 messages/s."""
KAFKA_BROKER_BYTES = KAFKA_MESSAGE_BYTES + 64 * KIB
"""The broker's limit: what a topic may hold, and room for a record batch's own header and the record's headers."""


@dataclass(frozen=True, slots=True)
class PostgresValues:
    """Of postgresql.conf. `ssl_lines`: certificate and key, if `ssl` is on."""

    data_directory: Path
    listen_address: str
    port: int
    max_connections: int = 100
    shared_buffers: str = "128MB"
    ssl: str = "off"
    ssl_lines: str = ""


@dataclass(frozen=True, slots=True)
class MosquittoValues:
    """Of mosquitto.conf. `home` holds the broker's store, its acl file and its dynamic-security document."""

    home: Path
    plugin: Path
    listener_lines: str
    max_queued_bytes: int = MAX_QUEUED_BYTES
    max_packet_bytes: int = BROKER_PACKET_BYTES


@dataclass(frozen=True, slots=True)
class KafkaValues:
    """Of kafka.properties (server.properties)."""

    node_id: int
    log_dirs: Path
    controllers: str
    listeners: str
    advertised_listeners: str
    security_protocols: str
    broker_listener: str
    security_lines: str
    replication: int
    min_insync: int
    internal_partitions: int
    rebalance_delay_ms: int
    retention_hours: int = 24 * 7
    message_max_bytes: int = KAFKA_BROKER_BYTES


Values = PostgresValues | MosquittoValues | KafkaValues


def render(template: Path, values: Values | None = None) -> str:
    """The template with its names replaced. Raises KeyError for a name that `values` does not have."""
    return Template(template.read_text(encoding="utf-8")).substitute(asdict(values) if values else {})


def local_broker(home: Path, port: int, *, save_on_change: bool = True) -> str:
    """The gateway's shipped configuration with another port and store. Raises KeyError if it has no such lines.

    Without `save_on_change` it is not what is shipped; see docs/performance.md.
    """
    text = LOCAL_BROKER_FILE.read_text(encoding="utf-8")
    for shipped, ours in (
        ("listener 1883 127.0.0.1", f"listener {port} 127.0.0.1"),
        ("persistence_location /var/lib/mosquitto/", f"persistence_location {home}/"),
        ("autosave_on_changes true", f"autosave_on_changes {str(save_on_change).lower()}"),
    ):
        if f"\n{shipped}\n" not in text:
            raise KeyError(shipped)
        text = text.replace(f"\n{shipped}\n", f"\n{ours}\n")
    return text


def loopback_postgres(data_directory: Path, port: int) -> PostgresValues:
    """One server on loopback."""
    return PostgresValues(data_directory, "127.0.0.1", port)


def loopback_mosquitto(home: Path, plugin: Path, port: int, doors: Doors | None = None) -> MosquittoValues:
    """One broker on loopback: a plain door, and those with TLS. The plain one last: who sees it open sees all."""
    lines = (
        [] if doors is None else _tls_listeners(home, f"{doors.keys} 127.0.0.1", f"{doors.certificates} 127.0.0.1")
    )
    return MosquittoValues(home, plugin, "\n".join([*lines, f"listener {port} 127.0.0.1"]))


def loopback_kafka(log_dirs: Path, port: int, controller_port: int) -> KafkaValues:
    """One node on loopback: replication 1, no waiting for further members of a group."""
    return KafkaValues(
        node_id=1,
        log_dirs=log_dirs,
        controllers=f"127.0.0.1:{controller_port}",
        listeners=f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        advertised_listeners=f"PLAINTEXT://127.0.0.1:{port}",
        security_protocols="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        broker_listener="PLAINTEXT",
        security_lines="",
        replication=1,
        min_insync=1,
        internal_partitions=8,
        rebalance_delay_ms=0,
    )


def production_postgres(data_directory: Path, certificates: Path) -> PostgresValues:
    """Reachable from the private network, TLS with `server.crt` and `server.key` of `certificates`."""
    lines = f"ssl_cert_file = '{certificates}/server.crt'\nssl_key_file = '{certificates}/server.key'"
    return PostgresValues(data_directory, "*", 5432, shared_buffers="2GB", ssl="on", ssl_lines=lines)


def production_mosquitto(
    home: Path, plugin: Path, certificates: Path, port: int = 8883, certificates_port: int = 8884
) -> MosquittoValues:
    """TLS only, no plain listener: `server.crt`, `server.key`, `ca.pem` and `crl.pem` of `certificates`."""
    lines = _tls_listeners(certificates, f"{port}", f"{certificates_port}")
    return MosquittoValues(home, plugin, "\n".join(lines), max_queued_bytes=4 * MAX_QUEUED_BYTES)


def _tls_listeners(files: Path, keys: str, certificates: str) -> list[str]:
    """A door for keys, and one for gateways' certificates. What a certificate says is user name and client id at
    once there (docs/adr/0106): with the name alone it could connect, and publish, as any other.
    """
    server = [
        f"certfile {files}/{tls.SERVER_CERTIFICATE}",
        f"keyfile {files}/{tls.SERVER_KEY}",
        "tls_version tlsv1.2",  # the lowest
        f"ciphers {SERVER_CIPHERS}",
    ]
    return [
        f"listener {keys}",
        *server,
        f"listener {certificates}",
        *server,
        f"cafile {files}/{tls.CA_CERTIFICATE}",
        f"crlfile {files}/{tls.CRL}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    ]


def production_kafka(node_id: int, hosts: Sequence[str], log_dirs: Path, certificates: Path) -> KafkaValues:
    """One of at least three nodes: replication 3, two in sync. `hosts[node_id - 1]` is this node's name.

    Clients use SASL (SCRAM) over TLS on 9092; brokers (9093) and controllers (9094) know one another by certificate.
    `certificates` holds `server.pem` (key and chain) and `ca.pem`.
    """
    assert len(hosts) >= 3, "three nodes bear the loss of one"
    me = hosts[node_id - 1]
    security = [
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={certificates}/server.pem",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={certificates}/ca.pem",
        "sasl.enabled.mechanisms=SCRAM-SHA-512",
        "listener.name.broker.ssl.client.auth=required",
        "listener.name.controller.ssl.client.auth=required",
    ]
    return KafkaValues(
        node_id=node_id,
        log_dirs=log_dirs,
        controllers=",".join(f"{host}:9094" for host in hosts),
        listeners="CLIENT://:9092,BROKER://:9093,CONTROLLER://:9094",
        advertised_listeners=f"CLIENT://{me}:9092,BROKER://{me}:9093",
        security_protocols="CLIENT:SASL_SSL,BROKER:SSL,CONTROLLER:SSL",
        broker_listener="BROKER",
        security_lines="\n".join(security),
        replication=3,
        min_insync=2,
        internal_partitions=50,
        rebalance_delay_ms=3_000,
    )
