"""The agent's configuration: environment, then `agent.toml` in its data directory; every mistake at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.row import RowClass
from shared.config import ConfigError, Secret, load, read_secret_line, read_toml, setting
from shared.errors import Rejected
from shared.ids import parse_device_id

VERSION = "0.1.0"
"""The package's, as it stands in pyproject.toml; asking importlib.metadata costs half a megabyte resident."""

DATA_DIR = Path("/var/lib/edge-agent")
CONFIG_FILE = "agent.toml"
KEY_FILE = "key"
OUTBOX_FILE = "outbox.db"
MODELS_FILE = "models.db"
LOCK_FILE = "agent.lock"
RECEIVE_MAXIMUM_MOST = 5_000
"""Half of the messages that intake remembers: a redelivery of all that was unacknowledged must find itself known."""
_EXPIRE_LEAST_S, _EXPIRE_MOST_S = 60.0, 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What `edge-agent` reads, of one gateway. Sizes and times carry their unit in the name."""

    agent_id: str = setting("AGENT_ID", "this gateway's id, as registered")
    hub_mqtt_url: str = setting("HUB_MQTT_URL", "the hub's broker, mqtt://host:port or mqtts://host:port")
    data_dir: Path = setting(
        "AGENT_DATA_DIR", "directory of the outbox and the models, this agent's alone", default=DATA_DIR
    )
    key_file: Path = setting(
        "AGENT_KEY_FILE",
        "file of mode 0600 with the key: <key id>.<secret>; by default `key` in AGENT_DATA_DIR",
        default=DATA_DIR / KEY_FILE,
    )
    local_mqtt_url: str = setting("AGENT_LOCAL_MQTT_URL", "this gateway's broker", default="mqtt://127.0.0.1:1883")
    hub_api_url: str | None = setting(
        "HUB_API_URL", "the hub's REST API, https://host:port; none: this agent asks it nothing", default=None
    )
    key_check_s: float = setting(
        "AGENT_KEY_CHECK_S",
        "how often the hub is asked whether the key is to be replaced; 0 never",
        default=21_600.0,
    )
    devices_every_s: float = setting(
        "AGENT_DEVICES_EVERY_S", "how often the hub is asked which devices are this gateway's", default=30.0
    )
    hub_ca_file: Path | None = setting("AGENT_HUB_CA_FILE", "CA of the hub's broker and API", default=None)
    hub_mtls_url: str | None = setting(
        "HUB_MQTT_MTLS_URL",
        "the hub's broker for certificates, mqtts://host:port; used with AGENT_CERT_FILE",
        default=None,
    )
    cert_file: Path | None = setting("AGENT_CERT_FILE", "PEM: this gateway's client certificate", default=None)
    cert_key_file: Path | None = setting("AGENT_CERT_KEY_FILE", "PEM: its key, mode 0600", default=None)
    lan_dir: Path | None = setting(
        "AGENT_LAN_DIR",
        "where the local broker's records of the LAN's devices are kept; none: no such listener",
        default=None,
    )
    lan_restart_command: str | None = setting(
        "AGENT_LAN_RESTART_COMMAND",
        "restarts the local broker, so that it loads them; none: somebody else does",
        default=None,
    )
    lan_anonymous: bool = setting("AGENT_LAN_ANONYMOUS", "the local broker lets anybody on the LAN in", default=False)
    health_host: str = setting(
        "AGENT_HEALTH_HOST", "where /metrics, /healthz and /readyz are served", default="127.0.0.1"
    )
    health_port: int = setting("AGENT_HEALTH_PORT", "its port; 0 takes a free one", default=9109)
    log_level: str = setting("AGENT_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", default="INFO")
    receive_maximum: int = setting(
        "AGENT_RECEIVE_MAXIMUM", "messages of the local broker that may be unacknowledged", default=1_000
    )
    commit_every_ms: int = setting("AGENT_COMMIT_EVERY_MS", "group commit of the outbox", default=20)
    first_connect_s: float = setting(
        "AGENT_FIRST_CONNECT_S", "the first connection to the hub is delayed by up to so long", default=10.0
    )
    outbox_max_mib: int = setting("AGENT_OUTBOX_MAX_MIB", "the outbox file's budget", default=2_048)
    disk_floor_mib: int = setting("AGENT_DISK_FLOOR_MIB", "free disk that is never taken", default=128)
    expire: tuple[str, ...] = setting(
        "AGENT_EXPIRE_S",
        "seconds after which rows of a class are given up, such as telemetry=604800,event=2592000; others never",
        default=(),
    )
    replay_per_s: float = setting("AGENT_REPLAY_PER_S", "records a second of backlog beside live", default=50_000.0)
    scoring: bool = setting("AGENT_SCORING", "on or off", default=True)
    model: str = setting("AGENT_MODEL", "edge, or one of River's: gaussian, hst, loda, sad, svm", default="edge")
    max_channels: int = setting("AGENT_MAX_CHANNELS", "channels scored; about 10 KiB each", default=2_000)
    unscored: tuple[str, ...] = setting("AGENT_UNSCORED", "metrics that are not scored", default=("n", "seq"))
    alarm_statuses: tuple[str, ...] = setting(
        "AGENT_ALARM_STATUSES", "status words that make a reading an alarm", default=("ALARM", "CRITICAL")
    )
    models_save_s: float = setting("AGENT_MODELS_SAVE_S", "how often learned state is saved", default=300.0)
    health_readings_s: float = setting(
        "AGENT_HEALTH_READINGS_S", "how often the gateway's own health is read; 0 never", default=10.0
    )

    @property
    def certified(self) -> bool:
        """Whether the hub is reached by certificate; else by key."""
        return self.hub_mtls_url is not None and self.cert_file is not None

    @property
    def outbox_path(self) -> Path:
        """The outbox's file."""
        return self.data_dir / OUTBOX_FILE

    @property
    def models_path(self) -> Path:
        """The learned state's file."""
        return self.data_dir / MODELS_FILE

    @property
    def expire_after_s(self) -> dict[RowClass, float]:
        """Seconds by class; classes that are not in it never expire."""
        found, _ = _expiry(self.expire)
        return found

    def problems(self) -> list[str]:
        """What is wrong beyond single values' types."""
        _, found = _expiry(self.expire)
        if self.lan_anonymous and self.lan_dir is not None:
            found.append("AGENT_LAN_ANONYMOUS: with AGENT_LAN_DIR each device has its key; leave one of them out")
        parsed = parse_device_id(self.agent_id)
        if isinstance(parsed, Rejected):
            found.append(f"AGENT_ID: {parsed.detail}")
        for name, url in (("HUB_MQTT_URL", self.hub_mqtt_url), ("AGENT_LOCAL_MQTT_URL", self.local_mqtt_url)):
            found += [f"{name}: {problem}" for problem in _url_problems(url)]
        if self.hub_mtls_url is not None and not self.hub_mtls_url.startswith("mqtts://"):
            found.append("HUB_MQTT_MTLS_URL: write mqtts://host:port")
        if self.cert_key_file is not None and self.cert_file is None:
            found.append("AGENT_CERT_KEY_FILE: is given without AGENT_CERT_FILE")
        for name, value, least, most in (
            ("AGENT_HEALTH_PORT", self.health_port, 0, 65_535),
            ("AGENT_RECEIVE_MAXIMUM", self.receive_maximum, 1, RECEIVE_MAXIMUM_MOST),
            ("AGENT_COMMIT_EVERY_MS", self.commit_every_ms, 1, 10_000),
            ("AGENT_FIRST_CONNECT_S", self.first_connect_s, 0, 86_400),
            ("AGENT_OUTBOX_MAX_MIB", self.outbox_max_mib, 32, 1_048_576),
            ("AGENT_DISK_FLOOR_MIB", self.disk_floor_mib, 0, 1_048_576),
            ("AGENT_REPLAY_PER_S", self.replay_per_s, 1, 10_000_000),
            ("AGENT_MAX_CHANNELS", self.max_channels, 1, 100_000),
            ("AGENT_DEVICES_EVERY_S", self.devices_every_s, 1, 86_400),
            ("AGENT_MODELS_SAVE_S", self.models_save_s, 1, 86_400),
        ):
            if not least <= value <= most:
                found.append(f"{name}: {value:g} is not between {least} and {most}")
        if self.key_check_s != 0 and not 1 <= self.key_check_s <= 30 * 86_400:
            found.append("AGENT_KEY_CHECK_S: 0, or between 1 and 2592000")
        if self.health_readings_s != 0 and not 0.1 <= self.health_readings_s <= 86_400:
            found.append("AGENT_HEALTH_READINGS_S: 0, or between 0.1 and 86400")
        if self.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            found.append(f"AGENT_LOG_LEVEL: {self.log_level!r} is none of DEBUG, INFO, WARNING, ERROR")
        return found


