"""When signs of misbehaviour come to a verdict. PURE.

Promises: a verdict needs as many signs within the rule's window as the policy says, counted by the time at which they
happened; what happened before the window, or before the grace after a release, never counts, however late it is read
(a replay of old records says nothing). The memory is bounded: devices whose last sign is longest ago are forgotten.
"""

from typing import NamedTuple

from control_plane.registry.quarantine.evidence import Observation
from control_plane.registry.quarantine.rules import QuarantinePolicy, Rule
from shared.bounded import Bounded
from shared.ids import DeviceId

REMEMBERED = 20_000
"""Pairs of a device and a rule; each is a dozen numbers and a few digests."""
SAMPLES = 5
_SLICES = 12
_AHEAD_MS = 300_000
"""A time further ahead than this is no time of ours."""


class Verdict(NamedTuple):
    """The device is to be quarantined for `for_s` seconds (None: until released), on this evidence."""

    device_id: DeviceId
    rule: Rule
    behind: str | None
    evidence: dict[str, object]
    for_s: int | None


class _Count:
    """Signs by slice of the window, and digests of the last few."""

    __slots__ = ("samples", "slices")

    def __init__(self) -> None:
        self.slices: dict[int, int] = {}
        self.samples: list[str] = []


class Judge:
    """One judge sees all signs; `policy` may be replaced at any time."""

    def __init__(self, policy: QuarantinePolicy, remembered: int = REMEMBERED) -> None:
        self.policy = policy
        self._counts: Bounded[tuple[DeviceId, Rule], _Count] = Bounded(remembered)
        self._not_before: Bounded[DeviceId, int] = Bounded(remembered)

    def __len__(self) -> int:
        return len(self._counts)

    def released(self, device_id: DeviceId, at_ms: int) -> None:
        """The device was released then: what it did before, or in the grace, counts no more."""
        self._not_before.keep(device_id, at_ms + self.policy.grace_s * 1_000)

    def pardoned(self, device_id: DeviceId, now_ms: int) -> bool:
        """Whether the grace after its release still runs."""
        return now_ms < self._not_before.get(device_id, 0)

    def look(self, seen: Observation, now_ms: int) -> Verdict | None:
        """Take a sign in; the verdict that it completes, if it does."""
        threshold = self.policy.threshold(seen.rule)
        if threshold is None:
            return None
        since_ms = max(now_ms - threshold.window_s * 1_000, self._not_before.get(seen.device_id, 0))
        if not since_ms <= seen.at_ms <= now_ms + _AHEAD_MS:
            return None
        key = (seen.device_id, seen.rule)
        found = self._counts.get(key) or _Count()
        self._counts.keep(key, found)
        slice_ms = max(1, threshold.window_s * 1_000 // _SLICES)
        number = seen.at_ms // slice_ms
        found.slices[number] = found.slices.get(number, 0) + seen.signs
        # A slice counts while any of it lies within the window.
        found.slices = {at: count for at, count in found.slices.items() if (at + 1) * slice_ms > since_ms}
        if seen.sample:
            found.samples = [*found.samples, seen.sample][-SAMPLES:]
        total = sum(found.slices.values())
        if total < threshold.count:
            return None
        del self._counts[key]
        evidence: dict[str, object] = {
            "rule": seen.rule.value,
            "count": total,
            "threshold": threshold.count,
            "window_s": threshold.window_s,
            "samples_sha256": found.samples,
        }
        if seen.behind is not None:
            evidence["behind"] = seen.behind
        return Verdict(seen.device_id, seen.rule, seen.behind, evidence, threshold.for_s)
