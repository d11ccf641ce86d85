"""How fast: a budget of records per second, and the delay before sending again. PURE: time and chance are given."""

from dataclasses import dataclass, replace

from shared.backoff import Backoff

RESEND = Backoff(first_s=60.0, cap_s=900.0)
"""Bounds of the delays before a batch is sent again within a connection (DESIGN, batch protocol)."""
PROBE = Backoff(first_s=1.0, cap_s=30.0)
"""Bounds of the delays between two looks whether anybody listens at the hub."""


def resend_delay_s(attempt: int, unit: float) -> float:
    """Seconds before resend `attempt` (0 is the first), for a random number in [0, 1).

    Half of the bound is fixed: what is sent again at once was most likely not lost, only slow.
    """
    return RESEND.bound_s(attempt) * (0.5 + 0.5 * unit)


def probe_delay_s(attempt: int, unit: float) -> float:
    """Seconds before probe `attempt` (0 is the first), for a random number in [0, 1); half of the bound is fixed."""
    return PROBE.bound_s(attempt) * (0.5 + 0.5 * unit)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket of records. It may be overdrawn: what must go at once is paid for afterwards."""

    per_s: float
    burst: float
    level: float
    at_s: float

    @classmethod
    def full(cls, per_s: float, burst: float, now_s: float) -> "Bucket":
        """A bucket with nothing taken yet."""
        assert per_s > 0
        assert burst >= 1
        return cls(per_s, burst, burst, now_s)

    def at(self, now_s: float) -> "Bucket":
        """The bucket as it stands at `now_s`."""
        passed = max(0.0, now_s - self.at_s)
        return replace(self, level=min(self.burst, self.level + passed * self.per_s), at_s=max(self.at_s, now_s))

    def take(self, records: int) -> "Bucket":
        """Less by `records`, below zero if need be."""
        return replace(self, level=self.level - records)
