"""What the broker's records should be, and what to do where they are not. PURE.

Postgres is the truth, the broker's records are its projection. A key that ended, or that Postgres does not know, is
deleted at the broker; one that the broker lost cannot be put back by command (a hash enters only by file and start),
so it is reported. Records whose name is no key id of ours are somebody else's and left alone.

One thing is not done: a hub that was given a wrong or an empty database would find every key unknown and, deleting
them, cut off a whole fleet. So when unknown keys are many, and many of all, they are reported instead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from control_plane.registry.dynsec import BrokerRecord
from shared.device import Status

KEY_PREFIX = "k:"
MOST_UNKNOWN = 50
MOST_UNKNOWN_SHARE = 0.2
"""Unknown keys are deleted up to the larger of this number and this share of all."""
_HEARD_AT_BROKER = frozenset({Status.PROVISIONED, Status.ACTIVE})


class KeyState(StrEnum):
    """A key's way."""

    PENDING = "pending"  # its registration is under way: the broker may have it
    HELD = "held"  # the broker confirmed it
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as Postgres has it. `enabled`: its device may connect."""

    client_id: str
    state: KeyState
    enabled: bool


def enabled(status: Status) -> bool:
    """Whether a device of this status may connect."""
    return status in _HEARD_AT_BROKER


@dataclass(frozen=True, slots=True)
class Repair:
    """User names by what is to be done about them, each in order of name; `withheld` are too many to be deleted."""

    delete: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


def compare(keys: Mapping[str, Key], records: Iterable[BrokerRecord]) -> Repair:
    """What brings the broker to `keys`; they must have been read after `records`, or a fresh key would be deleted."""
    present = {record.username: record for record in records if record.username.startswith(KEY_PREFIX)}
    unknown = {name for name in present if name not in keys}
    delete: set[str] = set()
    disable: set[str] = set()
    enable: set[str] = set()
    for name in present.keys() - unknown:
        key, record = keys[name], present[name]
        if key.state is KeyState.ENDED or record.client_id != key.client_id:
            delete.add(name)
        elif key.enabled and record.disabled:
            enable.add(name)
        elif not key.enabled and not record.disabled:
            disable.add(name)
    missing = {
        name for name, key in keys.items() if key.state is KeyState.HELD and (name not in present or name in delete)
    }
    withheld = unknown if len(unknown) > max(MOST_UNKNOWN, MOST_UNKNOWN_SHARE * len(present)) else set()
    return Repair(
        tuple(sorted(delete | (unknown - withheld))),
        tuple(sorted(disable)),
        tuple(sorted(enable)),
        tuple(sorted(missing)),
        tuple(sorted(withheld)),
    )
