"""InventoryAdjustmentForwarder: from readings to changes of stock. PURE; state by `job.State`.

A rule with a **quantity** emits it each time its condition begins to hold: goes from not holding to holding, each for
`debounce_s` by the readings' own times. What a device shows first is where it stands, and no change.

A rule with a **level** emits, while its condition holds, what the level changed by since the last emission, once it
left the dead band and stayed within one dead band of its new place for `debounce_s`. The first level seen is where
counting begins. The sum of all deltas is therefore the level forwarded last minus the first, whatever was repeated.

**Late** readings (of the replay lane, or not newer than the newest) are ignored, unless a quantity rule counts them.
Then one that falls between what is known before and after it adds the onsets that it proves:
onsets(before, it, after) - onsets(before, after), which is never negative. So after an outage, live readings first
and the backlog later, the count is what it would have been in order, if the device reports regularly and at least
twice between two outages (with a debounce, but for the two seams). A late reading never changes a level: the newer
level has it in it already.

A newest time that lies after the hub's own receipt of a later live reading came from a wrong clock and is forgotten,
as in the detector: what follows it is not late.

A device appears in what is emitted by its pseudonym only.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from control_plane.analytics.event_time import was_ahead
from control_plane.analytics.job import State
from control_plane.analytics.records import NormalizedReading, StockAdjusted, text_ms
from control_plane.analytics.rules import Late, Level, Rule, Rules
from shared.batch import Lane
from shared.envelope import rfc3339
from shared.reading import MetricValue

STRETCHES = 64
"""Stretches of the condition remembered for late readings; what is older than all of them is not counted."""

DECIMALS = 6
"""Deltas are rounded to so many; what rounding leaves is part of the next one."""

_GAP_INTERVALS = 1.5  # a longer step between live readings is a gap that late ones may fill
_STEP_INTERVALS = 3.0  # and no step counts for more than this in what is usual
_LONGER_WEIGHT, _SHORTER_WEIGHT = 0.05, 0.3  # steps over a gap are longer than usual, never shorter


class Bounce(msgspec.Struct, array_like=True):
    """A debounced condition: `holds` (None: nothing seen), and since when the readings say the opposite."""

    holds: bool | None = None
    since_ms: int | None = None


class Stretch(msgspec.Struct, array_like=True):
    """The debounced condition, the same for all readings from the first to the last, without a gap between them."""

    holds: bool
    first_ms: int
    last_ms: int


class RuleState(msgspec.Struct, array_like=True):
    """What one rule remembers of one device. Times are of readings, epoch ms.

    `heard_ms`: when the newest was received. `gap_ms`: the stretch before the gap that late readings are filling.
    `level`: forwarded, `moved_to` and `moved_ms`: where it went and since when, while that is not settled.
    """

    newest_ms: int = -1
    interval_ms: float = 0.0
    live: Bounce = msgspec.field(default_factory=Bounce)
    stretches: list[Stretch] = []
    late: Bounce = msgspec.field(default_factory=Bounce)
    late_ms: int = -1
    gap_ms: int | None = None
    level: float | None = None
    moved_to: float | None = None
    moved_ms: int = 0
    heard_ms: int = -1


class Adjustment(NamedTuple):
    """A change of stock and its `ce_id`, made of what it is about: a repeat has the same."""

    record: StockAdjusted
    ce_id: str


_STATE = msgspec.msgpack.Decoder(RuleState)
_ENCODER = msgspec.msgpack.Encoder()


class Forwarder:
    """Applies the rules that `rules` gives at each moment to one reading at a time."""

    def __init__(self, rules: Callable[[], Rules], pseudonym_of: Callable[[str], str]) -> None:
        self._rules = rules
        self._pseudonym_of = pseudonym_of

    def forward(self, reading: NormalizedReading, state: State) -> list[Adjustment]:
        """What this reading changes in stock; usually nothing."""
        if reading.device_type is None:
            return []
        found = []
        for rule in self._rules().get(reading.device_type, ()):
            change = _apply(rule, reading, state)
            if change is not None:
                delta, at_ms, suffix = change
                source = self._pseudonym_of(reading.device_id)
                record = StockAdjusted(
                    sku=rule.sku,
                    location=rule.location,
                    delta=delta,
                    unit=rule.unit,
                    reason=rule.reason,
                    occurred_at=rfc3339(at_ms),
                    source_pseudonym=source,
                )
                found.append(Adjustment(record, f"{source}:{rule.id}:{at_ms}{suffix}"))
        return found


class _Change(NamedTuple):
    delta: float
    at_ms: int
    suffix: str = ""  # of the ce_id


def _apply(rule: Rule, reading: NormalizedReading, state: State) -> _Change | None:
    holds = rule.holds(reading.metrics.get(rule.metric))
    if holds is None:
        return None
    name = b"i:" + rule.id.encode()
    packed = state.get(name)
    kept = RuleState() if packed is None else _STATE.decode(packed)
    at_ms = text_ms(reading.ts)
    # Of the replay lane not even the receipt is always new: a dead letter that comes back keeps its own.
    received_ms = text_ms(reading.received_at)
    if reading.lane is Lane.LIVE and was_ahead(kept.newest_ms, kept.heard_ms, received_ms):
        _forget_after(kept, at_ms)
    if at_ms <= kept.newest_ms:
        change = _count_late(rule, kept, at_ms, holds=holds) if rule.late is Late.COUNT else None
    elif reading.lane is Lane.REPLAY and rule.late is Late.IGNORE:
        return None
    elif rule.level is None:
        change = _count(rule, kept, at_ms, holds=holds)
    else:
        change = _follow(rule, rule.level, kept, at_ms, reading.metrics, holds=holds)
    if kept.newest_ms == at_ms:
        kept.heard_ms = max(kept.heard_ms, received_ms)
    changed = _ENCODER.encode(kept)
    if changed != packed:
        state.set(name, changed)
    return change


def _count(rule: Rule, kept: RuleState, at_ms: int, *, holds: bool) -> _Change | None:
    """A reading in order: an onset is the quantity."""
    assert rule.quantity is not None
    before, since_ms = kept.live.holds, _bounce(kept.live, at_ms, holds=holds, debounce_s=rule.debounce_s)
    _advance(kept, at_ms)
    assert kept.live.holds is not None
    if rule.late is Late.COUNT:
        _remember(kept, at_ms, holds=kept.live.holds)
    return _Change(rule.quantity, since_ms) if _onset(before, kept.live.holds) else None


def _count_late(rule: Rule, kept: RuleState, at_ms: int, *, holds: bool) -> _Change | None:
    """A reading between others: the onsets that it adds to what they prove."""
    if rule.quantity is None:
        return None
    index = next((i for i, stretch in enumerate(kept.stretches) if stretch.first_ms > at_ms), len(kept.stretches))
    if index == 0:
        return None  # older than all that is remembered
    before = kept.stretches[index - 1]
    within = at_ms <= before.last_ms
    after = before.holds if within or index == len(kept.stretches) else kept.stretches[index].holds
    same_gap = kept.gap_ms == before.first_ms
    if same_gap and at_ms <= kept.late_ms:
        return None  # repeated, or out of its lane's order
    if not same_gap:
        kept.gap_ms, kept.late = before.first_ms, Bounce(before.holds)
    kept.late_ms = at_ms
    last, since_ms = kept.late.holds, _bounce(kept.late, at_ms, holds=holds, debounce_s=rule.debounce_s)
    now = kept.late.holds
    assert now is not None
    onsets = _onset(last, now) + _onset(now, after) - _onset(last, after)
    assert onsets in (0, 1)
    return _Change(rule.quantity, since_ms, ":late") if onsets else None


def _follow(
    rule: Rule, level: Level, kept: RuleState, at_ms: int, metrics: dict[str, MetricValue], *, holds: bool
) -> _Change | None:
    """A level in order: what it changed by, once it has settled."""
    value = metrics.get(level.metric)
    if isinstance(value, str | None):
        return None
    _advance(kept, at_ms)
    if not holds:
        kept.moved_to = None
        return None
    value = float(value)
    if kept.level is None:
        kept.level = value
        return None
    if abs(value - kept.level) < level.dead_band:
        kept.moved_to = None
        return None
    if kept.moved_to is None or abs(value - kept.moved_to) >= level.dead_band:
        kept.moved_to, kept.moved_ms = value, at_ms
    if at_ms - kept.moved_ms < 1_000 * rule.debounce_s:
        return None
    delta = round((value - kept.level) * level.scale, DECIMALS)
    kept.moved_to = None
    if delta == 0.0:
        return None
    kept.level += delta / level.scale
    return _Change(delta, kept.moved_ms)


def _forget_after(kept: RuleState, at_ms: int) -> None:
    """No time after this one can be. What was seen stays seen, as of now; what was pending begins anew."""
    kept.newest_ms = kept.heard_ms = -1
    if (kept.live.since_ms or 0) > at_ms:
        kept.live.since_ms = None
    if kept.moved_ms > at_ms:
        kept.moved_to = None
    stretches = [stretch for stretch in kept.stretches if stretch.first_ms < at_ms]
    for stretch in stretches:
        stretch.last_ms = min(stretch.last_ms, at_ms - 1)
    kept.stretches = stretches
    if kept.late_ms >= at_ms or (kept.gap_ms or 0) >= at_ms:
        kept.gap_ms, kept.late_ms = None, -1


def _advance(kept: RuleState, at_ms: int) -> None:
    if kept.newest_ms >= 0:
        step_ms = float(at_ms - kept.newest_ms)
        if not kept.interval_ms:
            kept.interval_ms = step_ms
        more_ms = min(step_ms, _STEP_INTERVALS * kept.interval_ms) - kept.interval_ms
        kept.interval_ms += more_ms * (_LONGER_WEIGHT if more_ms > 0 else _SHORTER_WEIGHT)
    kept.newest_ms = at_ms


def _remember(kept: RuleState, at_ms: int, *, holds: bool) -> None:
    last = kept.stretches[-1] if kept.stretches else None
    usual_ms = _GAP_INTERVALS * kept.interval_ms
    if last is not None and last.holds is holds and at_ms - last.last_ms <= usual_ms:
        last.last_ms = at_ms
    else:
        kept.stretches = [*kept.stretches, Stretch(holds, at_ms, at_ms)][-STRETCHES:]


def _bounce(bounce: Bounce, at_ms: int, *, holds: bool, debounce_s: float) -> int:
    """Take a reading in; since when it has been as it is now said to be."""
    if bounce.holds is None:
        bounce.holds = holds
    if holds is bounce.holds:
        bounce.since_ms = None
        return at_ms
    since_ms = at_ms if bounce.since_ms is None else bounce.since_ms
    if at_ms - since_ms >= 1_000 * debounce_s:
        bounce.holds, bounce.since_ms = holds, None
    else:
        bounce.since_ms = since_ms
    return since_ms


def _onset(before: bool | None, after: bool) -> int:
    return int(before is False and after)
