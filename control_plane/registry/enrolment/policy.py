"""What becomes of devices that a gateway hears and the hub does not know. PURE."""

from typing import ClassVar, Literal

from control_plane.registry.policy import Policy
from control_plane.registry.problem import FieldError

MOST_PENDING = 10_000


class EnrolmentPolicy(Policy, frozen=True):
    """`reject`: their readings go to the hub, which refuses and keeps them. `pending`: gateways report them, they are
    registered as pending behind that gateway, and their readings wait there until somebody approves.
    """

    NAME: ClassVar[str] = "enrolment"

    unknown_devices: Literal["reject", "pending"] = "reject"
    max_pending_per_gateway: int = 100

    def problems(self) -> list[FieldError]:
        """What breaks its rules."""
        if 0 <= self.max_pending_per_gateway <= MOST_PENDING:
            return []
        return [FieldError("/max_pending_per_gateway", f"is not between 0 and {MOST_PENDING}")]
