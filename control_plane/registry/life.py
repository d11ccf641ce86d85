"""A device's life: which moves are legal from which status, as a table. PURE.

    provisioned --first use--> active      pending --approve--> provisioned
    any of the living --quarantine--> quarantined --release--> what it was
    any of the living --suspend--> suspended --resume--> what it was
    any --retire--> retired, which is final; revoke (stolen) retires and ends the keys for good

What a release or resume goes back to is kept with the row; it is `provisioned` or `active`, or `pending`.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.device import Status


class Move(StrEnum):
    """What can be done to a device."""

    APPROVE = "approve"
    USE = "use"  # its key was used for the first time
    QUARANTINE = "quarantine"
    RELEASE = "release"
    SUSPEND = "suspend"
    RESUME = "resume"
    RETIRE = "retire"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Illegal:
    """The move is not open from there."""

    status: Status
    move: Move

    @property
    def detail(self) -> str:
        """In words for whoever asked."""
        if self.status is Status.RETIRED:
            return "the device is retired, which is final; register it anew"
        froms = sorted(status.value for status, move in _TABLE if move is self.move)
        return f"a device that is {self.status} cannot be moved by {self.move}; that is for {', '.join(froms)}"


_LIVING = (Status.PENDING, Status.PROVISIONED, Status.ACTIVE)
_BACK = None
"""Goes back to the status before."""
_TABLE: dict[tuple[Status, Move], Status | None] = {
    (Status.PENDING, Move.APPROVE): Status.PROVISIONED,
    (Status.PROVISIONED, Move.USE): Status.ACTIVE,
    **{(status, Move.QUARANTINE): Status.QUARANTINED for status in _LIVING},
    **{(status, Move.SUSPEND): Status.SUSPENDED for status in (*_LIVING, Status.QUARANTINED)},
    (Status.QUARANTINED, Move.RELEASE): _BACK,
    (Status.SUSPENDED, Move.RESUME): _BACK,
    **{(status, Move.RETIRE): Status.RETIRED for status in Status if status is not Status.RETIRED},
    **{(status, Move.REVOKE): Status.RETIRED for status in Status if status is not Status.RETIRED},
}


def after(status: Status, move: Move, before: Status | None) -> Status | Illegal:
    """The status after the move. `before`: what the device was before it was quarantined or suspended, if it is."""
    if (status, move) not in _TABLE:
        return Illegal(status, move)
    found = _TABLE[status, move]
    return found if found is not None else before or Status.PROVISIONED


def remembered(status: Status, move: Move, before: Status | None) -> Status | None:
    """What to keep as the status before, once the move is made; a quarantined device that is suspended keeps its."""
    if move in (Move.QUARANTINE, Move.SUSPEND):
        return before if status in (Status.QUARANTINED, Status.SUSPENDED) else status
    return None
