"""When something was measured, as well as anybody can know. PURE.

Three clocks take part: the device's (`ts`), the gateway's (acceptance) and the hub's (receipt). The device's time is
kept unless it cannot be, or its clock is known to be off; whatever was done is said by flags, and the raw `ts` stays.

The numbers (defaults of `Rules`): a time before 2015, or more than a day after the acceptance, cannot be; an offset
of the device's clock beyond 2 s is taken off; beyond 5 s it is called drift.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.analytics.records import Flag
from shared.batch import ClockQuality

PLAUSIBLE_FROM_MS = 1_420_070_400_000
"""2015-01-01: before any device of ours was made; a clock that starts at an epoch shows less."""
PLAUSIBLE_AHEAD_MS = 86_400_000
LATEST_MS = 253_402_300_800_000 - 2 * PLAUSIBLE_AHEAD_MS
"""Two days before the year 10000, which a time stamp cannot name: what is added to such a time still has a name."""

AHEAD_MS = 3_000
"""How far the newest time of a device may lie after the hub's receipt of a later reading. Known offsets above 2 s
were taken off; what is further ahead came from a wrong clock."""

SAMPLES = 15
SAMPLE_EVERY_MS = 1_000
_ENOUGH = 5
_NO_FLAGS: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """`correct_ms`: offsets beyond it are taken off; `drift_ms`: beyond it they are flagged as drift."""

    correct_ms: int = 2_000
    drift_ms: int = 5_000


Timed = tuple[int, tuple[Flag, ...]]
"""The normalised time, epoch ms, and what was done to it."""


def normalise(
    ts_ms: int, skew_ms: int | None, clock: ClockQuality, accepted_ms: int, received_ms: int, rules: Rules
) -> Timed:
    """The time of a reading. `skew_ms`: the device's clock minus the clock that stamped `accepted_ms`.

    An impossible `ts` becomes the acceptance (the receipt, where the gateway's own clock cannot be trusted) minus
    the known offset. A reading delivered late keeps its device's time.
    """
    trusted = clock is not ClockQuality.UNSYNCED and is_plausible(accepted_ms, received_ms)
    reference = accepted_ms if trusted else received_ms
    # An offset against a clock that is itself wrong says nothing.
    skew = skew_ms if trusted else None
    latest = reference + rules.correct_ms
    drifts = skew is not None and abs(skew) > rules.drift_ms
    if not is_plausible(ts_ms, reference):
        flags: tuple[Flag, ...] = (Flag.TS_IMPLAUSIBLE, Flag.DRIFT) if drifts else (Flag.TS_IMPLAUSIBLE,)
        if skew is None:
            return reference, flags
        if abs(skew) <= rules.correct_ms:  # usually right: what its clock would have said now
            return reference + skew, flags
        if reference - PLAUSIBLE_AHEAD_MS <= ts_ms - skew <= latest:
            # Wrong all the time, but steadily: taking the offset off keeps the readings' distances.
            return ts_ms - skew, (*flags, Flag.SKEW_CORRECTED)
        return reference, flags
    if skew is None or abs(skew) <= rules.correct_ms:
        return ts_ms, _NO_FLAGS
    flags = (Flag.DRIFT,) if drifts else _NO_FLAGS
    mended = ts_ms - skew
    # A correction into the future, or before all sense, means that the estimate is out of date.
    if not PLAUSIBLE_FROM_MS <= mended <= latest:
        return ts_ms, flags
    return mended, (*flags, Flag.SKEW_CORRECTED)


def is_plausible(ts_ms: int, reference_ms: int) -> bool:
    """True if something received or accepted at `reference_ms` can have happened at `ts_ms`."""
    return PLAUSIBLE_FROM_MS <= ts_ms <= reference_ms + PLAUSIBLE_AHEAD_MS


def was_ahead(newest_ms: int, heard_ms: int, received_ms: int) -> bool:
    """True if the newest time seen of a device cannot be, by the hub's receipt of a reading that came after it.

    `heard_ms`: when the reading of that newest time was received. What was received before it proves nothing: it is
    late itself, or here for the second time.

    Who orders readings by their own times must then forget that time: else one reading of a wrong clock makes all
    that follow look late, for as long as it was ahead.
    """
    return heard_ms <= received_ms < newest_ms - AHEAD_MS


Sample = tuple[int, int]
"""(received_ms, ts minus received): how far the device's clock seemed to be ahead."""


def with_sample(samples: Sequence[Sample], received_ms: int, ts_ms: int) -> tuple[Sample, ...] | None:
    """The newest 15 samples with this one, or None if the last is less than a second old (then nothing changes)."""
    if samples and 0 <= received_ms - samples[-1][0] < SAMPLE_EVERY_MS:
        return None
    return (*samples[-SAMPLES + 1 :], (received_ms, ts_ms - received_ms))


def skew_of(samples: Sequence[Sample], rules: Rules) -> int | None:
    """The median offset of a directly attached device's clock, ms; None while it is unknown.

    Unknown with fewer than 5 samples, and while they disagree: a device that works off a backlog looks like one
    whose clock runs late, but its apparent offset changes from message to message.
    """
    if len(samples) < _ENOUGH:
        return None
    offsets = sorted(offset for _, offset in samples)
    spread = offsets[(3 * len(offsets)) // 4] - offsets[len(offsets) // 4]
    span = samples[-1][0] - samples[0][0]
    if spread > min(span // 4, rules.correct_ms):
        return None
    return offsets[len(offsets) // 2]
