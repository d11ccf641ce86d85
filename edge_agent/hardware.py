"""What this hardware is called: the same after its software was installed anew, another on another box.

Of three sources the first that names anything is taken, so that a plugged-in adapter or a new system disk changes
nothing where the board has a name: the board (device tree; DMI, which only root may read), the addresses of its
built-in network adapters, `/etc/machine-id`. Of all of it the hub gets one SHA-256. Where none of them tells machines
apart (containers, several agents on one machine) the operator names the hardware.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

_BOARD = (
    "proc/device-tree/serial-number",
    "sys/class/dmi/id/product_uuid",
    "sys/class/dmi/id/board_serial",
    "sys/class/dmi/id/product_serial",
)
_NO_NAMES = frozenset(
    {
        "",
        "none",
        "unknown",
        "default string",
        "not specified",
        "not applicable",
        "to be filled by o.e.m.",
        "system serial number",
    }
)
"""What makers leave where a serial number belongs."""
_PERMANENT = "0"
"""addr_assign_type: the address is the adapter's own (Linux, Documentation/ABI/testing/sysfs-class-net)."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """`id`: 64 hexadecimal digits. `source`: what it was made of: board, adapters, machine-id or given."""

    id: str
    serial: str
    source: str


def look(root: Path = Path("/")) -> Hardware | None:
    """The hardware that this runs on, or None if it has no name of any kind."""
    board = [
        name for name in (_word(root / path) for path in _BOARD) if name.lower() not in _NO_NAMES and name.strip("0-")
    ]
    if board:
        return _hardware("board", board, board[0])
    adapters = _adapters(root)
    if adapters:
        return _hardware("adapters", adapters, adapters[0].replace(":", ""))
    machine = _word(root / "etc/machine-id")
    if machine:
        # The id itself is meant for this machine only (machine-id(5)), so not even its beginning is shown.
        found = _hardware("machine-id", [machine], "")
        return Hardware(found.id, f"m-{found.id[:12]}", found.source)
    return None


def named(text: str) -> Hardware:
    """Hardware that the operator names."""
    return _hardware("given", [text], text)


def _hardware(source: str, names: list[str], serial: str) -> Hardware:
    digest = hashlib.sha256("\n".join(["edge-agent hardware 1", source, *names]).encode()).hexdigest()
    return Hardware(digest, "".join(one for one in serial if one.isprintable())[:128], source)


def _adapters(root: Path) -> list[str]:
    """Permanent addresses of adapters that are built in: no bridges, no virtual ones, nothing on USB."""
    found = set()
    try:
        adapters = sorted((root / "sys/class/net").iterdir())
    except OSError:
        return []
    for adapter in adapters:
        device = adapter / "device"
        if not device.exists() or "/usb" in str(device.resolve()):
            continue
        address = _word(adapter / "address").lower()
        if _word(adapter / "addr_assign_type") == _PERMANENT and address.strip("0:"):
            found.add(address)
    return sorted(found)


def _word(path: Path) -> str:
    try:
        return path.read_bytes()[:256].decode(errors="replace").strip("\0 \t\r\n")
    except OSError:
        return ""
