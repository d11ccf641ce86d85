"""How much each sender may send: its buckets, whose excess is marked or asked to slow down. PURE.

Promises: a sender within its rates is never marked. A bucket is one number, the moment at which it is full again, so
judging a message is some additions; the whole of it is bounded by the senders that `flow` remembers. Who is not known
has the default rates; nobody waits for the registry.

What ingest did not read it does not hold against anybody: after a time in which messages waited at the broker (the
link was down, ingest was dead, Kafka away) a sender has the allowance of that time too, until no more waits.

A gateway is never refused anything. Over its rates it is hinted to send more slowly (`hint_for`); once it echoes the
hint, twice that rate is borne for long, and more is a hint ignored.
"""

from collections.abc import Mapping
from sys import intern

from shared.batch import Hint
from shared.bounded import Bounded
from shared.device import DeviceView, Kind, Limits
from shared.ids import DeviceId
from shared.limits import BATCH_RECORDS
from shared.rates import Defaults

KNOWN_DEVICES = 200_000
"""The most senders of which type and own limits are known; beyond it those heard of longest ago get the defaults."""
NOTICE_S = 10.0
"""A device over its limit gets one notice in so long."""
HINT_S = 30.0
"""A hint holds for so long after a gateway was last over its rates."""
HINT_AGAIN_S = 2.0
"""While it holds it is repeated with an acknowledgement, once in so long."""
LONGEST_CREDIT_S = 600.0
CAUGHT_UP_S = 1.0
"""So long nothing waited at the broker: what comes now was sent now."""
_OBEYED_SHARE = 2.0
_OBEYED_S = 15.0
_DEBT_S = 60.0
_MOST_HINTED = 10_000
_MOST_NOTICES = 1_000
_OVERHEAD_BYTES = 40  # of an MQTT packet and a short topic
_FULL_READ_BYTES = 48 * 1024


class Book:
    """What the registry says of limits, as far as it was read. `revision` rises with each change."""

    def __init__(self, known: int = KNOWN_DEVICES) -> None:
        self.revision = 0
        self._defaults = Defaults()
        self._known: Bounded[str, tuple[str, Limits | None]] = Bounded(known)

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, view: DeviceView) -> None:
        """A device of the registry. Who is behind a gateway does not speak to ingest and is not kept."""
        if any(own.until_ms is None for own in view.gateways):
            self.forget(view.id)
            return
        said = (intern(view.type), view.limits)  # one word for each type: a fleet has few of them
        if self._known.get(view.id) != said:
            self._known.keep(view.id, said)
            self.revision += 1

    def learn_defaults(self, defaults: Defaults) -> None:
        """What types and the policy say; an older one is ignored."""
        if defaults.version >= self._defaults.version:
            self._defaults = defaults
            self.revision += 1

    def forget(self, device_id: str) -> None:
        """It is gone, or behind a gateway."""
        if self._known.pop(device_id, None) is not None:
            self.revision += 1

    def rates(self, owner: DeviceId, kind: Kind) -> tuple[float, float, float, float]:
        """Messages, bytes and readings a second, and the burst in seconds."""
        device_type, own = self._known.get(owner, (None, None))
        found = self._defaults.rates(kind, device_type, own)
        return found.messages_per_s, found.bytes_per_s, found.readings_per_s, found.burst_s


class Meter:
    """One sender's buckets. `…_at`: when it is full again; a moment of the clock that `Limiter.tick` is given."""

    __slots__ = (
        "burst_s", "bytes_at", "hint", "hold_until", "kind", "messages_at", "noticed_at", "obeyed_at", "owner",
        "per_byte", "per_message", "per_reading", "readings_at", "revision", "seen", "told_at",
    )  # fmt: skip

    def __init__(self, owner: DeviceId, kind: Kind) -> None:
        self.owner = owner
        self.kind = kind
        self.revision = -1
        self.per_message = self.per_byte = self.per_reading = self.burst_s = 0.0
        self.messages_at = self.bytes_at = self.readings_at = self.obeyed_at = 0.0
        self.noticed_at = self.told_at = float("-inf")
        self.hint: Hint | None = None
        self.hold_until = 0.0
        self.seen = (0.0, 0.0, 0.0)
        """Of a gateway: messages, bytes and readings of late; their ratios count."""


