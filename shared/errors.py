"""How things go wrong: bad input is a value, a broken world is one of two exceptions.

`Rejected` is returned, never raised: input that breaks a rule is an ordinary answer.
`Transient` and `Permanent` are raised by shells, which wrap a driver's error once.
A bug of ours is an `AssertionError`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused. The one list of reasons: topic, metrics, CLI and docs use these words."""

    MALFORMED = "malformed"  # not decodable as what its content type says
    TRUNCATED = "truncated"  # a compressed batch that ends early or is damaged
    BOMB = "bomb"  # unpacks to more than a batch may hold
    TOO_LARGE = "too_large"  # over the size limit; only the first bytes were kept
    SCHEMA_VERSION = "schema_version"  # a version that this hub does not know
    MISSING_TS = "missing_ts"  # a reading without ts
    BAD_TS = "bad_ts"  # ts is neither RFC 3339 nor epoch milliseconds of 1970 to 9999
    BAD_FIELD = "bad_field"  # a field's name, type or size breaks the limits
    NOT_FINITE = "not_finite"  # NaN or an infinity where a number belongs
    UNKNOWN_DEVICE = "unknown_device"  # no such device is registered
    UNKNOWN_GATEWAY = "unknown_gateway"  # no such gateway is registered
    FOREIGN_DEVICE = "foreign_device"  # the gateway did not own the device when the reading was accepted
    PENDING = "pending"  # registered, not approved yet
    SUSPENDED = "suspended"  # by an operator, for a while
    RETIRED = "retired"  # out of service for good
    QUARANTINED = "quarantined"  # kept apart for lasting misbehaviour
    THROTTLED = "throttled"  # over the limit of a device that is attached to the hub itself
    PROTOCOL = "protocol"  # a batch header that no agent of ours writes
    UNJUDGED = "unjudged"  # our own fault: judging it failed; replay it once that is mended


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refusal: the reason from the one list, and a sentence for the person who must mend it."""

    reason: Reason
    detail: str


class HubError(Exception):
    """Something outside our code failed. `hint` says what a person can do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}. {self.hint}" if self.hint else message


class Transient(HubError):  # noqa: N818 - the two names are the vocabulary of every shell
    """It may work later: try again with back-off and jitter."""


class Permanent(HubError):  # noqa: N818
    """Trying again changes nothing: a person or another program must act."""
