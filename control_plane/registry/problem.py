"""Problem details (RFC 9457): one form for every refusal of the REST API. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request took too long",
    409: "Conflict",
    410: "Gone",
    412: "Changed in between",
    413: "Request too large",
    415: "Media type not supported",
    422: "Request not valid",
    428: "Precondition needed",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available now",
}
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong at one place of the request. `pointer` is a JSON pointer, or `?name` for a query parameter."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal. `kind` names it for programs; it is the last part of the problem's `type`."""

    status: int
    detail: str
    kind: str = ""
    errors: Sequence[FieldError] = ()
    retry_after_s: int | None = None

    def body(self) -> bytes:
        """The JSON document, as it is sent."""
        return msgspec.json.encode(self.document())

    def document(self) -> dict[str, object]:
        """What is said."""
        document: dict[str, object] = {
            "type": f"/problems/{self.kind}" if self.kind else "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in self.errors]
        return document

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        found = {"Content-Type": MEDIA_TYPE}
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if self.retry_after_s is not None or self.status in (429, 503):
            found["Retry-After"] = str(self.retry_after_s or RETRY_AFTER_S)
        return found


class ProblemRaised(Exception):  # noqa: N818 - it carries the answer, it is not an error of ours
    """Leaves a route with a refusal."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = dict(headers or {})
