"""What a change of a device asks for, and what comes of it (RFC 7396: null removes). PURE."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LABELS = 16


@dataclass(frozen=True, slots=True)
class Patch:
    """Fields that are asked for by name; the others stay. `labels`, `location`, `limits`: None removes all of it."""

    asked: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Values:
    """What can be changed of a device."""

    serial: str
    labels: Mapping[str, str]
    location: Mapping[str, Any] | None
    limits: Mapping[str, float] | None


def apply(patch: Patch, before: Values) -> Values:
    """The values after the change."""
    asked = patch.asked
    return Values(
        serial=asked.get("serial", before.serial),
        labels=_merged(asked, "labels", before.labels) or {},
        location=_merged(asked, "location", before.location) or None,
        limits=_merged(asked, "limits", before.limits) or None,
    )


def difference(before: Values, after: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that changed, as they were and as they are: for the audit log."""
    names = [name for name in Values.__slots__ if getattr(before, name) != getattr(after, name)]
    return {name: getattr(before, name) for name in names}, {name: getattr(after, name) for name in names}


def _merged(asked: Mapping[str, Any], name: str, before: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if name not in asked:
        return before
    change = asked[name]
    if change is None:
        return None
    merged = {**(before or {}), **change}
    return {key: value for key, value in merged.items() if value is not None}
