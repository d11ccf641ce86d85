import pytest

from control_plane.registry.enrolment.behind_rules import Found, Word, judge
from control_plane.registry.enrolment.policy import EnrolmentPolicy
from shared.device import Status

OPEN = EnrolmentPolicy(unknown_devices="pending", max_pending_per_gateway=2)


@pytest.mark.parametrize("policy", [OPEN, EnrolmentPolicy()])
@pytest.mark.parametrize(
    ("found", "word"),
    [
        (Found(Status.PENDING, True), Word.PENDING),
        (Found(Status.PROVISIONED, True), Word.KNOWN),
        (Found(Status.ACTIVE, True), Word.KNOWN),
        (Found(Status.QUARANTINED, True), Word.KNOWN),
        (Found(Status.RETIRED, False), Word.REFUSED),
        (Found(Status.RETIRED, True), Word.REFUSED),
        (Found(Status.ACTIVE, False), Word.REFUSED),
        (Found(Status.PENDING, False), Word.REFUSED),
    ],
)
def test_what_is_known_is_answered_whatever_the_policy(policy: EnrolmentPolicy, found: Found, word: Word) -> None:
    assert judge(policy, found, serial_taken=True, pending=9) is word


def test_what_is_unknown() -> None:
    assert judge(OPEN, None, serial_taken=False, pending=1) is None
    assert judge(OPEN, None, serial_taken=False, pending=2) is Word.LATER, "so many wait already"
    assert judge(OPEN, None, serial_taken=True, pending=0) is Word.REFUSED
    assert judge(EnrolmentPolicy(), None, serial_taken=False, pending=0) is Word.LATER
