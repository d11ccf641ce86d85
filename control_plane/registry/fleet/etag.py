"""Entity tags of devices: what a client saw, and whether that is still so. PURE.

A tag is the device's version, and behind a dash a digest of its keys' use, which changes what is shown but nothing
that a change could lose: If-Match looks at the version alone, If-None-Match at all of it.
"""

import hashlib

from control_plane.registry.device import Device

ANY = "*"


def tag(device: Device) -> str:
    """The ETag of a device with its keys."""
    if not device.keys:
        return versioned(device.version)
    shown = "".join(f"{key.key_id}{key.last_used_at}" for key in device.keys)
    return f'"{device.version}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}"'


def versioned(version: int) -> str:
    """The ETag of what has a version alone."""
    return f'"{version}"'


def expected(if_match: str) -> frozenset[int] | None:
    """The versions that an If-Match allows; None: any. What is no tag of ours allows nothing."""
    if if_match.strip() == ANY:
        return None
    found = set()
    for item in if_match.split(","):
        version = item.strip().strip('"').partition("-")[0]
        if item.strip().startswith('"') and version.isascii() and version.isdigit() and len(version) < 19:
            found.add(int(version))
    return frozenset(found)


def seen(if_none_match: str | None, present: str) -> bool:
    """Whether the client has this already; a weak tag of ours counts too."""
    if if_none_match is None:
        return False
    tags = {item.strip().removeprefix("W/") for item in if_none_match.split(",")}
    return ANY in tags or present in tags