def load_config(env: Mapping[str, str]) -> AgentConfig:
    """The configuration from the environment and, where it exists, `agent.toml` in AGENT_DATA_DIR.

    Raises ConfigError with all mistakes.
    """
    data_dir = Path(env.get("AGENT_DATA_DIR") or DATA_DIR)
    file = data_dir / CONFIG_FILE
    table = read_toml(file if file.exists() else None)
    return load(AgentConfig, env, {"key_file": str(data_dir / KEY_FILE)} | table)


def read_key(path: Path) -> tuple[str, Secret]:
    """(key id, secret) of a key file. Raises ConfigError if it is missing, readable by others, or no key."""
    text = read_secret_line(path)
    key_id, dot, secret = text.partition(".")
    if not dot or not key_id or not secret or any(part.isspace() for part in text):
        raise ConfigError([f"{path}: is not one line <key id>.<secret>, as the registration printed it"])
    return key_id, Secret(secret)


def _expiry(items: Sequence[str]) -> tuple[dict[RowClass, float], list[str]]:
    """Seconds by class, and every mistake."""
    found: dict[RowClass, float] = {}
    problems = []
    for item in items:
        name, _, text = item.partition("=")
        try:
            cls, seconds = RowClass(name.strip()), float(text)
        except ValueError:
            classes = ", ".join(RowClass)
            problems.append(f"AGENT_EXPIRE_S: {item!r} is not CLASS=SECONDS (classes: {classes})")
            continue
        if cls in found:
            problems.append(f"AGENT_EXPIRE_S: {cls} is named twice")
        elif not _EXPIRE_LEAST_S <= seconds <= _EXPIRE_MOST_S:
            problems.append(f"AGENT_EXPIRE_S: {item!r} is not between 60 s and 10 years")
        found[cls] = seconds
    return found, problems


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return [f"{error}"]
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0:
        return ["write mqtt://host:port or mqtts://host:port"]
    if parts.username or parts.password:
        return ["a URL is no place for a key; use AGENT_KEY_FILE"]
    return []
