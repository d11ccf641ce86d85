"""The policy `credentials`: how old a key may become, and how it is replaced. PURE."""

import hashlib
from datetime import datetime, timedelta
from typing import ClassVar

from control_plane.registry.policy import Policy
from control_plane.registry.problem import FieldError
from shared.device import Status


class CredentialsPolicy(Policy, frozen=True):
    """How keys grow old.

    `max_age_days`: 0 never asks for a rotation. `jitter`: a key falls due in the last part of its age, so that a
    fleet registered on one day does not rotate on one day. `overlap_s`: how long an operator's rotation lets the old
    key live, where it does not say. `grace_s`: how long the old key lives after the new one was seen in use.
    `statuses`: whose keys grow old. `most_per_minute`: how many devices one API process tells a minute that they are
    due, which keeps the broker's time for others.
    """

    NAME: ClassVar[str] = "credentials"

    max_age_days: float = 90.0
    jitter: float = 0.2
    overlap_s: float = 86_400.0
    grace_s: float = 60.0
    statuses: tuple[Status, ...] = (Status.PROVISIONED, Status.ACTIVE)
    most_per_minute: int = 60

    def problems(self) -> list[FieldError]:
        """What breaks its rules."""
        bounds = (
            ("max_age_days", self.max_age_days, 3_650),
            ("jitter", self.jitter, 1),
            ("overlap_s", self.overlap_s, 30 * 86_400),
            ("grace_s", self.grace_s, 86_400),
            ("most_per_minute", self.most_per_minute, 100_000),
        )
        return [
            FieldError(f"/{name}", f"is not between 0 and {most}")
            for name, value, most in bounds
            if not 0 <= value <= most
        ]

    @property
    def overlap(self) -> timedelta:
        """`overlap_s`."""
        return timedelta(seconds=self.overlap_s)

    @property
    def grace(self) -> timedelta:
        """`grace_s`."""
        return timedelta(seconds=self.grace_s)


def due_at(policy: CredentialsPolicy, key_id: str, created_at: datetime, status: Status) -> datetime | None:
    """When this key is to be replaced; None: never. The same for the same key, wherever it is asked."""
    if policy.max_age_days == 0 or status not in policy.statuses:
        return None
    share = int.from_bytes(hashlib.sha256(key_id.encode()).digest()[:4], "big") / 2**32
    return created_at + timedelta(days=policy.max_age_days * (1 - policy.jitter * share))
