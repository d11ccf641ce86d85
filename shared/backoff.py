"""The next delay before trying again. PURE: randomness and time are given.

Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015): a delay drawn evenly from zero to
the doubled-and-capped bound, so that a fleet which lost its hub at once does not come back at once.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """A retry policy as a value. `first_s` is the bound of the first delay, `cap_s` of every one."""

    first_s: float = 1.0
    cap_s: float = 300.0
    factor: float = 2.0

    def bound_s(self, attempt: int) -> float:
        """The longest delay, seconds, before try `attempt` (0 is the first retry)."""
        assert attempt >= 0
        # Beyond 64 doublings any cap is reached; the power of a large attempt would overflow.
        return min(self.cap_s, self.first_s * self.factor ** min(attempt, 64))

    def delay_s(self, attempt: int, random_unit: float) -> float:
        """The delay, seconds, for a random number in [0, 1)."""
        return self.bound_s(attempt) * random_unit
