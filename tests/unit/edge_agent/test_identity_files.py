import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from edge_agent.identity_files import key_pair, save, signing_request, toml
from shared.errors import Permanent


def test_the_key_pair_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = key_pair(tmp_path)
    path = tmp_path / "identity.key"
    assert path.stat().st_mode & 0o777 == 0o600
    kept = path.read_bytes()
    assert key_pair(tmp_path).public_key() == first.public_key()
    assert path.read_bytes() == kept
    request = x509.load_pem_x509_csr(signing_request(first).encode())
    assert request.is_signature_valid
    assert request.public_key() == first.public_key()


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_pair_that_is_none_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.key").write_text(text)
    with pytest.raises(Permanent, match=r"identity\.key"):
        key_pair(tmp_path)
    assert (tmp_path / "identity.key").read_text() == text


def test_what_is_saved(tmp_path: Path) -> None:
    table = {"agent_id": 'a"b\\', "scoring": True, "unscored": ["n", "é"], "outbox_max_mib": 64}
    (tmp_path / "key.new").write_text("k:old.rotation")
    (tmp_path / "key.asked").write_text("x")
    save(tmp_path, ca_pem="CA", api_key="k:a.b", certificate_pem="CERT", config=table)
    assert tomllib.loads((tmp_path / "agent.toml").read_text()) == table
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"ca.pem": 0o644, "agent.toml": 0o644, "key": 0o600, "identity.pem": 0o600}


def test_toml_of_nothing_is_toml() -> None:
    assert tomllib.loads(toml({})) == {}
