"""The whole OpenAPI description against a real hub, with valid credentials: whatever fits the description, or nearly
fits it, is answered as described, and never with an error of the server.

Bounded: the same cases each time (no randomness of its own), and no new ones after `BUDGET_S` seconds.
"""

import time
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.stack.conftest import database_url, server_dir, stack
from tests.stack.registry.conftest import Api, api, broker_server, environment

__all__ = ["api", "broker_server", "database_url", "environment", "server_dir", "stack"]  # its fixtures

BUDGET_S = 60.0
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CASES = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 6}
"""How many requests of each kind an operation gets: such as it describes, and such as break the description."""
REPEATABLE = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
ENDS_OTHERS = {"POST /v1/broker:rebuild"}
"""Stops the broker for its restart, and with it all that comes after: its own tests ask it."""


def _ask(operation: Any, mode: GenerationMode, headers: dict[str, str], deadline: float) -> int:
    asked = 0

    @settings(
        max_examples=CASES[mode],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Any) -> None:
        nonlocal asked
        if time.monotonic() > deadline and asked:
            return
        asked += 1
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)

    try:
        each()
    except Unsatisfiable:  # what takes nothing cannot be asked wrongly
        assert mode is GenerationMode.NEGATIVE
    return asked


def test_every_operation_answers_as_described(api: Api) -> None:
    load_all_checks()
    key = api.add("asks-itself").json()["api_key"]
    schema = schemathesis.openapi.from_url(api.env["HUB_API_URL"] + "/openapi.json")
    deadline = time.monotonic() + BUDGET_S
    admin = {"Authorization": api.rest.headers["authorization"]}
    failed: list[str] = []
    asked: dict[str, int] = {}
    for mode in CASES:
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.label in ENDS_OTHERS:
                continue
            own = operation.path.startswith("/v1/self")
            headers = {"Authorization": f"Bearer {key}"} if own else admin
            try:
                asked[operation.label] = asked.get(operation.label, 0) + _ask(operation, mode, headers, deadline)
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - told with all others at the end
                failed.append(f"{operation.label} ({mode.value}): {error}")
    assert not failed, "\n\n".join(failed)
    described = {result.ok().label for result in schema.get_all_operations()}
    assert described - ENDS_OTHERS == {label for label, times in asked.items() if times}
    assert api.events("request_failed") == []
    assert api.is_ready()