class Limiter:
    """Judges every new message. `now`: the clock at the start, less how long nobody may have been reading."""

    def __init__(self, book: Book, now: float) -> None:
        self._book = book
        self._now = now
        self._floor = now
        self._waited_at = now
        self._fresh = True
        self._hinted: Bounded[DeviceId, Meter] = Bounded(_MOST_HINTED)
        self._notices: Bounded[DeviceId, float] = Bounded(_MOST_NOTICES)
        self._hints = 0

    def opened(self, now: float) -> None:
        """A new connection: what comes first was sent since the last one was read."""
        self._floor = max(min(self._floor, self._now), now - LONGEST_CREDIT_S)
        self._fresh = True
        self._now = now

    def connected(self, now: float) -> None:
        """The broker has let us in: what waits for us comes at once, and what comes later did not wait."""
        self._fresh = False
        self._waited_at = now + CAUGHT_UP_S

    def tick(self, now: float, sizes: int, messages: int, *, waiting: bool) -> None:
        """A read: its payloads' bytes and its messages. `waiting`: the broker may hold messages back for us."""
        self._now = now
        if self._fresh:  # a kept session delivers before we know that we are in
            self._waited_at = now + CAUGHT_UP_S
        if waiting or sizes + _OVERHEAD_BYTES * messages >= _FULL_READ_BYTES:
            self._waited_at = max(self._waited_at, now)
        if now - self._waited_at >= CAUGHT_UP_S:
            self._floor = now
        else:
            self._floor = max(self._floor, now - LONGEST_CREDIT_S)

    def direct(self, meter: Meter, size: int) -> bool:
        """Whether this message of a device is within its rates; only then it counts against them."""
        if meter.revision != self._book.revision:
            self._adopt(meter)
        floor = self._floor
        messages_at = meter.messages_at
        bytes_at = meter.bytes_at
        messages_at = max(messages_at, floor)
        bytes_at = max(bytes_at, floor)
        latest = self._now + meter.burst_s
        if messages_at < latest and bytes_at < latest:
            meter.messages_at = messages_at + meter.per_message
            meter.bytes_at = bytes_at + size * meter.per_byte
            return True
        if self._now - meter.noticed_at >= NOTICE_S:
            meter.noticed_at = self._now
            self._notices.keep(meter.owner, max(messages_at, bytes_at) - self._now)
        return False

    def notices(self) -> Mapping[DeviceId, float]:
        """Devices that are to be told that they are over their limit, each with the seconds until its whole
        allowance is back if it pauses now; each is given once.
        """
        if not self._notices:
            return {}
        found, self._notices = self._notices, Bounded(_MOST_NOTICES)
        return found

    def batch(self, meter: Meter, size: int, properties: Mapping[str, bytes]) -> str | None:
        """Count a gateway's batch; the id of the hint that it echoes and does not obey, if so."""
        if meter.revision != self._book.revision:
            self._adopt(meter)
        records = _records(properties.get("records"))
        now, floor = self._now, self._floor
        most = now + meter.burst_s + _DEBT_S
        meter.messages_at = min(most, max(meter.messages_at, floor) + meter.per_message)
        meter.bytes_at = min(most, max(meter.bytes_at, floor) + size * meter.per_byte)
        meter.readings_at = min(most, max(meter.readings_at, floor) + records * meter.per_reading)
        meter.seen = _seen(meter.seen, size, records)
        if max(meter.messages_at, meter.bytes_at, meter.readings_at) > now + meter.burst_s:
            self._slow_down(meter)
        return self._ignored(meter, records, properties)

    def hint_for(self, gateway: DeviceId) -> Hint | None:
        """The hint that is to go to this gateway now, while one holds."""
        meter = self._hinted.get(gateway)
        if meter is None or meter.hint is None:
            return None
        if self._now >= meter.hold_until:
            meter.hint = None
            del self._hinted[gateway]
            return None
        if self._now - meter.told_at < HINT_AGAIN_S:
            return None
        meter.told_at = self._now
        return Hint(meter.hint.id, meter.hint.readings_per_s, round(meter.hold_until - self._now, 3))

    @property
    def hinted(self) -> int:
        """Gateways that are asked to slow down."""
        return len(self._hinted)

    def _slow_down(self, meter: Meter) -> None:
        if meter.hint is None or self._now >= meter.hold_until:
            self._hints += 1
            # Unlike any of before a restart: the clock goes into it.
            name = f"{int(self._now * 1_000):x}-{self._hints:x}"
            meter.hint = Hint(name, _readings_per_s(meter), HINT_S)
            meter.told_at = float("-inf")
            meter.obeyed_at = 0.0
            self._hinted.keep(meter.owner, meter)
        meter.hold_until = self._now + HINT_S

    def _ignored(self, meter: Meter, records: int, properties: Mapping[str, bytes]) -> str | None:
        """Only new batches count: resends are exempt, and who does not echo may not have heard."""
        hint = meter.hint
        if hint is None or "resent" in properties or properties.get("hint") != hint.id.encode():
            return None
        per_s = _OBEYED_SHARE * hint.readings_per_s
        # A batch that was formed before the hint came bears its id too: what a window holds is borne.
        borne_s = _OBEYED_S + 2 * BATCH_RECORDS / per_s
        at = max(meter.obeyed_at, self._floor) + records / per_s
        meter.obeyed_at = min(at, self._now + borne_s + _DEBT_S)
        return hint.id if at > self._now + borne_s else None

    def _adopt(self, meter: Meter) -> None:
        messages, size, readings, burst_s = self._book.rates(meter.owner, meter.kind)
        meter.per_message, meter.per_byte, meter.per_reading = 1 / messages, 1 / size, 1 / readings
        meter.burst_s = burst_s
        meter.revision = self._book.revision


def _readings_per_s(meter: Meter) -> float:
    """What keeps all three rates, as this gateway fills its batches."""
    messages, size, readings = meter.seen
    readings_per_message, bytes_per_reading = readings / messages, size / readings
    found = min(
        1 / meter.per_reading, readings_per_message / meter.per_message, 1 / (meter.per_byte * bytes_per_reading)
    )
    return max(1.0, round(found, 3))


def _seen(seen: tuple[float, float, float], size: int, records: int) -> tuple[float, float, float]:
    messages, total, readings = seen
    share = 0.9
    return share * messages + 1, share * total + max(1, size), share * readings + records


def _records(text: bytes | None) -> int:
    """The header's count of records; the normaliser compares it with what the batch holds."""
    if text is None or len(text) > 4 or not text.isdigit():
        return 1
    return max(1, min(int(text), BATCH_RECORDS))
