"""One simulated device: which messages it sends for each reading. PURE.

`Device.measure(n, at_s, now_ms)` answers the messages of reading `n`: usually one, two with a deliberate repeat,
another with a malformed one. It never waits and never sends.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from edge_agent.sim.faults import Distortion, Episode, Fault
from edge_agent.sim.series import Series
from shared.envelope import rfc3339


class Kind(StrEnum):
    """What a message is."""

    READING = "reading"
    REPEAT = "repeat"  # the same bytes again, on purpose
    MALFORMED = "malformed"


class Message(msgspec.Struct, frozen=True):
    """One message to send. `n`: its reading's number, or that of the reading it follows."""

    kind: Kind
    n: int
    payload: bytes

    @property
    def sha256(self) -> str:
        """Of the payload, hex."""
        return hashlib.sha256(self.payload).hexdigest()


BROKEN = (
    b'{"ts": "2026-01-01T00:00:00Z", "temperature": ',
    b'{"temperature": 20.5}',
    b'{"ts": "yesterday", "temperature": 20.5}',
    b'{"ts": "2026-01-01T00:00:00Z", "temperature": NaN}',
    b"\xff\xfe\x00temperature",
    b'{"ts": "2026-01-01T00:00:00Z", "temperature": {"value": 1}}',
)
"""What devices send that cannot be a reading, one of each kind."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One metric: where its values come from and what its faults do to them."""

    series: Series
    distortion: Distortion | None = None


class Device:
    """What one device says. `interval_s` is the time between its readings."""

    def __init__(
        self, name: str, sensors: Mapping[str, Sensor], episodes: Sequence[Episode], interval_s: float
    ) -> None:
        self.name = name
        self.interval_s = interval_s
        self.episodes = list(episodes)
        self._sensors = sensors

    def offline_for(self, at_s: float) -> float:
        """Seconds until its link, down on purpose, comes back; 0 while it is up."""
        outage = self._active(Fault.OFFLINE, at_s)
        return 0.0 if outage is None else outage.end_s - at_s

    def readings_at(self, at_s: float) -> int:
        """How many readings it takes in one interval: one, or more while it floods."""
        flood = self._active(Fault.FLOOD, at_s)
        return 1 if flood is None else max(1, round(flood.size))

    def measure(self, n: int, at_s: float, now_ms: int) -> list[Message]:
        """The messages of reading `n`, measured `at_s` seconds after the start, at `now_ms` of the true clock."""
        reading: dict[str, object] = {"ts": rfc3339(self._clock_ms(at_s, now_ms)), "n": n}
        for metric, sensor in self._sensors.items():
            value = sensor.series.value(n, at_s)
            reading[metric] = value if sensor.distortion is None else sensor.distortion.apply(value, at_s)
        reading["status"] = "OK"
        message = Message(Kind.READING, n, msgspec.json.encode(reading))
        sent = [message]
        if self._active(Fault.DUPLICATES, at_s) is not None:
            sent.append(Message(Kind.REPEAT, n, message.payload))
        if self._active(Fault.MALFORMED, at_s) is not None:
            sent.append(Message(Kind.MALFORMED, n, _numbered(BROKEN[n % len(BROKEN)], n)))
        return sent

    def _clock_ms(self, at_s: float, now_ms: int) -> int:
        reset = self._active(Fault.CLOCK_RESET, at_s)
        if reset is not None:
            return int((at_s - reset.start_s) * 1_000)
        skew = self._active(Fault.CLOCK_SKEW, at_s)
        return now_ms + int(skew.size * 1_000) if skew is not None else now_ms

    def _active(self, fault: Fault, at_s: float) -> Episode | None:
        return next((e for e in self.episodes if e.fault is fault and e.covers(at_s)), None)


def _numbered(broken: bytes, n: int) -> bytes:
    """Make equal bytes unequal without mending them: a field in an object, a suffix elsewhere."""
    if broken.startswith(b"{"):
        return b'{"mark": %d, ' % n + broken[1:]
    return broken + b" %d" % n
