"""The secrets of the brokers' HTTP door, from HUB_SERVICE_SECRETS_FILE."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.broker_access import SERVICE_RULES
from shared.config import ConfigError, Secret, read_secret

BROKER = "_broker"
"""Its name in the file: what a broker shows when it asks. No client of a broker."""


@dataclass(frozen=True, slots=True)
class DoorSecrets:
    """`broker`: what a broker must show, None: the door is closed. `services`: our own services' by user name."""

    broker: Secret | None = field(repr=False)
    services: Mapping[str, Secret] = field(repr=False)


def door_secrets(path: Path) -> DoorSecrets:
    """Read them. Raises ConfigError."""
    try:
        found: dict[str, str] = json.loads(str(read_secret(path)))
        broker = found.get(BROKER)
        services = {name: Secret(found[name]) for name in SERVICE_RULES if found.get(name)}
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError([f"HUB_SERVICE_SECRETS_FILE: {path} is no JSON object of secrets"]) from error
    return DoorSecrets(Secret(broker) if broker else None, services)
