"""What ingest is told."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from control_plane.ingest.reader import READ_BYTES
from shared import tls
from shared.config import ConfigError, Secret, read_secret, setting

RECEIVE_MAXIMUM_LIMIT = 65_535  # MQTT 5.0, 3.1.2.11.3: a two byte integer
USERNAME = "_ingest"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_BROKEN_MAXIMUM = 2
_SMALLEST_PUBLISH_BYTES = 26  # devices/x/telemetry, packet id, no properties, no payload


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """`hub ingest`."""

    database_url: Secret = setting("HUB_DATABASE_URL", "Postgres, for the lease of the session slot")
    kafka_bootstrap: str = setting("HUB_KAFKA_BOOTSTRAP", "Kafka, host:port")
    mqtt_url: str = setting("HUB_MQTT_URL", "the hub's broker, mqtt:// or mqtts://host:port")
    secrets_file: Path = setting("HUB_SERVICE_SECRETS_FILE", "broker passwords of our services, mode 0600")
    data_dir: Path = setting("HUB_DATA_DIR", "where the hub's processes keep what is theirs")
    health_host: str = setting("HUB_HEALTH_HOST", "address of /metrics, /healthz and /readyz", default="127.0.0.1")
    health_port: int = setting("HUB_HEALTH_PORT", "its port; 0 takes a free one", default=0)
    log_level: str = setting("HUB_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", default="INFO")
    ca_file: Path | None = setting("HUB_CA_FILE", "PEM: the CA of the hub's broker (mqtts)", default=None)
    slot: int = setting("HUB_INGEST_SLOT", "which session slot to hold or stand by for", default=0)
    holder: str | None = setting("HUB_INGEST_HOLDER", "this instance's name, kept over restarts", default=None)
    lease_s: float = setting("HUB_INGEST_LEASE_S", "how long a slot stays its holder's", default=15.0)
    receive_maximum: int = setting(
        "HUB_INGEST_RECEIVE_MAXIMUM", "most messages that the broker may have unacknowledged with us", default=2_000
    )
    remember: int = setting("HUB_INGEST_REMEMBER", "messages known again when delivered again", default=250_000)
    autosave_s: float = setting(
        "HUB_BROKER_AUTOSAVE_S", "the broker's autosave interval: so far back it may deliver again", default=10.0
    )
    linger_ms: float = setting(
        "HUB_INGEST_LINGER_MS", "how long a message waits for others, so that fewer requests carry more", default=4.0
    )
    kafka_batch_bytes: int = setting("HUB_INGEST_KAFKA_BATCH_BYTES", "largest Kafka batch", default=512 * 1024)

    def problems(self) -> list[str]:
        """Rules that span fields or bound them."""
        found = []
        if not 1 <= self.receive_maximum <= RECEIVE_MAXIMUM_LIMIT:
            found.append(f"HUB_INGEST_RECEIVE_MAXIMUM: 1 to {RECEIVE_MAXIMUM_LIMIT}")
        if self.remember < self.tail_minimum:
            found.append(f"HUB_INGEST_REMEMBER: at least {self.tail_minimum}, or repeats are not known again")
        if self.lease_s < 3:
            found.append("HUB_INGEST_LEASE_S: at least 3 seconds")
        if self.slot < 0:
            found.append("HUB_INGEST_SLOT: 0 or more")
        if not 0 <= self.linger_ms <= 1_000:
            found.append("HUB_INGEST_LINGER_MS: 0 to 1000")
        if not 16 * 1024 <= self.kafka_batch_bytes <= 1024 * 1024:
            found.append("HUB_INGEST_KAFKA_BATCH_BYTES: 16384 to 1048576")
        found += _broker_problems(self.mqtt_url)
        return found

    @property
    def unacknowledged_limit(self) -> int:
        """Beyond so many reading pauses; only a broker that breaks Receive Maximum brings as many."""
        return _BROKEN_MAXIMUM * self.receive_maximum

    @property
    def tail_minimum(self) -> int:
        """The most messages that may be in `raw` and unacknowledged: what one more read can bring is included."""
        return self.unacknowledged_limit + READ_BYTES // _SMALLEST_PUBLISH_BYTES

    def broker_address(self) -> tuple[str, int]:
        """Host and port of HUB_MQTT_URL."""
        parts = urlsplit(self.mqtt_url)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    def broker_tls(self) -> ssl.SSLContext | None:
        """How to speak with it, or None for plain. Raises Permanent for a CA file that is none."""
        return tls.client_context(self.ca_file) if self.mqtt_url.startswith("mqtts://") else None


def _broker_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and "@" not in url
    except ValueError:
        fits = False
    # It is not shown: what is wrong with it may be that it holds a password.
    return (
        []
        if fits
        else ["HUB_MQTT_URL: is not mqtt://host:port or mqtts://host:port (users and passwords stand elsewhere)"]
    )


def broker_password(path: Path, username: str = USERNAME) -> Secret:
    """A service's password from the services' secrets file. Raises ConfigError."""
    try:
        secrets: Mapping[str, str] = msgspec.json.decode(read_secret(path).encode(), type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise ConfigError([f"{path}: is no JSON object of names and passwords"]) from error
    if username not in secrets:
        raise ConfigError([f"{path}: has no password for {username}"])
    return Secret(secrets[username])
