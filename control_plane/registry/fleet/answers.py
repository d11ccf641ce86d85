"""How the fleet's refusals are answered: a status and a place for each. PURE."""

from control_plane.registry.fleet import etag
from control_plane.registry.life import Illegal
from control_plane.registry.problem import FieldError, Problem, ProblemRaised
from control_plane.registry.registration import Refusal, Refused

_STATUS = {
    Refusal.ID_TAKEN: 409,
    Refusal.SERIAL_TAKEN: 409,
    Refusal.IDEMPOTENCY_KEY_REUSED: 422,
    Refusal.GATEWAY_UNKNOWN: 422,
    Refusal.GATEWAY_BEHIND_GATEWAY: 422,
    Refusal.TOO_MANY_LABELS: 422,
}
_POINTER = {
    Refusal.ID_TAKEN: "/id",
    Refusal.SERIAL_TAKEN: "/serial",
    Refusal.GATEWAY_UNKNOWN: "/gateway_id",
    Refusal.GATEWAY_BEHIND_GATEWAY: "/gateway_id",
    Refusal.TOO_MANY_LABELS: "/labels",
}


def refused(refusal: Refused) -> ProblemRaised:
    """The answer to a registration or an assignment that broke a rule."""
    pointer = _POINTER.get(refusal.why)
    errors = [FieldError(pointer, refusal.detail)] if pointer else []
    return ProblemRaised(Problem(_STATUS[refusal.why], refusal.detail, refusal.why, errors))


def no_device() -> ProblemRaised:
    """404."""
    return ProblemRaised(Problem(404, "there is no such device", "not-found"))


def no_group() -> ProblemRaised:
    """404."""
    return ProblemRaised(Problem(404, "there is no such group", "not-found"))


def illegal(why: Illegal) -> ProblemRaised:
    """409: a move that the device's life does not know from where it is."""
    return ProblemRaised(Problem(409, why.detail, "illegal-move"))


def needs_if_match() -> ProblemRaised:
    """428."""
    return ProblemRaised(Problem(428, "send If-Match with the ETag of what you saw", "if-match-needed"))


def changed_meanwhile(version: int) -> ProblemRaised:
    """412, with the present ETag."""
    problem = Problem(412, "it was changed since you saw it; look again and repeat your change", "stale")
    return ProblemRaised(problem, {"ETag": etag.versioned(version)})
