"""The one table of rights, row by row."""

import pytest

from shared.authority import RULES, SCOPES, Actor, Operation, Role, family, refusal, unknown_scopes

OPERATORS_AND_ABOVE = {
    *("devices:write", "devices:import", "devices:whois", "types:write", "groups:write"),
    *("credentials:rotate", "credentials:revoke", "enrolment:read", "enrolment:write", "quarantine:write"),
}
ADMINS_ONLY = {"broker:rebuild", "devices:forget", "policies:write", "audit:read", "tokens:read", "tokens:write"}


@pytest.mark.parametrize("operation", sorted(Operation))
@pytest.mark.parametrize("role", sorted(Role))
def test_each_row(operation: Operation, role: Role) -> None:
    least = (
        Role.ADMIN if operation in ADMINS_ONLY else Role.OPERATOR if operation in OPERATORS_AND_ABOVE else Role.VIEWER
    )
    assert (refusal(Actor("t", role), operation) is None) == (role >= least)


def test_every_operation_has_a_rule() -> None:
    assert set(RULES) == set(Operation)


@pytest.mark.parametrize("operation", sorted(Operation))
def test_a_scope_narrows_and_never_widens(operation: Operation) -> None:
    other = "types" if family(operation) != "types" else "groups"
    assert refusal(Actor("t", Role.ADMIN, frozenset({family(operation)})), operation) is None
    assert refusal(Actor("t", Role.ADMIN, frozenset({operation.value})), operation) is None
    assert "narrowed" in str(refusal(Actor("t", Role.ADMIN, frozenset({other})), operation))
    wide = Actor("t", Role.VIEWER, frozenset(SCOPES))
    assert (refusal(wide, operation) is None) == (RULES[operation] is Role.VIEWER)


def test_scopes_that_are_none() -> None:
    assert unknown_scopes(["devices", "devices:read", "devices:fly", "x"]) == ["devices:fly", "x"]
