"""Made once, never replaced, mended after a crash between its two files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.registry.pki.ca_files import CaFiles, ensure, load
from shared.config import ConfigError
from shared.errors import Permanent

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def files(tmp_path: Path) -> CaFiles:
    return CaFiles.of(tmp_path / "hub")


def test_it_is_made_once(files: CaFiles) -> None:
    first, made = ensure(files, NOW)
    again, made_again = ensure(files, NOW)
    assert (made, made_again) == (True, False)
    assert again.fingerprint == first.fingerprint == load(files).fingerprint
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert files.certificate.stat().st_mode & 0o777 == 0o644


def test_a_crash_between_the_files_keeps_the_key(files: CaFiles) -> None:
    first, _ = ensure(files, NOW)
    files.certificate.unlink()
    mended, made = ensure(files, NOW)
    assert made
    assert mended.key_pem == first.key_pem


def test_a_certificate_without_its_key_is_never_replaced(files: CaFiles) -> None:
    ensure(files, NOW)
    files.key.unlink()
    before = files.certificate.read_text()
    with pytest.raises(Permanent, match="without"):
        ensure(files, NOW)
    assert files.certificate.read_text() == before


def test_a_key_that_others_may_read_is_refused(files: CaFiles) -> None:
    ensure(files, NOW)
    files.key.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read it"):
        load(files)


def test_files_that_are_none_are_named(files: CaFiles) -> None:
    ensure(files, NOW)
    files.certificate.write_bytes(b"\xff")
    with pytest.raises(Permanent, match="is not PEM"):
        load(files)
    files.certificate.unlink()
    with pytest.raises(Permanent, match="cannot be read"):
        load(files)
