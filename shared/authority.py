"""Who may do what: one table for every door (REST, gRPC, console), read row by row by its test. PURE.

An operation is a family and a verb. A token's role must reach the operation's, and where the token is narrowed to
scopes, the operation's family, or the operation itself, must be among them. Devices are no actors here: their own
door (`/v1/self`) knows them by their keys and shows them only what is theirs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Role(IntEnum):
    """Each may do what the ones below it may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


class Operation(StrEnum):
    """All that an actor can ask for."""

    DEVICES_READ = "devices:read"
    DEVICES_WRITE = "devices:write"
    DEVICES_IMPORT = "devices:import"
    DEVICES_EXPORT = "devices:export"
    DEVICES_WHOIS = "devices:whois"
    DEVICES_FORGET = "devices:forget"
    TYPES_READ = "types:read"
    TYPES_WRITE = "types:write"
    GROUPS_READ = "groups:read"
    GROUPS_WRITE = "groups:write"
    CREDENTIALS_READ = "credentials:read"
    CREDENTIALS_ROTATE = "credentials:rotate"
    CREDENTIALS_REVOKE = "credentials:revoke"
    ENROLMENT_READ = "enrolment:read"
    ENROLMENT_WRITE = "enrolment:write"
    QUARANTINE_READ = "quarantine:read"
    QUARANTINE_WRITE = "quarantine:write"
    POLICIES_READ = "policies:read"
    POLICIES_WRITE = "policies:write"
    BROKER_REBUILD = "broker:rebuild"
    AUDIT_READ = "audit:read"
    TOKENS_READ = "tokens:read"
    TOKENS_WRITE = "tokens:write"


RULES: dict[Operation, Role] = {
    Operation.DEVICES_READ: Role.VIEWER,
    Operation.DEVICES_WRITE: Role.OPERATOR,
    Operation.DEVICES_IMPORT: Role.OPERATOR,
    Operation.DEVICES_EXPORT: Role.VIEWER,
    Operation.DEVICES_WHOIS: Role.OPERATOR,
    Operation.DEVICES_FORGET: Role.ADMIN,
    Operation.TYPES_READ: Role.VIEWER,
    Operation.TYPES_WRITE: Role.OPERATOR,
    Operation.GROUPS_READ: Role.VIEWER,
    Operation.GROUPS_WRITE: Role.OPERATOR,
    Operation.CREDENTIALS_READ: Role.VIEWER,
    Operation.CREDENTIALS_ROTATE: Role.OPERATOR,
    Operation.CREDENTIALS_REVOKE: Role.OPERATOR,
    Operation.ENROLMENT_READ: Role.OPERATOR,
    Operation.ENROLMENT_WRITE: Role.OPERATOR,
    Operation.QUARANTINE_READ: Role.VIEWER,
    Operation.QUARANTINE_WRITE: Role.OPERATOR,
    Operation.POLICIES_READ: Role.VIEWER,
    Operation.POLICIES_WRITE: Role.ADMIN,
    Operation.BROKER_REBUILD: Role.ADMIN,
    Operation.AUDIT_READ: Role.ADMIN,
    Operation.TOKENS_READ: Role.ADMIN,
    Operation.TOKENS_WRITE: Role.ADMIN,
}
"""The lowest role that may do it."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody whose token was good. `id` is the token's public half, `source` the address it came from.

    `scopes`: families (`devices`) or operations (`devices:read`) to which the token is narrowed; empty: all of its
    role.
    """

    id: str
    role: Role
    scopes: frozenset[str] = frozenset()
    source: str | None = None


def family(operation: Operation) -> str:
    """The part before the colon."""
    return operation.partition(":")[0]


SCOPES: frozenset[str] = frozenset({operation.value for operation in Operation} | {family(o) for o in Operation})
"""Every scope that a token may be narrowed to."""


def refusal(actor: Actor, operation: Operation) -> str | None:
    """Why the actor may not, in words for them, or None if they may."""
    if actor.role < RULES[operation]:
        return f"this needs the role {RULES[operation].name.lower()}"
    if actor.scopes and operation not in actor.scopes and family(operation) not in actor.scopes:
        return f"this token is narrowed to other scopes than {operation.value}"
    return None


def unknown_scopes(scopes: Collection[str]) -> list[str]:
    """Those that are no scope, sorted."""
    return sorted(set(scopes) - SCOPES)
