"""`hub ca` as an operator meets it."""

import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from control_plane.__main__ import main
from shared.tls import check_pair


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_ca_and_a_server_of_it(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ca", "init", "--name", "example.org", "--network", "10.0.0.0/8", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["made"]
    assert main(["ca", "init", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == first | {"made": False}
    assert main(["ca", "server", "hub.example.org", "10.1.2.3", "--out", str(tmp_path)]) == 0
    check_pair(tmp_path / "server.crt", tmp_path / "server.key")
    assert (tmp_path / "server.key").stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate((tmp_path / "server.crt").read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((hub / "ca.pem").read_bytes()))
    assert "PRIVATE" not in capsys.readouterr().out
    ssl.create_default_context(cafile=str(hub / "ca.pem"))


def test_what_exists_is_never_replaced(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hub != tmp_path
    main(["ca", "init"])
    main(["ca", "server", "localhost", "--out", str(tmp_path)])
    before = (tmp_path / "server.key").read_text()
    assert main(["ca", "server", "localhost", "--out", str(tmp_path)]) == 1
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "server.key").read_text() == before


@pytest.mark.parametrize("words", [["--network", "10.0.0"], ["--name", "bücher.example"]])
def test_names_that_are_none(hub: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["ca", "init", *words]) == 1
    assert "--name or --network" in capsys.readouterr().err
    assert not (hub / "ca.key").exists()
