"""AnomalyDetector: which readings deserve an alarm. PURE: no clock, no Kafka; state by `job.State`.

Three judges speak of a metric, and `hold` makes one alarm per episode of all that they say:

- the edge: a reading that bears a score carries the gateway's verdict, which is passed on and never recomputed;
- limits: the least and greatest value that the device's type permits, for every reading;
- a robust z-score (`residuals`), only for devices attached straight to the hub: what came through a gateway was
  scored there.

A late reading (lane `replay`, or not newer than the newest of its device and metric) is held against limits and keeps
the edge's verdict, but the z-score neither judges nor learns it. A newest time that lies after the hub's own receipt
of a later reading came from a wrong clock and is forgotten.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from control_plane.analytics import hold, residuals
from control_plane.analytics.event_time import was_ahead
from control_plane.analytics.hold import Book, Scale, Signal
from control_plane.analytics.job import State
from control_plane.analytics.records import Anomaly, Judge, NormalizedReading, Severity, text_ms
from control_plane.analytics.residuals import Head
from shared.batch import Lane

CHANNELS = 64
"""Metrics per device that the z-score follows; more are not scored (limits and edge verdicts still count)."""

MARGIN = 0.02
"""How far inside the limits, as a share of their range, a value must return to be back."""

CRITICAL_STRENGTH = 3.0
"""So many times its line makes a z-score critical."""

CRITICAL_EDGE = 15.0
"""Decades of unlikelihood from which an edge verdict is critical."""

INTERVAL_WEIGHT = 0.1

_ROSTER = b"names"
_HEAD = msgspec.msgpack.Decoder(Head)
_BOOK = msgspec.msgpack.Decoder(Book)
_NAMES = msgspec.msgpack.Decoder(list[str])
_ENCODER = msgspec.msgpack.Encoder()


class Limit(NamedTuple):
    """The values that a device type permits of one metric; None where there is no bound."""

    least: float | None
    greatest: float | None


Limits = Mapping[str, Limit]
LimitsOf = Callable[[str], Limits]
"""The limits of a device type, by metric; empty where there are none."""


class Detected(NamedTuple):
    """An anomaly and its `ce_id`, which is made of what it is about: a repeat has the same."""

    anomaly: Anomaly
    ce_id: str
    at_ms: int


def limits_of_type(metrics: Mapping[str, object]) -> dict[str, Limit]:
    """The limits in a device type's `metrics`, such as {"temperature": {"min": -20, "max": 60}}."""
    found = {}
    for name, facts in metrics.items():
        if isinstance(facts, Mapping):
            least, greatest = _number(facts.get("min")), _number(facts.get("max"))
            if least is not None or greatest is not None:
                found[name] = Limit(least, greatest)
    return found


class Detector:
    """Judges one reading at a time; all that it remembers is in the state of the reading's device."""

    def __init__(self, limits_of: LimitsOf) -> None:
        self._limits_of = limits_of

    def judge(self, reading: NormalizedReading, state: State) -> list[Detected]:
        """The anomalies that this reading begins, in order of its metrics; usually none."""
        limits = {} if reading.device_type is None else self._limits_of(reading.device_type)
        edge = reading.score
        direct = reading.gateway_id is None and edge is None
        if not direct and not limits and edge is None:
            return []
        at_ms = text_ms(reading.ts)
        found = []
        for metric, raw in reading.metrics.items():
            value = _number(raw)
            if value is None:
                continue
            late = reading.lane is Lane.REPLAY
            head, finding = None, None
            if direct:
                head, finding, behind = _score(reading, metric, value, at_ms, state)
                late = late or behind
            signals = []
            if edge is not None and edge.metric == metric:
                signals.append(_carried(edge.value, edge.reason, edge.expected))
            unusual = finding is not None and finding.strength >= 1.0
            if finding is not None and unusual:
                signals.append(_unusual(finding))
            limit = limits.get(metric)
            beyond = None if limit is None else _beyond(limit, value)
            if beyond is not None:
                signals.append(beyond)
            alarm = _hold(state, metric, at_ms, signals, head, late=late, back=limit and _is_back(limit, value))
            if head is not None:
                _keep(state, metric, head, value, alarmed=unusual and alarm is not None and alarm.number == 0)
            if alarm is not None:
                found.append(_detected(reading, metric, value, at_ms, alarm))
        return found


