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
    CHANGED = "changed"  # serial, labels, location or limits
    ENROLLED = "enrolled"
    APPROVED = "approved"
    ACTIVATED = "activated"  # its key was used for the first time
    QUARANTINED = "quarantined"
    RELEASED = "released"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    RETIRED = "retired"
    REVOKED = "revoked"  # cut off for good: stolen
    REPLACED = "replaced"  # other hardware took over
    ROTATED = "rotated"  # a new key took the place of an old one


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
