"""What is answered to a gateway that reports a device which it does not know. PURE."""

from dataclasses import dataclass
from enum import StrEnum

from control_plane.registry.enrolment.policy import EnrolmentPolicy
from shared.device import Status


class Word(StrEnum):
    """What became of a reported device."""

    PENDING = "pending"  # it waits for approval, now or since earlier
    KNOWN = "known"  # it is behind this gateway and approved
    REFUSED = "refused"  # for good: retired, or it belongs elsewhere
    LATER = "later"  # too many wait already, or the policy takes none: ask again


@dataclass(frozen=True, slots=True)
class Found:
    """A device of the reported id. `mine`: it is behind the gateway that reports it."""

    status: Status
    mine: bool


def judge(policy: EnrolmentPolicy, found: Found | None, *, serial_taken: bool, pending: int) -> Word | None:
    """The answer, or None: register it as pending. `pending`: how many wait behind this gateway."""
    if found is not None:
        if not found.mine or found.status is Status.RETIRED:
            return Word.REFUSED
        return Word.PENDING if found.status is Status.PENDING else Word.KNOWN
    if serial_taken:
        return Word.REFUSED
    if policy.unknown_devices != "pending" or pending >= policy.max_pending_per_gateway:
        return Word.LATER
    return None
