"""A group, and a search narrowed by its query. PURE.

`{"labels": ["site=berlin", "mains"], "type": "thermometer", "kind": "device"}`: all of it must hold.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control_plane.registry.fleet.search import Filter, Label
from shared.device import Kind


@dataclass(frozen=True, slots=True)
class Group:
    """One group; `query` None: its members are listed."""

    name: str
    description: str
    query: Mapping[str, Any] | None
    version: int
    created_at: datetime
    updated_at: datetime


def narrowed(wanted: Filter, query: Mapping[str, Any]) -> Filter:
    """The filter with the query's conditions as further labels, and as type and kind where it has none yet.

    Where both name a type or a kind, and not the same, nobody is both: NOBODY.
    """
    kind = Kind(query["kind"]) if query.get("kind") else None
    named = query.get("type")
    if (wanted.kind and kind and wanted.kind is not kind) or (wanted.type and named and wanted.type != named):
        return NOBODY
    labels = tuple(label(item) for item in query.get("labels", ()))
    return dataclasses.replace(
        wanted, kind=wanted.kind or kind, type=wanted.type or named, labels=wanted.labels + labels
    )


def label(selector: str) -> Label:
    """A selector, `name=value` or `name`, as the search takes it."""
    name, equals, value = selector.partition("=")
    return Label(name, value if equals else None)


NOBODY = Filter(type="")
"""No device has no type."""
