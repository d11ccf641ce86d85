"""From a device's message to the rows that the outbox keeps: parse, estimate skew, score, class, encode. PURE.

Three steps, so that each can be timed as a stage of its trace: `read`, `score`, `rows`. Every object of a message
becomes exactly one row, in order: a reading as it was read (time stamps untouched, the skew estimate beside them), or
the bytes of what is none, for the hub to judge. Time, repeats and storing are intake's business.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.row import Row, RowClass
from edge_agent.skew import SkewBook
from shared import limits
from shared.batch import BytesRecord, ClockQuality, ReadingRecord, encode_record
from shared.errors import Reason, Rejected
from shared.reading import Reading, Refused, Verdict, parse_payload

LATE_MS = 60_000
"""A reading older than this that comes among fresh ones is history: it is kept and sent, but not scored."""

OLD_MS = 7 * 86_400_000
"""The same for what waited at the broker while the agent was away."""

ALARM_STATUSES = ("ALARM", "CRITICAL")
UNSCORED = ("n", "seq")
_TOO_LARGE = Rejected(Reason.TOO_LARGE, f"a message of more than {limits.PAYLOAD_BYTES} bytes")
_EMPTY = Rejected(Reason.MALFORMED, "an array without readings")


class Scores(Protocol):
    """Scores a sample against its channel's past, then learns it (edge_agent.anomaly.Scorer)."""

    def score(self, device_id: str, metric: str, at_s: float, value: float) -> Verdict | None:
        """A verdict where the sample begins an episode. `at_s`: seconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a message was taken, on two clocks (shared.clock), and how far the wall clock is to be trusted."""

    wall_ms: int
    boot_ms: int
    boot_id: str
    clock: ClockQuality


@dataclass(slots=True)
class Message:
    """One message on its way through the steps. `skew_ms`: the device's clock minus ours, None while in doubt."""

    device: str
    stamp: Stamp
    items: list[Reading | Refused]
    skew_ms: int | None
    fresh: bool
    newest_ms: int
    verdicts: dict[int, Verdict] = field(default_factory=dict)  # by index in items


class Pipeline:
    """One gateway's. `unscored` names metrics that count and do not measure; without `scores` nothing is scored."""

    def __init__(
        self,
        skew: SkewBook,
        scores: Scores | None = None,
        *,
        unscored: Collection[str] = UNSCORED,
        alarm_statuses: Collection[str] = ALARM_STATUSES,
    ) -> None:
        self.skew = skew
        self.unscorable = 0
        """Samples whose size broke a model's arithmetic; they are kept and sent unscored."""
        self._scores = scores
        self._unscored = frozenset(unscored)
        self._alarm_statuses = frozenset(word.upper() for word in alarm_statuses)

    def read(self, device: str, payload: bytes, stamp: Stamp, *, fresh: bool = True) -> Message:
        """Parse, and take the message's newest time stamp into the device's skew. Never raises on any bytes.

        Not `fresh`: the message waited at the broker, so its age says nothing of the device's clock.
        """
        if len(payload) > limits.PAYLOAD_BYTES:
            items: list[Reading | Refused] = [Refused(_TOO_LARGE, payload)]
        else:
            items = list(parse_payload(payload)) or [Refused(_EMPTY, payload)]
        newest_ms = max((item.ts_ms for item in items if isinstance(item, Reading)), default=-1)
        skew_ms = self.skew.observe(device, newest_ms, stamp.wall_ms, fresh=fresh) if newest_ms >= 0 else None
        return Message(device, stamp, items, skew_ms, fresh, newest_ms)

    def score(self, message: Message) -> None:
        """Score each numeric metric of each reading at the moment of its measurement, and keep its worst verdict.

        That moment is the device's time stamp minus the skew, never later than the acceptance. While the skew is
        unknown the newest reading counts as measured at acceptance, its neighbours as much earlier as they say.
        """
        if self._scores is None:
            return
        accepted_ms = message.stamp.wall_ms
        skew_ms = message.newest_ms - accepted_ms if message.skew_ms is None else message.skew_ms
        oldest_ms = LATE_MS if message.fresh else OLD_MS
        for index, item in enumerate(message.items):
            if not isinstance(item, Reading):
                continue
            at_ms = min(accepted_ms, item.ts_ms - skew_ms)
            if accepted_ms - at_ms > oldest_ms:
                continue
            for metric, value in item.metrics.items():
                if (type(value) is not float and type(value) is not int) or metric in self._unscored:
                    continue
                verdict = self._judge(message.device, metric, at_ms / 1_000, float(value))
                if verdict is not None:
                    worst = message.verdicts.get(index)
                    if worst is None or verdict.value > worst.value:
                        message.verdicts[index] = verdict

    def rows(self, message: Message, traceparent: str | None = None) -> list[Row]:
        """One row per object of the message, in order, encoded for ever."""
        stamp = message.stamp
        rows = []
        for index, item in enumerate(message.items):
            record: ReadingRecord | BytesRecord
            if isinstance(item, Reading):
                verdict = message.verdicts.get(index) if message.verdicts else None
                cls = self._class_of(item, verdict)
                record = ReadingRecord(
                    message.device,
                    stamp.wall_ms,
                    item.ts_raw,
                    item.ts_ms,
                    item.metrics,
                    item.status,
                    item.seq,
                    stamp.clock,
                    message.skew_ms,
                    verdict,
                    traceparent,
                )
            else:
                cls = RowClass.TELEMETRY
                record = _kept(message, item, traceparent)
            rows.append(Row(cls, stamp.wall_ms, stamp.boot_ms, stamp.boot_id, stamp.clock, encode_record(record)))
        return rows

    def _class_of(self, reading: Reading, verdict: Verdict | None) -> RowClass:
        if reading.status is not None and reading.status.upper() in self._alarm_statuses:
            return RowClass.ALARM
        return RowClass.TELEMETRY if verdict is None else RowClass.ANOMALY

    def _judge(self, device: str, metric: str, at_s: float, value: float) -> Verdict | None:
        assert self._scores is not None
        try:
            return self._scores.score(device, metric, at_s, value)
        except (ArithmeticError, ValueError):
            # A device may send 1e308: the message would come again after every crash that it caused.
            self.unscorable += 1
            return None


def _kept(message: Message, refused: Refused, traceparent: str | None) -> BytesRecord:
    raw = refused.raw
    return BytesRecord(
        message.device,
        message.stamp.wall_ms,
        raw[: limits.KEPT_OF_OVERSIZED_BYTES],
        len(raw),
        hashlib.sha256(raw).hexdigest(),
        traceparent,
    )
