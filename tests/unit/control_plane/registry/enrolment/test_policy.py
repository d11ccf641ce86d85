import pytest

from control_plane.registry.enrolment.policy import EnrolmentPolicy


def test_without_a_word_unknown_devices_are_rejected() -> None:
    assert EnrolmentPolicy.read(b"{}") == EnrolmentPolicy("reject", 100)


@pytest.mark.parametrize("text", [b'{"unknown_devices": "accept"}', b'{"max_pending_per_gateway": -1}', b'{"x": 1}'])
def test_policies_that_make_no_sense(text: bytes) -> None:
    assert isinstance(EnrolmentPolicy.read(text), list)
