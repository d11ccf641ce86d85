"""The pseudonyms' key from its file."""

from pathlib import Path

import pytest

from control_plane.analytics.pseudonym_key import read_pseudonym_key
from shared.config import ConfigError


def key_file(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_the_file_named_or_the_usual_one(tmp_path: Path) -> None:
    key_file(tmp_path / "pseudonym.key", "01" * 32 + "\n")
    other = key_file(tmp_path / "other", "02" * 32)
    assert read_pseudonym_key(tmp_path, None) == b"\x01" * 32
    assert read_pseudonym_key(tmp_path, other) == b"\x02" * 32


@pytest.mark.parametrize("text", ["01" * 31, "zz" * 32, "01" * 33])
def test_what_is_no_key_is_said_without_saying_it(tmp_path: Path, text: str) -> None:
    path = key_file(tmp_path / "key", text)
    with pytest.raises(ConfigError) as caught:
        read_pseudonym_key(tmp_path, path)
    assert text not in str(caught.value)


def test_others_may_not_read_it(tmp_path: Path) -> None:
    path = key_file(tmp_path / "key", "01" * 32)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others"):
        read_pseudonym_key(tmp_path, path)
