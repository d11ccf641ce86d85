"""The policy `broker`: when the hub may restart its broker to bring back records that it lost. PURE.

A hash enters a broker only by its file and a start, and a start closes every connection for a moment: so it is
announced, rare, and somebody's decision.
"""

from enum import StrEnum
from typing import ClassVar

from control_plane.registry.policy import Policy
from control_plane.registry.problem import FieldError

POOR_SHARE = 0.5
"""A broker that holds less than this share of the keys that it should is as good as empty."""


class Restart(StrEnum):
    """When the hub restarts its broker by itself."""

    NEVER = "never"
    WHEN_EMPTY = "when_empty"  # it lost most of its records: nearly nobody can connect anyway
    WHEN_MISSING = "when_missing"  # it lost any record


class BrokerPolicy(Policy, frozen=True, forbid_unknown_fields=True):
    """`announce_s`: from the announcement to the restart. `at_most_every_s`: between two restarts that the hub does
    by itself.
    """

    NAME: ClassVar[str] = "broker"

    restart: Restart = Restart.WHEN_EMPTY
    announce_s: float = 5.0
    at_most_every_s: float = 3_600.0

    def problems(self) -> list[FieldError]:
        """Values beyond their bounds."""
        bounds = {"announce_s": (0, 86_400), "at_most_every_s": (60, 31_536_000)}
        return [
            FieldError(f"/{name}", f"is not between {least} and {most}")
            for name, (least, most) in bounds.items()
            if not least <= getattr(self, name) <= most
        ]


def restart_wanted(policy: BrokerPolicy, *, desired: int, missing: int, since_last_s: float | None) -> bool:
    """Whether the hub restarts its broker now. `since_last_s`: since it last did so by itself; None: never."""
    if missing <= 0 or (since_last_s is not None and since_last_s < policy.at_most_every_s):
        return False
    if policy.restart is Restart.WHEN_MISSING:
        return True
    return policy.restart is Restart.WHEN_EMPTY and desired - missing < POOR_SHARE * desired
