"""What every stream job is told."""

import re
from dataclasses import dataclass
from pathlib import Path

from shared.config import setting

_INSTANCE = re.compile(r"^[A-Za-z0-9_-]{1,32}\Z")


@dataclass(frozen=True, slots=True)
class JobConfig:
    """Of one process that runs one stream job. Subclasses add what their job is told."""

    kafka_bootstrap: str = setting("HUB_KAFKA_BOOTSTRAP", "Kafka, host:port")
    data_dir: Path = setting("HUB_DATA_DIR", "where the hub's processes keep what is theirs")
    instance: str = setting(
        "HUB_ANALYTICS_INSTANCE", "this process's name among those of its job, kept over restarts", default="0"
    )
    commit_every_ms: int = setting(
        "HUB_ANALYTICS_COMMIT_MS", "a transaction's length, hence the latency that readers see", default=50
    )
    health_host: str = setting("HUB_HEALTH_HOST", "address of /metrics, /healthz and /readyz", default="127.0.0.1")
    health_port: int = setting("HUB_HEALTH_PORT", "its port; 0 takes a free one", default=0)
    log_level: str = setting("HUB_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", default="INFO")

    def problems(self) -> list[str]:
        """Rules that bound the values."""
        found = []
        if _INSTANCE.match(self.instance) is None:
            found.append("HUB_ANALYTICS_INSTANCE: 1 to 32 of A-Z a-z 0-9 _ -")
        if not 10 <= self.commit_every_ms <= 5_000:
            found.append("HUB_ANALYTICS_COMMIT_MS: 10 to 5000")
        return found
