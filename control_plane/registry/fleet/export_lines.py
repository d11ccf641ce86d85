"""Devices as lines of an export, in JSON or CSV: what `import_lines` reads. PURE."""

import csv
import json
from collections.abc import Iterable
from typing import Any

from control_plane.registry.device import Device
from control_plane.registry.fleet.import_lines import COLUMNS, Format


def header(written: Format) -> str:
    """What stands before the first device."""
    return "" if written is Format.JSON_LINES else _csv([], named=True)


def lines(devices: Iterable[Device], written: Format) -> str:
    """These devices, a line each."""
    if written is Format.CSV:
        return _csv([_flat(device) for device in devices], named=False)
    return "".join(json.dumps(_document(device), ensure_ascii=False) + "\n" for device in devices)


def _document(device: Device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": device.id,
        "serial": device.serial,
        "type": device.type,
        "kind": device.kind.value,
        "gateway_id": device.gateway_id,
        "status": device.status.value,
        "labels": dict(device.labels),
        "location": dict(device.location) if device.location else None,
        "limits": dict(device.limits) if device.limits else None,
        "created_at": device.created_at.isoformat(),
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _flat(device: Device) -> dict[str, Any]:
    found = _document(device)
    labels = found.pop("labels", None)
    parts: dict[str, Any] = {**found.pop("location", {}), **found.pop("limits", {})}
    return found | parts | ({"labels": json.dumps(labels, ensure_ascii=False)} if labels else {})


def _csv(rows: Iterable[dict[str, Any]], *, named: bool) -> str:
    text = _Text()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if named:
        writer.writeheader()
    else:
        writer.writerows(rows)
    return "".join(text.parts)


class _Text:
    """What the writer writes into."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def write(self, part: str) -> None:
        self.parts.append(part)
