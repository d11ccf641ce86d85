"""What the lifecycle topic says: that something happened to a device. PURE.

The registry topic holds what a device is; this one tells each change once it happened, for those who act on changes.
"""

from enum import StrEnum

import msgspec

from shared.device import DeviceView

TYPE = "iot.device.lifecycle.v1"
VIEW_TYPE = "iot.device.registry.v1"


class Change(StrEnum):
    """What happened."""

    REGISTERED = "registered"
    ASSIGNED = "assigned"  # to another gateway, or to none


def encode(view: DeviceView, change: Change) -> bytes:
    """The data of one event (shared/schemas/iot.device.lifecycle.v1.json)."""
    owner = next((own.gateway_id for own in view.gateways if own.until_ms is None), None)
    body: dict[str, object] = {
        "device_id": view.id,
        "change": change,
        "kind": view.kind,
        "type": view.type,
        "status": view.status,
        "version": view.version,
    }
    if owner is not None:
        body["gateway_id"] = owner
    return msgspec.json.encode(body)
