"""Refusals in the form of RFC 9457."""

import json

from control_plane.registry.problem import FieldError, Problem


def test_a_problem_with_its_fields() -> None:
    problem = Problem(422, "/id: no", "invalid", [FieldError("/id", "no")])
    assert json.loads(problem.body()) == {
        "type": "/problems/invalid",
        "title": "Request not valid",
        "status": 422,
        "detail": "/id: no",
        "errors": [{"pointer": "/id", "detail": "no"}],
    }
    assert problem.headers() == {"Content-Type": "application/problem+json"}


def test_one_without_a_kind_is_about_its_status_alone() -> None:
    body = json.loads(Problem(418, "x").body())
    assert (body["type"], body["title"]) == ("about:blank", "Error")
    assert "errors" not in body


def test_headers_that_belong_to_a_status() -> None:
    assert Problem(401, "x").headers()["WWW-Authenticate"] == "Bearer"
    assert int(Problem(503, "x").headers()["Retry-After"]) > 0
