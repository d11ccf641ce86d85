"""The records of a gateway's local broker on the LAN, in the hub's shape. PURE.

A device has the same key here as at the hub: user name = key id, client id = device id, the hash as the hub gives it,
so it is let in without the hub too. The loopback listener stays the agent's own. Leaves files to `local_broker_file`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.broker_access import DEVICE_RULES, Action
from shared.dynsec_document import BrokerClient
from shared.ids import is_device_id

_BARRED = frozenset({"quarantined", "suspended", "retired"})
_KEY_ID = re.compile(r"k:[a-z0-9]{1,64}")
_HASH = re.compile(r"\$7\$[1-9][0-9]{0,6}\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/]{86}==")
_LOCAL = ("devices/",)
"""What a device says to a gateway; batches and acknowledgements are between gateway and hub."""


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """A device behind this gateway, with its living keys: (key id, hash)."""

    id: str
    status: str
    keys: tuple[tuple[str, str], ...]


def records(devices: Iterable[LocalDevice]) -> list[BrokerClient]:
    """One record for each key, disabled where the device is barred. What is no id, key or hash of ours is left out:
    a broker that does not start for one bad line would lock out all.
    """
    found = {
        key_id: BrokerClient(key_id, digest, device.id, disabled=device.status in _BARRED)
        for device in devices
        if is_device_id(device.id)
        for key_id, digest in device.keys
        if _KEY_ID.fullmatch(key_id) and _HASH.fullmatch(digest)
    }
    return [found[name] for name in sorted(found)]


def acl_file() -> str:
    """Mosquitto's acl_file of the LAN listener: each device as itself only."""
    verbs = {Action.PUBLISH: "write", Action.SUBSCRIBE: "read"}
    lines = [f"pattern {verbs[rule.action]} {rule.filter}" for rule in DEVICE_RULES if rule.filter.startswith(_LOCAL)]
    return "\n".join(
        ["# Written by edge-agent: devices by their client id, to which their record is bound.", *lines, ""]
    )
