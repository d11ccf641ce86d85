"""Which devices are this gateway's, as the hub last said, and so what is done with their messages. PURE.

Promises: what was learned is kept over restarts (`encode`, `decode`), so a gateway without its hub goes on as before.
A gateway that never heard of its devices lets all pass: the hub judges them, as it does for agents that ask nothing.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

MOST_UNKNOWN = 1_000
"""Unknown devices that are remembered at once; others are held, and told of when there is room."""
_PENDING = "pending"


class Gate(StrEnum):
    """What is done with a device's message."""

    PASS = "pass"  # noqa: S105 - a word
    HOLD = "hold"
    DROP = "drop"


class Key(msgspec.Struct, frozen=True):
    """A living key of a device, by its hash in the broker's form."""

    key_id: str
    hash: str


class Device(msgspec.Struct, frozen=True):
    """A device that the gateway speaks for."""

    id: str
    status: str
    pseudonym: str = ""
    keys: tuple[Key, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """What the hub says (`GET /v1/self/devices`), and what is kept."""

    devices: tuple[Device, ...] = ()
    version: str = ""
    unknown_devices: str = "reject"


class DeviceBook:
    """One gateway's, of which `gateway` is the id."""

    def __init__(self, gateway: str, page: Page | None = None) -> None:
        self._gateway = gateway
        self.page = page or Page()
        self._statuses: dict[str, str] = {}
        self._refused: set[str] = set()
        self.unknown: dict[str, None] = {}
        """Devices that were heard and are to be reported, in order of their first message."""
        self._learn()

    def gate(self, device: str) -> Gate:
        """What is done with a message of the device; an unknown one is noted."""
        status = self._statuses.get(device)
        if status is not None:
            return Gate.HOLD if status == _PENDING else Gate.PASS
        if self.page.unknown_devices != _PENDING or device == self._gateway:
            return Gate.PASS
        if device in self._refused:
            return Gate.DROP
        if len(self.unknown) < MOST_UNKNOWN:
            self.unknown.setdefault(device)
        return Gate.HOLD

    def turn(self, page: Page) -> None:
        """The hub said anew what is there."""
        self.page = page
        self._learn()

    def answered(self, words: Mapping[str, str]) -> list[str]:
        """What became of reported devices; those that were refused."""
        refused = []
        for device, word in words.items():
            if word == "later":
                continue  # told again with the next report
            self.unknown.pop(device, None)
            if word == "refused":
                self._refused.add(device)
                refused.append(device)
            else:
                self._statuses.setdefault(device, _PENDING)  # the next page says more
        return refused

    def passes(self, device: str) -> bool:
        """Whether the device's rows wait for nothing; notes nothing."""
        status = self._statuses.get(device)
        return status != _PENDING if status is not None else self.page.unknown_devices != _PENDING

    @property
    def pending(self) -> int:
        """How many wait for approval."""
        return sum(status == _PENDING for status in self._statuses.values())

    def _learn(self) -> None:
        before = self._statuses
        self._statuses = {device.id: device.status for device in self.page.devices}
        for device, status in before.items():
            if status == _PENDING and device not in self._statuses:
                self.gate(device)  # its rows wait here: ask what became of it
        self._refused -= self._statuses.keys()
        for device in self._statuses:
            self.unknown.pop(device, None)


def encode(page: Page) -> bytes:
    """What is kept."""
    return msgspec.json.encode(page)


def decode(data: bytes) -> Page | None:
    """What was kept, or None if it cannot be read: the hub says it again."""
    try:
        return msgspec.json.decode(data, type=Page)
    except msgspec.DecodeError:
        return None


def passes_all(_device: str) -> Gate:
    """The gate of an agent that asks nothing."""
    return Gate.PASS
