"""What the registry shows of devices and types. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.device import Kind, Status


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One live key of a device, without its secret."""

    key_id: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Device:
    """One registered device."""

    id: str
    serial: str
    type: str
    kind: Kind
    status: Status
    gateway_id: str | None
    labels: Mapping[str, str]
    version: int
    created_at: datetime
    updated_at: datetime
    keys: tuple[KeyUse, ...] = ()
    location: Mapping[str, Any] | None = None
    limits: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class DeviceType:
    """One type: what is expected of its metrics, and how much its devices may send."""

    name: str
    metrics: Mapping[str, Mapping[str, Any]]
    limits: Mapping[str, float] | None
    version: int
    updated_at: datetime