def _score(
    reading: NormalizedReading, metric: str, value: float, at_ms: int, state: State
) -> tuple[Head | None, residuals.Finding | None, bool]:
    """The channel that learns this value, what it says of it, and whether the value is late (then no channel)."""
    packed = state.get(b"h:" + metric.encode())
    if packed is None:
        if reading.lane is Lane.REPLAY or not _admit(state, metric):
            return None, None, False
        return Head(at_ms, value, heard_ms=text_ms(reading.received_at)), None, False
    head = _HEAD.decode(packed)
    received_ms = text_ms(reading.received_at)
    if was_ahead(head.at_ms, head.heard_ms, received_ms):
        head.at_ms = at_ms - 1
    if reading.lane is Lane.REPLAY or at_ms <= head.at_ms:
        return None, None, True
    step_ms = at_ms - head.at_ms
    head.interval_ms += (step_ms - head.interval_ms) * (INTERVAL_WEIGHT if head.interval_ms else 1.0)
    head.at_ms, head.heard_ms = at_ms, received_ms
    return head, residuals.judge(head, value), False


def _keep(state: State, metric: str, head: Head, value: float, *, alarmed: bool) -> None:
    if alarmed:
        residuals.alarmed(head)
    if residuals.learn(head, value):
        name = b"r:" + metric.encode()
        state.set(name, residuals.pack(residuals.fold(head, residuals.unpack(state.get(name)))))
    state.set(b"h:" + metric.encode(), _ENCODER.encode(head))


def _admit(state: State, metric: str) -> bool:
    """Enter a new metric in the device's roster, unless that is full."""
    packed = state.get(_ROSTER)
    names = [] if packed is None else _NAMES.decode(packed)
    if len(names) >= CHANNELS:
        return False
    state.set(_ROSTER, _ENCODER.encode([*names, metric]))
    return True


def _hold(
    state: State, metric: str, at_ms: int, signals: list[Signal], head: Head | None, *, late: bool, back: bool | None
) -> hold.Alarm | None:
    """Bring signals, or the return within limits (`back`; None without limits), into the metric's book."""
    if not signals and not back:
        return None
    name = b"e:" + metric.encode()
    packed = state.get(name)
    if not signals:
        if packed is not None:
            book = _BOOK.decode(packed)
            if hold.cleared(book, late=late):
                state.set(name, _ENCODER.encode(book))
        return None
    book = Book() if packed is None else _BOOK.decode(packed)
    if back:
        hold.cleared(book, late=late)
    hold_ms = hold.hold_ms(head.interval_ms if head is not None else 0.0)
    alarm = hold.hear(book, at_ms, signals, hold_ms=hold_ms, late=late)
    state.set(name, _ENCODER.encode(book))
    return alarm


def _carried(score: float, reason: str, expected: float | None) -> Signal:
    severity = Severity.CRITICAL if score >= CRITICAL_EDGE else Severity.WARNING
    return Signal(Scale.EDGE, score, severity, reason, expected)


def _unusual(finding: residuals.Finding) -> Signal:
    severity = Severity.CRITICAL if finding.strength >= CRITICAL_STRENGTH else Severity.WARNING
    return Signal(Scale.SIGMA, finding.score, severity, finding.reason, finding.expected)


def _beyond(limit: Limit, value: float) -> Signal | None:
    if limit.greatest is not None and value > limit.greatest:
        return Signal(
            Scale.LIMIT, 1.0 + (value - limit.greatest) / _span(limit), Severity.CRITICAL, "above_max", limit.greatest
        )
    if limit.least is not None and value < limit.least:
        return Signal(
            Scale.LIMIT, 1.0 + (limit.least - value) / _span(limit), Severity.CRITICAL, "below_min", limit.least
        )
    return None


def _is_back(limit: Limit, value: float) -> bool:
    margin = MARGIN * _span(limit)
    return (limit.greatest is None or value <= limit.greatest - margin) and (
        limit.least is None or value >= limit.least + margin
    )


def _span(limit: Limit) -> float:
    """The permitted range's width; with one bound its own size, with nothing to go by 1."""
    if limit.least is not None and limit.greatest is not None and limit.greatest > limit.least:
        return limit.greatest - limit.least
    return abs(limit.greatest if limit.greatest is not None else limit.least or 0.0) or 1.0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _detected(reading: NormalizedReading, metric: str, value: float, at_ms: int, alarm: hold.Alarm) -> Detected:
    episode_id = f"{reading.device_id}:{metric}:{alarm.episode_ms}"
    anomaly = Anomaly(
        device_id=reading.device_id,
        metric=metric,
        ts=reading.ts,
        value=value,
        score=alarm.signal.score,
        severity=alarm.severity,
        reason=alarm.signal.reason,
        expected=alarm.signal.expected,
        source=Judge.EDGE if alarm.signal.scale is Scale.EDGE else Judge.HUB,
        episode_id=episode_id,
    )
    return Detected(anomaly, f"{episode_id}:{alarm.number}", at_ms)
