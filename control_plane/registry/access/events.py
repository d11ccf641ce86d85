"""What happens at the admin doors, and the metrics that it moves."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter

from shared.events import Event

LOGIN_FAILURES = Counter(
    "hub_login_failures", "Attempts to authenticate that failed, by door, why, and what was answered",
    ["door", "kind", "answer"],
)  # fmt: skip


def login_failed(door: str, kind: str, *, limited: bool) -> None:
    """Counted and not logged one by one: whoever attacks must not fill the disk."""
    LOGIN_FAILURES.labels(door, str(kind), "limited" if limited else "refused").inc()


@dataclass(frozen=True, slots=True)
class LoginsLimited(Event):
    """Somebody fails to authenticate more often than is allowed; `attempts` were refused since this was last said.

    `by`: the budget that is used up, of their address or of the name that they try.
    """

    LEVEL = logging.WARNING
    door: str
    by: str
    source: str
    attempts: int


@dataclass(frozen=True, slots=True)
class TokenCreated(Event):
    """An API token was made."""

    token: str
    role: str
    scopes: list[str]


@dataclass(frozen=True, slots=True)
class TokenRevoked(Event):
    """An API token is refused from now on."""

    token: str


@dataclass(frozen=True, slots=True)
class TokenUsesNotWritten(Event):
    """When tokens were last used could not be written; it is tried again."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class AuditExported(Event):
    """The audit log, or a part of it, was given out whole."""

    rows: int
