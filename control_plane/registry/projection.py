"""What the broker's records should be, and what to do where they are not. PURE.

Postgres is the truth, the broker's records are its projection. A key that ended, or that Postgres does not know, is
deleted at the broker; one that the broker lost cannot be put back by command (a hash enters only by file and start),
so it is reported. Records whose name is no key id of ours are somebody else's and left alone.

One thing is not done: a hub that was given a wrong or an empty database would find every key unknown and, deleting
them, cut off a whole fleet. So when unknown keys are many, and many of all, they are reported instead.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from control_plane.registry.dynsec import BrokerRecord
from shared.device import Status

KEY_PREFIX = "k:"
MOST_UNKNOWN = 50
MOST_UNKNOWN_SHARE = 0.2
"""Unknown keys are deleted up to the larger of this number and this share of all."""
MOST_REPAIRS = 10_000
"""Of one kind in one comparison; the next one does the rest."""
MOST_NAMED = 200
"""Missing keys that are named; all are counted."""
_HEARD_AT_BROKER = frozenset({Status.PROVISIONED, Status.ACTIVE})


class KeyState(StrEnum):
    """A record's way."""

    PENDING = "pending"  # its registration is under way: the broker may have it
    HELD = "held"  # the broker confirmed it
    ENDED = "ended"
    DOOR = "door"  # without a secret: it lets the session of a gateway with a certificate be closed


@dataclass(frozen=True, slots=True)
class Key:
    """A record as Postgres has it. `enabled`: its device may connect by it now; `revoked`: cut off for good."""

    client_id: str
    state: KeyState
    enabled: bool
    revoked: bool = False


def enabled(status: Status, *, valid: bool = True) -> bool:
    """Whether a device of this status may connect by a key, or a certificate, that is valid at this time."""
    return valid and status in _HEARD_AT_BROKER


@dataclass(frozen=True, slots=True)
class Repair:
    """User names by what is to be done about them, each in order of name.

    `urgent`: those to delete or disable because somebody is cut off, and not because a key was replaced. `missing`:
    the first of `missing_count`. `withheld`: how many unknown ones are too many to be deleted. `desired`, `actual`:
    how many records there should be and are, of those that should. `more`: there is more to do than is named here.
    """

    delete: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    create: tuple[str, ...] = ()
    urgent: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    missing_count: int = 0
    withheld: int = 0
    desired: int = 0
    actual: int = 0
    more: bool = False

    @property
    def commands(self) -> int:
        """How many commands it takes."""
        return len(self.delete) + len(self.disable) + len(self.enable) + len(self.create)


class Comparison:
    """Broker against Postgres, a range of names at a time, in order; what it keeps is bounded by what is wrong."""

    def __init__(self, doors: Mapping[str, Key] | None = None) -> None:
        """`doors`: the records by which certificates' sessions are closed, which stand between the ranges."""
        self._doors = doors or {}
        self._doors_seen: set[str] = set()
        self._delete: list[str] = []
        self._disable: list[str] = []
        self._enable: list[str] = []
        self._unknown: list[str] = []
        self._urgent: set[str] = set()
        self._missing: list[str] = []
        self._missing_count = self._present = self._unknown_count = self._desired = self._actual = 0

    def unknown(self, keys: Mapping[str, Key], records: Iterable[BrokerRecord]) -> list[str]:
        """Names in this range of which `keys` knows nothing: they may have ended long ago."""
        return [record.username for record in records if _ours(record.username) and record.username not in keys]

    def range(self, keys: Mapping[str, Key], records: Collection[BrokerRecord], ended: Collection[str] = ()) -> None:
        """Take the records of one range of names and the keys of the same range, read after them (a fresh key would
        be deleted otherwise). `ended`: those of `unknown` that ended long ago.
        """
        right: set[str] = set()
        for record in records:
            name = record.username
            key = keys.get(name) or self._doors.get(name)
            if key is not None:
                if name in self._doors:
                    self._doors_seen.add(name)
                if self._judge(name, key, record):
                    right.add(name)
            elif _ours(name):
                self._present += 1
                if name in ended:
                    self._delete.append(name)
                else:
                    self._unknown_count += 1
                    if len(self._unknown) < MOST_REPAIRS:
                        self._unknown.append(name)
        for name, key in keys.items():
            if key.state is KeyState.HELD:
                self._desired += 1
                if name in right:
                    self._actual += 1
                else:
                    self._missing_count += 1
                    if len(self._missing) < MOST_NAMED:
                        self._missing.append(name)

    def _judge(self, name: str, key: Key, record: BrokerRecord) -> bool:
        """Whether the record is the one that this key should have."""
        self._present += _ours(name)
        if key.state is KeyState.ENDED or record.client_id != key.client_id:
            self._delete.append(name)
            if key.revoked or key.state is not KeyState.ENDED:
                self._urgent.add(name)
            return False
        if key.enabled and record.disabled:
            self._enable.append(name)
        elif not key.enabled and not record.disabled:
            self._disable.append(name)
            self._urgent.add(name)
        return True

    def repair(self) -> Repair:
        """What brings the broker in line with what was compared."""
        many = self._unknown_count > max(MOST_UNKNOWN, MOST_UNKNOWN_SHARE * self._present)
        delete = self._delete if many else self._delete + self._unknown
        kinds = (delete, self._disable, self._enable)
        lost = [name for name, key in self._doors.items() if name not in self._doors_seen]
        wrong = [name for name in self._delete if name in self._doors]  # deleted, and made again the next time
        return Repair(
            delete=_first(delete),
            disable=_first(self._disable),
            enable=_first(self._enable),
            create=tuple(sorted(lost)),
            urgent=frozenset(self._urgent),
            missing=tuple(self._missing),
            missing_count=self._missing_count,
            withheld=self._unknown_count if many else 0,
            desired=self._desired + len(self._doors),
            actual=self._actual + len(self._doors_seen) - len(wrong),
            more=any(len(kind) > MOST_REPAIRS for kind in kinds)
            or bool(wrong)
            or any(not self._doors[name].enabled for name in lost)  # made to be disabled
            or (not many and self._unknown_count > len(self._unknown)),
        )


def _first(names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names)[:MOST_REPAIRS])


def _ours(name: str) -> bool:
    return name.startswith(KEY_PREFIX)
