"""When this gateway's certificate is renewed. PURE.

At two thirds of its life, up to a twelfth of it later by chance, so that a fleet enrolled in one hour does not renew
in one; after a failure again with back-off, until it worked: one that has ended can still be replaced by the API key.
"""

from dataclasses import dataclass, replace

from shared.backoff import Backoff

RENEW_AT = 2 / 3
SPREAD = 1 / 12
LONGEST_WAIT_S = 3_600.0
"""The clock may be set meanwhile (a gateway without one starts in 1970), so it is looked at this often."""
_RETRY = Backoff(first_s=60.0, cap_s=3_600.0)


@dataclass(frozen=True, slots=True)
class Life:
    """A certificate's time in epoch seconds, and how often its renewal failed. `chance`: its own draw of [0, 1)."""

    not_before: float
    not_after: float
    chance: float
    failures: int = 0

    @property
    def renew_at(self) -> float:
        """Epoch seconds."""
        return self.not_before + (self.not_after - self.not_before) * (RENEW_AT + SPREAD * self.chance)


def due(life: Life, now: float) -> bool:
    """Whether it is to be renewed now."""
    return now >= life.renew_at


def failed(life: Life) -> Life:
    """The same after a renewal that did not work."""
    return replace(life, failures=life.failures + 1)


def wait_s(life: Life, now: float, random_unit: float) -> float:
    """How long to leave it alone."""
    if life.failures:
        return _RETRY.delay_s(life.failures - 1, random_unit)
    return min(LONGEST_WAIT_S, max(0.0, life.renew_at - now))
