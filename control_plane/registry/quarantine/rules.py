"""The policy `quarantine`: which misbehaviour, how much of it and in what time, is taken for a reason. PURE."""

from enum import StrEnum
from typing import ClassVar

import msgspec

from control_plane.registry.policy import Policy
from control_plane.registry.problem import FieldError

LONGEST_WINDOW_S = 3_600
"""So far back the judge looks again when it starts."""
_LONGEST_S = 10 * 365 * 24 * 3_600


class Rule(StrEnum):
    """What is looked for."""

    MALFORMED_RATE = "malformed_rate"  # messages and readings that cannot be read
    IMPOSSIBLE_CLOCK = "impossible_clock"  # readings whose time cannot be
    FLOOD = "flood"  # messages over the limit of a device attached to the hub itself
    FOREIGN_DEVICES = "foreign_devices"  # a gateway's readings for devices that are not its own
    IGNORED_HINT = "ignored_hint"  # batches of a gateway that echoes its flow hint and does not obey it
    FALSE_HEADERS = "false_headers"  # batches with a header that no agent of ours writes, such as a wrong count


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`count` times within `window_s` seconds lead to a quarantine of `for_s` seconds (null: until released)."""

    count: int
    window_s: int
    for_s: int | None = 3_600
    enabled: bool = True


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A threshold for each rule."""

    malformed_rate: Threshold = Threshold(500, 60)
    impossible_clock: Threshold = Threshold(1_000, 600, enabled=False)  # such readings are kept, and mended
    flood: Threshold = Threshold(5_000, 60)
    foreign_devices: Threshold = Threshold(100, 60)
    ignored_hint: Threshold = Threshold(30, 60)
    false_headers: Threshold = Threshold(30, 600)


class QuarantinePolicy(Policy, frozen=True, forbid_unknown_fields=True):
    """`enabled` false: only operators quarantine. `grace_s`: for so long after a release nothing counts."""

    NAME: ClassVar[str] = "quarantine"

    enabled: bool = True
    grace_s: int = 60
    rules: Rules = Rules()

    def threshold(self, rule: Rule) -> Threshold | None:
        """The rule's threshold, or None if it is not looked for."""
        found: Threshold = getattr(self.rules, rule.value)
        return found if self.enabled and found.enabled else None

    def problems(self) -> list[FieldError]:
        """Bounds."""
        found = []
        if not 0 <= self.grace_s <= LONGEST_WINDOW_S:
            found.append(FieldError("/grace_s", f"is not between 0 and {LONGEST_WINDOW_S}"))
        for rule in Rule:
            threshold: Threshold = getattr(self.rules, rule.value)
            place = f"/rules/{rule.value}"
            if not 1 <= threshold.count <= 1_000_000:
                found.append(FieldError(f"{place}/count", "is not between 1 and 1000000"))
            if not 1 <= threshold.window_s <= LONGEST_WINDOW_S:
                found.append(FieldError(f"{place}/window_s", f"is not between 1 and {LONGEST_WINDOW_S}"))
            if threshold.for_s is not None and not 1 <= threshold.for_s <= _LONGEST_S:
                found.append(FieldError(f"{place}/for_s", f"is not between 1 and {_LONGEST_S}"))
        return found
