from pathlib import Path

import pytest

from control_plane.registry.enrolment.addresses import Addresses
from shared.errors import Transient
from tests.ca_kit import TestCa


def test_the_first_certificate_of_the_file_is_the_ca(tmp_path: Path) -> None:
    ca, other = TestCa.make(), TestCa.make()
    path = tmp_path / "ca.pem"
    path.write_text(ca.pem + other.pem)
    found = Addresses("mqtts://h", "https://h", path).authority()
    assert (found.sha256, found.pem) == (ca.sha256, ca.pem + other.pem)


@pytest.mark.parametrize("text", [None, "", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Transient, match="HUB_CA_FILE"):
        Addresses("mqtts://h", "https://h", path).authority()
