"""Certificates of the local stack: made when missing, kept while good.

TLS itself: tests/stack/registry/pki/test_certificates.py.
"""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy.stack import tls
from deploy.stack.host import Account

ME = Account(os.getuid(), os.getgid(), ())


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    hub, home = tmp_path / "hub", tmp_path / "mosquitto"
    home.mkdir()
    tls.prepare_broker(hub, home, ME)
    return hub, home


def test_the_broker_finds_all_that_its_listeners_read(folders: tuple[Path, Path]) -> None:
    hub, home = folders
    assert {path.name for path in home.iterdir()} == {"ca.pem", "crl.pem", "server.crt", "server.key"}
    assert (home / "server.key").stat().st_mode & 0o777 == 0o600
    assert (hub / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (home / "ca.pem").read_text() == (hub / "ca.pem").read_text()
    certificate = x509.load_pem_x509_certificate((home / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_nothing_good_is_made_anew_and_the_revoked_stay(folders: tuple[Path, Path]) -> None:
    hub, home = folders
    (home / "crl.pem").write_text("the registry's")
    before = {path: path.read_text() for path in home.iterdir()}
    tls.prepare_broker(hub, home, ME)
    assert {path: path.read_text() for path in home.iterdir()} == before


@pytest.mark.parametrize("why", ["near its end", "of another CA", "garbage", "no key"])
def test_what_is_not_good_any_more_is_made_anew(folders: tuple[Path, Path], tmp_path: Path, why: str) -> None:
    hub, home = folders
    certificate = home / "server.crt"
    match why:
        case "near its end":
            authority = tls.authority_of(hub)
            short = authority.issue_server(tls.NAMES, tls._now(), tls.RENEW_BEFORE - timedelta(days=1))
            certificate.write_text(short.certificate)
        case "of another CA":
            certificate.write_text(
                tls.authority_of(tmp_path / "other").issue_server(tls.NAMES, tls._now()).certificate
            )
        case "garbage":
            certificate.write_text("x")
        case "no key":
            (home / "server.key").unlink()
    before = certificate.read_text()
    tls.prepare_broker(hub, home, ME)
    assert certificate.read_text() != before
    assert (home / "server.key").exists()


def test_rest_has_a_pair_of_its_own(tmp_path: Path) -> None:
    tls.prepare_api(tmp_path / "hub")
    assert (tmp_path / "hub" / "api.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "hub" / "api.crt").exists()
